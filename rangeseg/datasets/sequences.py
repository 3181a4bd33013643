"""Scans in KITTI's layout: a folder per sequence, a file per scan."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.pose_files import read_sequence_poses, read_times
from rangeseg.datasets.scan_files import (
    LabelType,
    check_label_file,
    count_points,
    measured,
    read_points,
    read_train_labels,
    reason,
)
from rangeseg.datasets.split_files import scan_id_of
from rangeseg.errors import DataError, unknown_name
from rangeseg.settings import Settings


class Layout(Settings):
    """Where the files of a sequence lie and what they hold."""

    points_folder: str = "velodyne"
    points_suffix: str = Field(default=".bin", min_length=1)  # raw float32; .npy: any float
    columns: int = Field(default=4, ge=4)  # values per point: x, y, z, intensity, and more
    intensity_max: float = Field(default=1.0, gt=0)  # what the files write for the brightest echo
    ring_column: int | None = None  # counted from 0; the beam of each point
    ring_zero: Literal["highest", "lowest"] = "highest"  # which beam the files call 0
    labels_folder: str = "labels"
    labels_suffix: str = Field(default=".label", min_length=1)
    label_type: LabelType = "uint32"  # of uint32 the class is in the lower half

    @field_validator("ring_column")
    @classmethod
    def _beyond_intensity(cls, ring: int | None, info: ValidationInfo) -> int | None:
        columns = info.data.get("columns")  # absent where it is wrong itself
        if ring is not None and columns is not None and not 4 <= ring < columns:
            raise ValueError(
                f"columns 0 to 3 are x, y, z and intensity, and there are {columns} in all: "
                "correct layout.columns or the ring's column"
            )
        return ring

    @field_validator("points_folder", "labels_folder")
    @classmethod
    def _below(cls, folder: str) -> str:
        path = PurePath(folder)
        if path.is_absolute() or ".." in path.parts or "\0" in folder:
            raise ValueError("a folder below that of the sequence")
        return folder

    @field_validator("points_suffix", "labels_suffix")
    @classmethod
    def _ends_a_name(cls, suffix: str) -> str:
        if {"/", "\\", "\0"} & set(suffix):
            raise ValueError("what the files' names end with, such as .bin")
        return suffix

    @field_validator("labels_suffix")
    @classmethod
    def _raw(cls, suffix: str) -> str:
        if suffix.endswith(".npy"):
            raise ValueError("labels are raw integers: write them with numpy's array.tofile(...)")
        return suffix


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
        """Check a scan's files by their size alone; see ``ScanSource``."""
        points_path, _ = self.paths(scan_id)
        with self._root_first():
            points = count_points(points_path, self.layout.columns)
        if with_labels:
            label_path = self._label_path(scan_id)
            check_label_file(label_path, points_path, points, self.layout.label_type)
        return points

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; see ``ScanSource``. A beam beyond the sensor's is a fault too."""
        points_path, layout = self.paths(scan_id)[0], self.layout
        with self._root_first():
            values = read_points(points_path, layout.columns)
        points = values if layout.columns == 4 else np.ascontiguousarray(values[:, :4])
        ring = None
        if layout.ring_column is not None:
            ring = self._ring(values[:, layout.ring_column], points_path)
        points = measured(points, layout.intensity_max)
        labels = None
        if with_labels:
            label_path, label_map = self._label_path(scan_id), self.info.label_map
            labels = read_train_labels(
                label_path, points_path, points, layout.label_type, label_map
            )
        return Scan(scan_id, points, labels, ring)

    def _label_path(self, scan_id: str) -> Path:
        path = self.paths(scan_id)[1]
        if path is None:
            raise DataError(
                f"the labels of scan {scan_id} are not published: predict it, but do not train or "
                "evaluate on it",
                kind="missing",
            )
        return path

    def _ring(self, ring: np.ndarray, path: Path) -> np.ndarray:
        """The beam (N,) int32, 0 the highest, of the file's column (N,)."""
        beams, layout = self.info.sensor.beams, self.layout
        ring = np.where(np.isfinite(ring), ring, 0)  # of a lost echo nothing may be a number
        if ring.min() < 0 or ring.max() >= beams or (np.floor(ring) != ring).any():
            raise DataError(
                f"{path} holds {ring.min():g} to {ring.max():g} in column {layout.ring_column}, "
                f"where whole numbers from 0 to {beams - 1} should name the beams of sensor "
                f"{self.info.sensor.name}: check that the scan is of this sensor (data set "
                "'custom': layout.ring_column, layout.columns and sensor.beams)"
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

    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of all scans of one sequence, in the order of their numbers.

        Raises:
            DataError: the root is wrong, the sequence is missing or empty, or a file has a name
                that no labelled list can hold.
        """
        suffix = self.layout.points_suffix
        folder = self.root / "sequences" / sequence / self.layout.points_folder
        try:
            frames = _frames(folder, suffix)
        except OSError as error:
            self.check_root()
            present = sorted(p.name for p in (self.root / "sequences").iterdir() if p.is_dir())
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
                "their label files: no blanks, '#', '\\' or control characters, and no .bin, "
                f".label or .npy before the suffix {suffix}"
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
        folder, layout = self.root / "sequences" / sequence, self.layout
        return (
            folder / layout.points_folder / f"{frame}{layout.points_suffix}",
            folder / layout.labels_folder / f"{frame}{layout.labels_suffix}",
        )

    def has_labels(self, scan_id: str) -> bool:
        """Whether there is a label file for a scan, sound or not, or a link to one that is lost."""
        return os.path.lexists(self.paths(scan_id)[1])

    def labels_without_scan(self, sequence: str) -> list[str]:
        """Ids that a sequence has label files of, but no points."""
        folder = self.paths(f"{sequence}/any")[1].parent
        try:
            frames = _frames(folder, self.layout.labels_suffix)
        except OSError:
            return []  # no labels at all
        present = set(self.sequence_ids(sequence))
        return [i for frame in frames if (i := f"{sequence}/{frame}") not in present]

    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The LiDAR's pose in each scan, of ``poses.txt`` and ``calib.txt``; see ``ScanSource``."""
        folder = self.root / "sequences" / sequence
        return read_sequence_poses(folder, self.sequence_ids(sequence), self.CAMERA_POSES)

    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan, of ``times.txt``; see ``ScanSource``."""
        return read_times(self.root / "sequences" / sequence, self.sequence_ids(sequence))

    def label_file(self, scan_id: str) -> str:
        """``sequences/SS/labels/FFFFFF.label``."""
        return self.paths(scan_id)[1].relative_to(self.root).as_posix()

    def prediction_file(self, scan_id: str, split: str) -> str:
        """``sequences/SS/predictions/FFFFFF.label``, as SemanticKITTI's benchmark expects it."""
        sequence, _, frame = scan_id.partition("/")
        return f"sequences/{sequence}/predictions/{frame}{self.layout.labels_suffix}"

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) in the type of the label files; see ``LabelMap.to_raw``."""
        return self.info.label_map.to_raw(labels).astype(self.layout.label_type)

    def check_root(self) -> None:
        """Check that the root is the folder above ``sequences/``; name the one probably meant."""
        layout = self.layout
        expected = f"expected ROOT/sequences/00/{layout.points_folder}/000000{layout.points_suffix}"
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder: {expected}")
        if (self.root / "sequences").is_dir():
            return
        resolved = self.root.resolve()
        for parent in resolved.parents[:3]:
            if resolved.relative_to(parent).parts[0] == "sequences":
                raise DataError(
                    f"{self.root} is inside the folder sequences/: {expected}: "
                    f"give {parent} as the root"
                )
        found = sorted(p.name for p in self.root.iterdir())
        # The official archives unpack to dataset/sequences.
        below = [str(self.root / n) for n in found if (self.root / n / "sequences").is_dir()]
        if below:
            raise DataError(
                f"{self.root} has no folder sequences/ but folders below it have one: {expected}: "
                f"give {' or '.join(below[:3])} as the root"
            )
        raise DataError(
            f"{self.root} has no folder sequences/ "
            f"(found: {', '.join(found[:5]) or 'nothing'}): {expected}"
        )


def _frames(folder: Path, suffix: str) -> list[str]:
    """Names, without suffix, of the files that end with it; 9 comes before 10."""
    # Not dot files: macOS leaves ._000000.bin beside every copied file.
    names = (n for n in os.listdir(folder) if n.endswith(suffix) and not n.startswith("."))
    return sorted((name[: -len(suffix)] for name in names), key=_in_order)


def _in_order(frame: str) -> tuple[list[str | int], str]:
    """What frames are sorted by: their words and numbers in turn."""
    parts = re.split(r"([0-9]+)", frame)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], frame
