"""SemanticKITTI: sequences of HDL-64E scans with a class for every point.

Reference: Behley et al., SemanticKITTI: A Dataset for Semantic Scene Understanding of LiDAR
Sequences, ICCV 2019. Ids, classes and splits are those of its ``semantic-kitti.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rangeseg.datasets.base import DatasetInfo, Official
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.geometry.sensor import HDL_64E

# Class: raw id of predictions, colour. The official file lists blue, green, red; these are red,
# green, blue.
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

# Raw ids without their own class: the class they merge into (None: ignored), official name. Moving
# things merge too, as one scan does not show motion.
_MERGED: dict[int, str | None] = {
    0: None,  # unlabeled
    1: None,  # outlier
    13: "other-vehicle",  # bus
    16: "other-vehicle",  # on-rails
    52: None,  # other-structure
    60: "road",  # lane-marking
    99: None,  # other-object
    252: "car",  # moving-car
    253: "bicyclist",  # moving-bicyclist
    254: "person",  # moving-person
    255: "motorcyclist",  # moving-motorcyclist
    256: "other-vehicle",  # moving-on-rails
    257: "other-vehicle",  # moving-bus
    258: "truck",  # moving-truck
    259: "other-vehicle",  # moving-other-vehicle
}

# Scans of each sequence, numbered from 000000 without a gap.
_SCANS = {
    "00": 4541, "01": 1101, "02": 4661, "03": 801, "04": 271, "05": 2761, "06": 1101, "07": 1101,
    "08": 4071, "09": 1591, "10": 1201, "11": 921, "12": 1061, "13": 3281, "14": 631, "15": 1901,
    "16": 1731, "17": 491, "18": 1801, "19": 4981, "20": 831, "21": 2721,
}  # fmt: skip


def _label_map() -> LabelMap:
    names = tuple(_CLASSES)
    own = {raw: index for index, (raw, _) in enumerate(_CLASSES.values())}
    merged = {
        raw: IGNORE if target is None else names.index(target) for raw, target in _MERGED.items()
    }
    return LabelMap(
        names=names,
        colours=tuple(colour for _, colour in _CLASSES.values()),
        raw_to_train=own | merged,
    )


DRAWN_STAMP = "scribbles.json"
"""The file that marks a folder's scribbles as drawn by ``rangeseg-data scribble``."""


class SemanticKitti(SequenceFolder):
    """SemanticKITTI, ids like ``08/000123``.

    Args:
        root: the folder that holds ``sequences/``.
    """

    info: DatasetInfo = DatasetInfo(
        name="semantic_kitti",
        label_map=_label_map(),
        sensor=HDL_64E,
        # The first five are RangeNet++'s published values for 64x2048. Steps, the differences of
        # neighbouring pixels, have mean zero, so only their scale is set.
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
        movable=frozenset(tuple(_CLASSES)[:8]),
    )
    CAMERA_POSES = True
    SPLITS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
        "val": ("08",),
        "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
    }

    def official(self, split: str) -> Official | None:
        """The scans of the published sequences; see ``ScanSource``."""
        sequences = self.sequences(split)
        scan_ids = [f"{s}/{frame:06d}" for s in sequences for frame in range(_SCANS[s])]
        return Official(len(sequences), len(scan_ids), tuple(scan_ids))


class ScribbleKitti(SemanticKitti):
    """ScribbleKITTI: SemanticKITTI's scans; training sees scribbles only.

    ``root`` is SemanticKITTI's, with ``sequences/SS/scribbles/FFFFFF.label`` beside ``labels/`` in
    the training sequences. Validation and test read the full labels; the labelled lists are
    SemanticKITTI's. With scribbles from ``rangeseg-data scribble`` the data set has another name in
    results.

    Reference: Unal et al., Scribble-Supervised LiDAR Semantic Segmentation, CVPR 2022.
    """

    info = replace(SemanticKitti.info, name="scribble_kitti")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if (self.root / DRAWN_STAMP).is_file():
            self.info = replace(type(self).info, name="scribble_kitti_drawn")

    def paths(self, scan_id: str) -> tuple[Path, Path]:
        """The point file and the label file of a scan: scribbles in the training sequences."""
        points_path, label_path = super().paths(scan_id)
        if scan_id.partition("/")[0] in self.SPLITS["train"]:
            return points_path, label_path.parents[1] / "scribbles" / label_path.name
        return points_path, label_path
