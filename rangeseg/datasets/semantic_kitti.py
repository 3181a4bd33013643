"""SemanticKITTI: sequences of HDL-64E scans with a class for every point.

Reference: Behley et al., SemanticKITTI: A Dataset for Semantic Scene Understanding of LiDAR
Sequences, ICCV 2019. Ids, classes and splits are those of its ``semantic-kitti.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from rangeseg.datasets.base import DatasetInfo, Scan, ScanSource
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.errors import DataError, unknown_name
from rangeseg.geometry.sensor import HDL_64E

# Class: the raw id a prediction is written as, its colour. The official file lists colours as
# blue, green, red; these are red, green, blue.
_CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "car": (10, (100, 150, 245)),
    "bicycle": (11, (100, 230, 245)),
    "motorcycle": (15, (30, 60, 150)),
    "truck": (18, (80, 30, 180)),
    "other-vehicle": (20, (0, 0, 255)),
    "person": (30, (255, 30, 30)),
    "bicyclist": (31, (255, 40, 200)),
    "motorcyclist": (32, (150, 30, 90)),
    "road": (40, (255, 0, 255)),
    "parking": (44, (255, 150, 255)),
    "sidewalk": (48, (75, 0, 75)),
    "other-ground": (49, (175, 0, 75)),
    "building": (50, (255, 200, 0)),
    "fence": (51, (255, 120, 50)),
    "vegetation": (70, (0, 175, 0)),
    "trunk": (71, (135, 60, 0)),
    "terrain": (72, (150, 240, 80)),
    "pole": (80, (255, 240, 150)),
    "traffic-sign": (81, (255, 0, 0)),
}

# Raw ids without a class of their own: official name, and the class they are merged into
# (None: ignored). One scan does not tell whether a thing moves.
_MERGED: dict[int, tuple[str, str | None]] = {
    0: ("unlabeled", None),
    1: ("outlier", None),
    13: ("bus", "other-vehicle"),
    16: ("on-rails", "other-vehicle"),
    52: ("other-structure", None),
    60: ("lane-marking", "road"),
    99: ("other-object", None),
    252: ("moving-car", "car"),
    253: ("moving-bicyclist", "bicyclist"),
    254: ("moving-person", "person"),
    255: ("moving-motorcyclist", "motorcyclist"),
    256: ("moving-on-rails", "other-vehicle"),
    257: ("moving-bus", "other-vehicle"),
    258: ("moving-truck", "truck"),
    259: ("moving-other-vehicle", "other-vehicle"),
}


def _label_map() -> LabelMap:
    names = tuple(_CLASSES)
    own = {raw: index for index, (raw, _) in enumerate(_CLASSES.values())}
    merged = {
        raw: IGNORE if target is None else names.index(target)
        for raw, (_, target) in _MERGED.items()
    }
    return LabelMap(
        names=names,
        colours=tuple(colour for _, colour in _CLASSES.values()),
        raw_to_train=own | merged,
        train_to_raw=tuple(own),
        raw_names={raw: names[index] for raw, index in own.items()}
        | {raw: name for raw, (name, _) in _MERGED.items()},
    )


class SemanticKitti(ScanSource):
    """Scans in SemanticKITTI's layout, ids like ``08/000123``.

    ``root/sequences/SS/velodyne/FFFFFF.bin`` holds x, y, z, remission as float32;
    ``root/sequences/SS/labels/FFFFFF.label`` one uint32 per point, the class in the lower half.
    A subclass with the same layout sets its own ``info`` and ``SPLITS``.

    Args:
        root: the folder that holds ``sequences/``. It is looked at when scans are listed or read,
            not here: a configuration can be checked without the data.
    """

    info: DatasetInfo = DatasetInfo(
        name="semantic_kitti",
        label_map=_label_map(),
        sensor=HDL_64E,
        # The first five are RangeNet++'s published values for 64x2048; the steps are differences
        # between neighbouring pixels, zero on average, so only their scale is set.
        statistics={
            "range": (12.12, 12.32),
            "x": (10.88, 11.47),
            "y": (0.23, 6.91),
            "z": (-1.04, 0.86),
            "intensity": (0.21, 0.16),
            "range_step": (0.0, 0.3),
            "height_step": (0.0, 0.3),
        },
        policy="semantickitti",
    )
    SPLITS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
        "val": ("08",),
        "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
    }

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.SPLITS)

    def scan_ids(self, split: str) -> list[str]:
        """Sorted ids ``SEQ/FRAME`` of all scans of a split.

        Raises:
            DataError: the root is wrong, or a sequence of the split is missing or empty.
            ConfigError: no such split.
        """
        if split not in self.SPLITS:
            raise unknown_name("split", split, self.splits)
        return [i for sequence in sorted(self.SPLITS[split]) for i in self.sequence_ids(sequence)]

    def sequence_ids(self, sequence: str) -> list[str]:
        """Sorted ids of all scans of one sequence.

        Raises:
            DataError: the root is wrong, or the sequence is missing or empty.
        """
        folder = self.root / "sequences" / sequence / "velodyne"
        try:
            names = os.listdir(folder)
        except OSError as error:
            self.check_root()
            raise DataError(
                f"sequence {sequence} is missing: {folder} {_reason(error)}; "
                f"present: {self._present()}: download the sequence or copy it there"
            ) from None
        # Dot files: macOS leaves ._000000.bin beside every copied file.
        frames = sorted(n[:-4] for n in names if n.endswith(".bin") and not n.startswith("."))
        if not frames:
            raise DataError(f"sequence {sequence} is empty: no .bin in {folder}: copy it again")
        return [f"{sequence}/{frame}" for frame in frames]

    def paths(self, scan_id: str) -> tuple[Path, Path]:
        """The point file and the label file of a scan; neither need exist.

        Raises:
            DataError: the id is not of the form ``SEQ/FRAME``.
        """
        sequence, _, frame = scan_id.partition("/")
        if not sequence or not frame or "/" in frame:
            raise DataError(f"'{scan_id}' is not a scan id: write SEQ/FRAME, e.g. 08/000123")
        folder = self.root / "sequences" / sequence
        return folder / "velodyne" / f"{frame}.bin", folder / "labels" / f"{frame}.label"

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; points that are NaN or (0, 0, 0) are kept.

        Raises:
            DataError: a file is missing or truncated, holds no point, has another number of
                labels than points, or an unknown id.
        """
        self.check_files(scan_id, with_labels)
        points_path, label_path = self.paths(scan_id)
        try:
            points = np.fromfile(points_path, dtype="<f4").reshape(-1, 4)
            if not with_labels:
                return Scan(scan_id, points)
            raw_labels = np.fromfile(label_path, dtype="<u4")
        except OSError as error:
            raise DataError(f"{error.filename or points_path} {_reason(error)}") from None
        labels = self.info.label_map.to_train(raw_labels, where=str(label_path))
        return Scan(scan_id, points, labels)

    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Check the sizes of a scan's files without opening them.

        Returns:
            The number of points.

        Raises:
            DataError: a file is missing or truncated, holds no point, or has another number of
                labels than points.
        """
        points_path, label_path = self.paths(scan_id)
        points_bytes = _size(points_path)
        if points_bytes is None:
            self.check_root()
            raise DataError(
                f"{points_path} does not exist: check the id {scan_id} or copy the sequence again"
            )
        if points_bytes % 16:
            raise DataError(
                f"{points_path} has {points_bytes} bytes, not a multiple of 16 "
                "(4 float32 per point): the file is truncated; copy it again"
            )
        if points_bytes == 0:
            raise DataError(f"{points_path} is empty: the scan has no point; copy it again")
        if not with_labels:
            return points_bytes // 16
        label_bytes = _size(label_path)
        if label_bytes is None:
            raise DataError(
                f"{label_path} does not exist but {points_path.name} does: copy the labels there, "
                "or leave the scan out of the labelled list"
            )
        if label_bytes % 4:
            raise DataError(
                f"{label_path} has {label_bytes} bytes, not a multiple of 4 (1 uint32 per label): "
                "the file is truncated; copy it again"
            )
        if label_bytes // 4 != points_bytes // 16:
            raise DataError(
                f"{label_path} has {label_bytes // 4} labels but {points_path.name} has "
                f"{points_bytes // 16} points: re-extract the sequence"
            )
        return points_bytes // 16

    def _present(self) -> str:
        names = sorted(p.name for p in (self.root / "sequences").iterdir() if p.is_dir())
        return ", ".join(names) or "none"

    def check_root(self) -> None:
        """Check that the root is the folder above ``sequences/``.

        Raises:
            DataError: it is not; the message names the folder that was probably meant.
        """
        expected = "expected ROOT/sequences/00/velodyne/000000.bin"
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


def _size(path: Path) -> int | None:
    """Bytes of a file, None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} {_reason(error)}") from None


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read ({error.strerror or error})"
