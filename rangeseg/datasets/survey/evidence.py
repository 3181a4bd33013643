"""Collect evidence from the first scans of a data set, for the verdicts."""

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

_HEAD_BYTES = 1 << 18  # bytes of a raw file, enough to detect the number type


@dataclass(frozen=True)
class Evidence:
    """Evidence from one scan.

    Attributes:
        scan_id: id of the scan.
        points: (N,4) float32 as the data set reads them; empty if unreadable.
        layout: stated layout of the files.
        file_name: name of the point file, for messages.
        head: the first bytes of a raw point file; empty for other formats.
        coordinates: (N,3) float64 in metres, in the file's frame and axes; only if most points have
            no usable position.
        has_intensity: whether the file holds intensities.
        label_name: name of the label file, for messages.
        label_bytes: content of a raw label file; None without one.
        known_ids: raw ids defined by the data set; None if not yet stated.
        labelled: (N,) bool: points with a class; None if labels are missing or unsound.
        classes: train ids of labelled points.
        beams: number of beams, if known.
        view_deg: stated horizontal field of view.
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
        """Directions of all points, for the level sensor."""
        return find_directions(self.xyz)

    @cached_property
    def own_directions(self) -> Directions:
        """Directions of all points in the sensor's own axes, with its stated tilt."""
        own = own_axes(self.xyz, self.layout)
        return self.directions if own is self.xyz else find_directions(own)

    @cached_property
    def sample(self) -> Directions:
        """A part of ``own_directions`` with neighbours kept together."""
        return thinned(self.own_directions)

    @cached_property
    def single(self) -> Directions:
        """``sample`` with one return for each direction."""
        return nearest_of_each_direction(self.sample)

    @cached_property
    def returns(self) -> float:
        """Points per direction."""
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
    """Turn points (N,3) of a level sensor to the axes of its beams.

    These are the sensor's own axes, with the stated tilt, or the level axes if a driver had already
    levelled the points.
    """
    if not (layout.roll_deg or layout.pitch_deg):
        return xyz
    tilt = Layout(roll_deg=layout.roll_deg, pitch_deg=layout.pitch_deg).rotation()
    own: np.ndarray = xyz @ tilt
    sharp = [beam_likeness(thinned(find_directions(each))) or 0.0 for each in (own, xyz)]
    return own if sharp[0] >= sharp[1] else xyz


def gather_evidence(source: ScanSource, scan_id: str, sensor: bool, labels: bool) -> Evidence:
    """Read one scan and the further evidence in its files.

    Args:
        source: the data set; a packed one gives only points and labels.
        scan_id: id of the scan.
        sensor: whether the data set's sensor is real, not a placeholder.
        labels: whether its classes are real, not placeholders.

    Returns:
        The readable evidence. A fault in a file is no verdict; reading the scan reports it.
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
    """Add evidence from a scan's files."""
    points_path, label_path = source.paths(found.scan_id)
    layout = source.layout
    found = replace(found, layout=layout, file_name=points_path.name)
    try:
        if file_format(points_path) == "raw":
            with points_path.open("rb") as file:
                found = replace(found, head=file.read(_HEAD_BYTES))
        roles = roles_of(read_header(points_path, layout).names, layout)
        found = replace(found, has_intensity="intensity" in roles)
        if 2 * len(found.xyz) < len(found.points):  # far points lost their position
            found = replace(found, coordinates=_coordinates(points_path, layout, roles))
    except (DataError, OSError):
        pass  # reading the scan reports it
    if label_path is not None and source.has_labels(found.scan_id):
        found = replace(found, label_name=label_path.name, label_bytes=_raw_bytes(label_path))
    return found


def _coordinates(path: Path, layout: Layout, roles: Mapping[Role, str]) -> np.ndarray:
    """The file's x, y and z, (N,3) float64, in metres."""
    fields = read_fields(path, layout)
    axes: tuple[Role, ...] = ("x", "y", "z")
    with np.errstate(all="ignore"):  # invalid coordinates
        xyz = np.stack([fields[roles[axis]].astype(np.float64) for axis in axes], axis=1)
        return xyz * layout.scale


def _raw_bytes(path: Path) -> bytes | None:
    """The content of a raw file; None for another or unreadable one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return None if content.startswith(b"\x93NUMPY") else content
