"""Scans in KITTI's layout: a folder per sequence, a file per scan."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.formats import read_header
from rangeseg.datasets.formats.files import reason
from rangeseg.datasets.label_files import (
    check_label_file,
    read_labels,
    whole_labels,
    written_label_type,
)
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.pose_files import read_sequence_poses, read_times
from rangeseg.datasets.scan_files import PointFile, ignore_empty, measured, read_points
from rangeseg.datasets.split_files import scan_id_of
from rangeseg.errors import DataError, unknown_name


class FileSource(ScanSource):
    """Scans of which each has a file of points and perhaps one of labels.

    A subclass says where they are, and by its ``layout`` what they hold.
    """

    layout = Layout()

    @abstractmethod
    def paths(self, scan_id: str) -> tuple[Path, Path | None]:
        """The point file and the label file of a scan; None where labels are not published.

        Raises:
            DataError: no such scan.
        """

    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Check a scan's files by their headers and sizes alone; see ``ScanSource``."""
        points_path, _ = self.paths(scan_id)
        with self._root_first():
            header = read_header(points_path, self.layout)
        if with_labels and (field := self.layout.fields.get("label")) is not None:
            _check_field(field, header.names, points_path)
        elif with_labels:
            label_path = self._label_path(scan_id)
            check_label_file(label_path, points_path, header.points, self.layout)
        return header.points

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; see ``ScanSource``. A beam beyond the sensor's is a fault too."""
        points_path, layout = self.paths(scan_id)[0], self.layout
        with self._root_first():
            file = read_points(points_path, layout, self._world_pose(scan_id))
        points = measured(file.points, layout.intensity_max)
        ring, labels = self._ring(file, points_path), None
        if with_labels:
            raw_labels, path = self._raw_labels(scan_id, file)
            labels = self.info.label_map.to_train(raw_labels, where=str(path))
            ignore_empty(points, labels)
        return Scan(scan_id, points, labels, ring)

    def read_raw_labels(self, scan_id: str) -> np.ndarray:
        """The raw labels (N,) of a scan, as ``LabelMap`` takes them.

        Raises:
            DataError: see ``read_scan``.
        """
        with self._root_first():
            file = read_points(self.paths(scan_id)[0], self.layout, self._world_pose(scan_id))
        return self._raw_labels(scan_id, file)[0]

    def _raw_labels(self, scan_id: str, file: PointFile) -> tuple[np.ndarray, Path]:
        """The raw labels (N,), of the label file or of a field of the point file, and the path."""
        points_path, field = self.paths(scan_id)[0], self.layout.fields.get("label")
        if field is None:
            path = self._label_path(scan_id)
            return read_labels(path, points_path, len(file.points), self.layout), path
        _check_field(field, file.fields, points_path)
        values = file.fields[field]
        return whole_labels(values, self.layout.label_type, points_path), points_path

    def _world_pose(self, scan_id: str) -> np.ndarray | None:
        """The sensor's pose (4,4) in the frame of the points; None: they are in the sensor's."""
        return None

    def _label_path(self, scan_id: str) -> Path:
        path = self.paths(scan_id)[1]
        if path is None:
            raise DataError(
                f"the labels of scan {scan_id} are not published: predict it, but do not train or "
                "evaluate on it",
                kind="missing",
            )
        return path

    def _ring(self, file: PointFile, path: Path) -> np.ndarray | None:
        """The beam (N,) int32, 0 the highest; None unless it is stated or the rows need it."""
        layout, sensor = self.layout, self.info.sensor
        stated = layout.ring_column is not None or "ring" in layout.fields
        if "ring" not in file.roles or not (stated or sensor.row_rule == "ring"):
            return None
        name, beams = file.roles["ring"], sensor.beams
        ring = file.fields[name]
        ring = np.where(np.isfinite(ring), ring, 0)  # of a lost echo nothing may be a number
        if ring.min() < 0 or ring.max() >= beams or (np.floor(ring) != ring).any():
            column = name.startswith("column_")
            where = name.replace("_", " ") if column else f"field '{name}'"
            raise DataError(
                f"{path} holds {ring.min():g} to {ring.max():g} in {where}, "
                f"where whole numbers from 0 to {beams - 1} should name the beams of sensor "
                f"{sensor.name}: check that the scan is of this sensor (data set "
                "'custom': layout.ring_column or layout.fields.ring, and sensor.beams)"
            )
        numbers = ring.astype(np.int32)
        return numbers if layout.ring_zero == "highest" else beams - 1 - numbers

    @contextmanager
    def _root_first(self) -> Iterator[None]:
        """A file may be missing because the whole root is wrong: then say that."""
        try:
            yield
        except DataError as error:
            if error.kind == "missing":
                self.check_root()
            raise


class SequenceFolder(FileSource):
    """Scans in KITTI's layout, ids like ``08/000123``.

    ``root/sequences/SS/velodyne/FFFFFF.bin`` holds x, y, z, intensity as float32;
    ``root/sequences/SS/labels/FFFFFF.label`` one integer per point. A subclass sets ``info`` and
    ``SPLITS``, and its own ``layout`` where it differs.
    """

    SPLITS: ClassVar[Mapping[str, tuple[str, ...]]]
    CAMERA_POSES: ClassVar[bool] = False
    """Whether ``poses.txt`` must be of the camera, as KITTI's are."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.SPLITS)

    def sequences(self, split: str) -> tuple[str, ...]:
        """The sequences of a split, sorted; see ``ScanSource``."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return tuple(sorted(self.SPLITS[split]))

    @property
    def sequences_root(self) -> Path:
        """The folder that holds those of the sequences."""
        return self.root / self.layout.sequences_folder

    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of all scans of one sequence, in the order of the numbers or times in their names.

        Raises:
            DataError: the root is wrong, the sequence is missing or empty, or a file has a name
                that no labelled list can hold.
        """
        suffix = self.layout.points_suffix
        folder = self.sequences_root / sequence / self.layout.points_folder
        try:
            frames = _frames(folder, suffix)
        except OSError as error:
            self.check_root()
            present = sorted(p.name for p in self.sequences_root.iterdir() if p.is_dir())
            raise DataError(
                f"sequence {sequence} is missing: {folder} {reason(error)}; "
                f"present: {', '.join(present) or 'none'}: download the sequence or copy it there",
                kind="missing",
            ) from None
        if not frames:
            raise DataError(
                f"sequence {sequence} is empty: no {suffix} in {folder}: copy it again",
                kind="missing",
            )
        scan_ids = [f"{sequence}/{frame}" for frame in frames]
        # Such a list is written when a run begins and read when it is resumed or evaluated.
        unlisted = [scan_id for scan_id in scan_ids if scan_id_of(scan_id) != scan_id]
        if unlisted:
            name = unlisted[0].partition("/")[2] + suffix
            raise DataError(
                f"sequence {sequence}: {len(unlisted)} of {len(frames)} files in {folder} have a "
                f"name that labelled lists cannot hold, the first is {name!r}: rename them, and "
                "their label files: no '#', '\\' or control characters, no blank at an end, and no "
                f".bin, .label or .npy before the suffix {suffix}"
            )
        return scan_ids

    def paths(self, scan_id: str) -> tuple[Path, Path]:
        """The point file and the label file of a scan; neither need exist.

        Raises:
            DataError: the id is not of the form ``SEQ/FRAME``.
        """
        sequence, _, frame = scan_id.partition("/")
        if not sequence or not frame or "/" in frame:
            raise DataError(f"'{scan_id}' is not a scan id: write SEQ/FRAME, e.g. 08/000123")
        folder, layout = self.sequences_root / sequence, self.layout
        return (
            folder / layout.points_folder / f"{frame}{layout.points_suffix}",
            folder / layout.labels_folder / f"{frame}{layout.labels_suffix}",
        )

    def has_labels(self, scan_id: str) -> bool:
        """Whether there is a label file for a scan, sound or not, or a link to one that is lost.

        Where labels are a field of the point files: whether this file has it.
        """
        points_path, label_path = self.paths(scan_id)
        if (field := self.layout.fields.get("label")) is None:
            return os.path.lexists(label_path)
        try:
            return field in read_header(points_path, self.layout).names
        except DataError:
            return True  # reading it will tell what is wrong

    def labels_without_scan(self, sequence: str) -> list[str]:
        """Ids that a sequence has label files of, but no points."""
        folder = self.paths(f"{sequence}/any")[1].parent
        if "label" in self.layout.fields:
            return []
        try:
            frames = _frames(folder, self.layout.labels_suffix)
        except OSError:
            return []  # no labels at all
        present = set(self.sequence_ids(sequence))
        return [i for frame in frames if (i := f"{sequence}/{frame}") not in present]

    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The LiDAR's pose in each scan, of ``poses.txt`` and ``calib.txt``; see ``ScanSource``.

        Where the layout turns the points, it turns the poses with them.
        """
        poses = self._file_poses(sequence)
        if not self.layout.turns:
            return poses
        turn = np.eye(4)
        turn[:3, :3] = self.layout.rotation()
        return {scan_id: turn @ pose @ turn.T for scan_id, pose in poses.items()}

    def _file_poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The poses of a sequence for the points as the files have them."""
        folder = self.sequences_root / sequence
        return read_sequence_poses(folder, self.sequence_ids(sequence), self.CAMERA_POSES)

    @cached_property
    def _known_poses(self) -> dict[str, dict[str, np.ndarray]]:
        """The poses of each sequence that scans were read of."""
        return {}

    def _world_pose(self, scan_id: str) -> np.ndarray | None:
        """The sensor's pose (4,4), by which points in the world's frame come back to it."""
        if self.layout.frame == "sensor":
            return None
        sequence = scan_id.partition("/")[0]
        if sequence not in self._known_poses:
            self._known_poses[sequence] = self._file_poses(sequence)
        pose = self._known_poses[sequence].get(scan_id)
        if pose is None or not np.isfinite(pose).all():
            raise DataError(
                f"scan {scan_id} has no pose in {self.sequences_root / sequence}, which "
                "layout.frame=world needs to take its points back to the sensor: complete the "
                "file of poses, or remove the scan"
            )
        return pose

    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan, of ``times.txt`` or of the names; see ``ScanSource``."""
        return read_times(self.sequences_root / sequence, self.sequence_ids(sequence))

    def label_file(self, scan_id: str) -> str:
        """``sequences/SS/labels/FFFFFF.label``."""
        path = self.paths(scan_id)[1].relative_to(self.root)
        return (path.parent / self._raw_name(scan_id)).as_posix()

    def prediction_file(self, scan_id: str, split: str) -> str:
        """``sequences/SS/predictions/FFFFFF.label``, as SemanticKITTI's benchmark expects it."""
        sequence = PurePosixPath(self.layout.sequences_folder, scan_id.partition("/")[0])
        return (sequence / "predictions" / self._raw_name(scan_id)).as_posix()

    def _raw_name(self, scan_id: str) -> str:
        """The name of a file of raw labels, which ``.npy`` files are not."""
        suffix = self.layout.labels_suffix
        return scan_id.partition("/")[2] + (".label" if suffix.endswith(".npy") else suffix)

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) of a whole type that holds those of the labels; see ``LabelMap.to_raw``."""
        return self.info.label_map.to_raw(labels).astype(written_label_type(self.layout))

    def check_root(self) -> None:
        """Check that the root is the folder of the sequences, or that above ``sequences/``.

        Raises:
            DataError: it is not; the message names the root that was probably meant.
        """
        layout, name = self.layout, PurePosixPath(self.layout.sequences_folder).as_posix()
        below = PurePosixPath(name, "00", layout.points_folder, f"000000{layout.points_suffix}")
        expected = f"expected ROOT/{below}"
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder: {expected}")
        if self.sequences_root.is_dir():
            return
        resolved = self.root.resolve()
        for parent in resolved.parents[:3]:
            if resolved.relative_to(parent).parts[0] == name:
                raise DataError(
                    f"{self.root} is inside the folder {name}/: {expected}: "
                    f"give {parent} as the root"
                )
        found = sorted(p.name for p in self.root.iterdir())
        # The official archives unpack to dataset/sequences.
        roots = [str(self.root / n) for n in found if (self.root / n / name).is_dir()]
        if roots:
            raise DataError(
                f"{self.root} has no folder {name}/ but folders below it have one: {expected}: "
                f"give {' or '.join(roots[:3])} as the root"
            )
        raise DataError(
            f"{self.root} has no folder {name}/ "
            f"(found: {', '.join(found[:5]) or 'nothing'}): {expected}"
        )


def _check_field(field: str, names: Container[str], path: Path) -> None:
    if field not in names:
        raise DataError(
            f"{path} has no field '{field}', which layout.fields.label names: leave the scan out "
            "of the labelled list, or correct the name",
            kind="missing",
        )


def _frames(folder: Path, suffix: str) -> list[str]:
    """Names, without suffix, of the files that end with it; 9 comes before 10."""
    # Not dot files: macOS leaves ._000000.bin beside every copied file.
    names = (n for n in os.listdir(folder) if n.endswith(suffix) and not n.startswith("."))
    return sorted((name[: -len(suffix)] for name in names), key=in_order)


def in_order(frame: str) -> tuple[list[str | Decimal], str]:
    """What frames are sorted by: their words and numbers in turn; .15 comes before .2."""
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", frame)
    return [Decimal(part) if i % 2 else part for i, part in enumerate(parts)], frame
