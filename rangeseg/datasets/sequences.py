"""Scans in KITTI's layout: a folder per sequence, a file per scan."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.formats import read_header
from rangeseg.datasets.formats.files import reason
from rangeseg.datasets.label_files import (
    written_label_type,
)
from rangeseg.datasets.pose_files import read_sequence_poses, read_times
from rangeseg.datasets.split_files import scan_id_of
from rangeseg.errors import DataError, unknown_name


class SequenceFolder(FileSource):
    """Scans in KITTI's layout, ids like ``08/000123``.

    ``root/sequences/SS/velodyne/FFFFFF.bin`` holds x, y, z, intensity as float32;
    ``root/sequences/SS/labels/FFFFFF.label`` one integer per point. A subclass sets ``info`` and
    ``SPLITS``, and ``layout`` where it differs.
    """

    SPLITS: ClassVar[Mapping[str, tuple[str, ...]]]
    CAMERA_POSES: ClassVar[bool] = False
    """Whether ``poses.txt`` must hold the camera's poses, as in KITTI."""

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
        """The parent folder of the sequences."""
        return self.root / self.layout.sequences_folder

    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of all scans of one sequence, in the order of the numbers or times in their names.

        Raises:
            DataError: the root is wrong, the sequence is missing or empty, or labelled lists cannot
                hold a file's name.
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
        # A run writes such a list when it begins and reads it when resumed or evaluated.
        unlisted = [scan_id for scan_id in scan_ids if scan_id_of(scan_id) != scan_id]
        if unlisted:
            name = unlisted[0].partition("/")[2] + suffix
            raise DataError(
                f"sequence {sequence}: {len(unlisted)} of {len(frames)} files in {folder} have a "
                f"name that labelled lists cannot hold, the first is {name!r}: rename them and "
                "their label files, without '#', '\\', control characters, a blank at an end, "
                f"or .bin, .label, .npy before the suffix {suffix}"
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
        """Whether a scan has a label file, sound or not, or a broken link to one.

        If labels are a field of the point files: whether this file has it.
        """
        points_path, label_path = self.paths(scan_id)
        if (field := self.layout.fields.get("label")) is None:
            return os.path.lexists(label_path)
        try:
            return field in read_header(points_path, self.layout).names
        except DataError:
            return True  # reading it will report the fault

    def labels_without_scan(self, sequence: str) -> list[str]:
        """Ids with label files but no points in a sequence."""
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
        """The LiDAR's pose in each scan, from ``poses.txt`` and ``calib.txt``; see ``ScanSource``.

        If the layout rotates the points, it also rotates the poses.
        """
        poses = self._file_poses(sequence)
        if not self.layout.turns:
            return poses
        turn = np.eye(4)
        turn[:3, :3] = self.layout.rotation()
        return {scan_id: turn @ pose @ turn.T for scan_id, pose in poses.items()}

    def _file_poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The poses of a sequence for the unrotated points of the files."""
        folder = self.sequences_root / sequence
        return read_sequence_poses(folder, self.sequence_ids(sequence), self.CAMERA_POSES)

    @cached_property
    def _known_poses(self) -> dict[str, dict[str, np.ndarray]]:
        """The cached poses of each sequence read so far."""
        return {}

    def _world_pose(self, scan_id: str) -> np.ndarray | None:
        """The sensor's pose (4,4), to bring points from the world's frame back to the sensor's."""
        if self.layout.frame == "sensor":
            return None
        sequence = scan_id.partition("/")[0]
        if sequence not in self._known_poses:
            self._known_poses[sequence] = self._file_poses(sequence)
        pose = self._known_poses[sequence].get(scan_id)
        if pose is None or not np.isfinite(pose).all():
            raise DataError(
                f"scan {scan_id} has no pose in {self.sequences_root / sequence}, which "
                "layout.frame=world needs: complete the file of poses, or remove the scan"
            )
        return pose

    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan, from ``times.txt`` or the names; see ``ScanSource``."""
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
        """The name of a raw label file; the suffix ``.npy`` becomes ``.label``."""
        suffix = self.layout.labels_suffix
        return scan_id.partition("/")[2] + (".label" if suffix.endswith(".npy") else suffix)

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) of an integer type for the label files; see ``LabelMap.to_raw``."""
        return self.info.label_map.to_raw(labels).astype(written_label_type(self.layout))

    def check_root(self) -> None:
        """Check that the root is the folder of the sequences, or the one above ``sequences/``.

        Raises:
            DataError: it is not; the message names the probable root.
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


def _frames(folder: Path, suffix: str) -> list[str]:
    """Names, without suffix, of the files with a suffix; 9 comes before 10."""
    # Skip dot files: macOS leaves ._000000.bin beside every copied file.
    names = (n for n in os.listdir(folder) if n.endswith(suffix) and not n.startswith("."))
    return sorted((name[: -len(suffix)] for name in names), key=in_order)


def in_order(frame: str) -> tuple[list[str | Decimal], str]:
    """Sort key of frames: words and numbers in turn; .15 comes before .2."""
    parts = re.split(r"([0-9]+(?:\.[0-9]+)?)", frame)
    return [Decimal(part) if i % 2 else part for i, part in enumerate(parts)], frame
