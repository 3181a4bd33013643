"""What the first scans of a data set show, before anybody judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.formats import file_format, read_fields, read_header, roles_of
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout, Role
from rangeseg.datasets.survey.directions import (
    Directions,
    Step,
    azimuth_differences,
    beam_likeness,
    crowded_share,
    find_directions,
    find_step,
    hidden_share,
    nearest_of_each_direction,
    thinned,
)
from rangeseg.datasets.survey.ground import Plane, Side, find_planes
from rangeseg.errors import DataError

_HEAD_BYTES = 1 << 18  # of a raw file: enough numbers to see their type


@dataclass(frozen=True)
class Evidence:
    """What one scan shows.

    Attributes:
        scan_id: which scan.
        points: (N,4) float32 as the data set reads them; none where it cannot.
        layout: what the files are said to hold.
        file_name: of the points, for messages.
        head: the first bytes of a raw file of points; none of another format.
        coordinates: (N,3) float64 in metres, in the file's frame and axes; only of a scan of which
            most points have no position that can be used.
        has_intensity: whether the file holds one.
        label_name: of the label file, for messages.
        label_bytes: of a raw label file; None where there is none.
        known_ids: the raw ids that the data set defines; None where nobody has said yet.
        labelled: (N,) bool: points with a class; None if there are no labels or they are unsound.
        classes: train ids of the labelled points.
        beams: of the sensor, if known.
        view_deg: the horizontal field of view that the sensor is said to have.
    """

    scan_id: str
    points: np.ndarray
    layout: Layout = field(default_factory=Layout)
    file_name: str = ""
    head: bytes = b""
    coordinates: np.ndarray | None = None
    has_intensity: bool = True
    label_name: str = ""
    label_bytes: bytes | None = None
    known_ids: frozenset[int] | None = None
    labelled: np.ndarray | None = None
    classes: frozenset[int] = frozenset()
    beams: int | None = None
    view_deg: float = 360.0

    @cached_property
    def xyz(self) -> np.ndarray:
        """(M,3) float32: points with a position, in metres."""
        xyz = self.points[:, :3]
        known: np.ndarray = np.isfinite(xyz).all(axis=1) & (xyz != 0).any(axis=1)
        return xyz if known.all() else xyz[known]

    @cached_property
    def directions(self) -> Directions:
        """Of all points, as the level sensor sees them."""
        return find_directions(self.xyz)

    @cached_property
    def own_directions(self) -> Directions:
        """Of all points in the sensor's own axes: a tilt that is stated is not taken out."""
        own = own_axes(self.xyz, self.layout)
        return self.directions if own is self.xyz else find_directions(own)

    @cached_property
    def sample(self) -> Directions:
        """A part of ``own_directions`` in which neighbours are together."""
        return thinned(self.own_directions)

    @cached_property
    def single(self) -> Directions:
        """``sample`` with one return for each direction."""
        return nearest_of_each_direction(self.sample)

    @cached_property
    def returns(self) -> float:
        """Points for each direction."""
        return len(self.sample.depth) / max(len(self.single.depth), 1)

    @cached_property
    def hidden(self) -> float:
        """See ``hidden_share``."""
        return hidden_share(self.single)

    @cached_property
    def step(self) -> Step:
        """See ``find_step``."""
        return find_step(azimuth_differences(self.sample))

    @cached_property
    def crowded(self) -> float:
        """See ``crowded_share``."""
        return crowded_share(self.single, self.step)

    @cached_property
    def likeness(self) -> float | None:
        """See ``beam_likeness``."""
        return beam_likeness(self.sample)

    @cached_property
    def planes(self) -> Mapping[Side, Plane]:
        """See ``find_planes``."""
        return find_planes(self.xyz)


def own_axes(xyz: np.ndarray, layout: Layout) -> np.ndarray:
    """Points (N,3) of a level sensor in the axes in which its beams are seen.

    Those are the sensor's own: a tilt that is stated is put back. Where a driver had turned level
    points by it, they are the level ones.
    """
    if not (layout.roll_deg or layout.pitch_deg):
        return xyz
    tilt = Layout(roll_deg=layout.roll_deg, pitch_deg=layout.pitch_deg).rotation()
    own: np.ndarray = xyz @ tilt
    sharp = [beam_likeness(thinned(find_directions(each))) or 0.0 for each in (own, xyz)]
    return own if sharp[0] >= sharp[1] else xyz


def gather_evidence(source: ScanSource, scan_id: str, sensor: bool, labels: bool) -> Evidence:
    """Read one scan and all that its files show beside it.

    Args:
        source: the data set; of one that is packed only points and labels are known.
        scan_id: which scan.
        sensor: whether the data set's sensor is its own, and no placeholder.
        labels: the same of its classes.

    Returns:
        What could be read: a fault in a file is no verdict, and reported where scans are read.
    """
    scan = _read(source, scan_id, with_labels=labels and source.has_labels(scan_id))
    points = np.empty((0, 4), np.float32) if scan is None else scan.points
    found = Evidence(scan_id, points)
    info = source.info
    if sensor:
        found = replace(found, beams=info.sensor.beams, view_deg=info.sensor.view_deg)
    if labels:
        found = replace(found, known_ids=frozenset(info.label_map.raw_to_train))
    if scan is not None and scan.labels is not None:
        labelled = scan.labels != IGNORE
        classes = frozenset(np.unique(scan.labels[labelled]).tolist())
        found = replace(found, labelled=labelled, classes=classes)
    return _with_files(found, source) if isinstance(source, FileSource) else found


def _read(source: ScanSource, scan_id: str, with_labels: bool) -> Scan | None:
    """A scan, without its labels if they are unsound; None if its points are."""
    try:
        return source.read_scan(scan_id, with_labels)
    except DataError:
        return _read(source, scan_id, False) if with_labels else None


def _with_files(found: Evidence, source: FileSource) -> Evidence:
    """Add what the files of a scan hold."""
    points_path, label_path = source.paths(found.scan_id)
    layout = source.layout
    found = replace(found, layout=layout, file_name=points_path.name)
    try:
        if file_format(points_path) == "raw":
            with points_path.open("rb") as file:
                found = replace(found, head=file.read(_HEAD_BYTES))
        roles = roles_of(read_header(points_path, layout).names, layout)
        found = replace(found, has_intensity="intensity" in roles)
        if 2 * len(found.xyz) < len(found.points):  # what is far away was made no position
            found = replace(found, coordinates=_coordinates(points_path, layout, roles))
    except (DataError, OSError):
        pass  # whoever reads the scan reports it
    if label_path is not None and source.has_labels(found.scan_id):
        found = replace(found, label_name=label_path.name, label_bytes=_raw_bytes(label_path))
    return found


def _coordinates(path: Path, layout: Layout, roles: Mapping[Role, str]) -> np.ndarray:
    """What a file holds for x, y and z, (N,3) float64, in metres."""
    fields = read_fields(path, layout)
    axes: tuple[Role, ...] = ("x", "y", "z")
    with np.errstate(all="ignore"):  # of what is no coordinate
        xyz = np.stack([fields[roles[axis]].astype(np.float64) for axis in axes], axis=1)
        return xyz * layout.scale


def _raw_bytes(path: Path) -> bytes | None:
    """The content of a raw file; None of another one, or if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return None if content.startswith(b"\x93NUMPY") else content
