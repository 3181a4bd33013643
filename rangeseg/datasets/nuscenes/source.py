"""nuScenes lidarseg: key frames of an HDL-32E with a class for every point.

Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, CVPR 2020;
Fong et al., Panoptic nuScenes, RA-L 2022. Ids, classes and colours are those of its devkit.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import DatasetInfo, Official
from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.nuscenes.index import (
    SIMULATED,
    VERSIONS,
    Index,
    IndexedScan,
    index_path,
    missing_index,
    read_index,
)
from rangeseg.errors import DataError, unknown_name
from rangeseg.geometry.sensor import HDL_32E

_CLASSES: dict[str, tuple[int, int, int]] = {
    "barrier": (112, 128, 144),
    "bicycle": (220, 20, 60),
    "bus": (255, 127, 80),
    "car": (255, 158, 0),
    "construction_vehicle": (233, 150, 70),
    "motorcycle": (255, 61, 99),
    "pedestrian": (0, 0, 230),
    "traffic_cone": (47, 79, 79),
    "trailer": (255, 140, 0),
    "truck": (255, 99, 71),
    "driveable_surface": (0, 207, 191),
    "other_flat": (175, 0, 75),
    "sidewalk": (75, 0, 75),
    "terrain": (112, 180, 60),
    "manmade": (222, 184, 135),
    "vegetation": (0, 175, 0),
}

# The class of each raw id 0 to 31 (None: ignored), and the id's official name.
_RAW: tuple[str | None, ...] = (
    None,  # noise
    None,  # animal
    "pedestrian",  # human.pedestrian.adult
    "pedestrian",  # human.pedestrian.child
    "pedestrian",  # human.pedestrian.construction_worker
    None,  # human.pedestrian.personal_mobility
    "pedestrian",  # human.pedestrian.police_officer
    None,  # human.pedestrian.stroller
    None,  # human.pedestrian.wheelchair
    "barrier",  # movable_object.barrier
    None,  # movable_object.debris
    None,  # movable_object.pushable_pullable
    "traffic_cone",  # movable_object.trafficcone
    None,  # static_object.bicycle_rack
    "bicycle",  # vehicle.bicycle
    "bus",  # vehicle.bus.bendy
    "bus",  # vehicle.bus.rigid
    "car",  # vehicle.car
    "construction_vehicle",  # vehicle.construction
    None,  # vehicle.emergency.ambulance
    None,  # vehicle.emergency.police
    "motorcycle",  # vehicle.motorcycle
    "trailer",  # vehicle.trailer
    "truck",  # vehicle.truck
    "driveable_surface",  # flat.driveable_surface
    "other_flat",  # flat.other
    "sidewalk",  # flat.sidewalk
    "terrain",  # flat.terrain
    "manmade",  # static.manmade
    None,  # static.other
    "vegetation",  # static.vegetation
    None,  # vehicle.ego
)

# Scenes and key frames of v1.0-trainval and v1.0-test.
_OFFICIAL = {
    "train": Official(700, 28130), "val": Official(150, 6019), "test": Official(150, 6008),
}  # fmt: skip


def _label_map() -> LabelMap:
    names = tuple(_CLASSES)
    return LabelMap(
        names=names,
        colours=tuple(_CLASSES.values()),
        raw_to_train={
            raw: IGNORE if target is None else names.index(target)
            for raw, target in enumerate(_RAW)
        },
    )


class NuScenes(FileSource):
    """nuScenes lidarseg; a scan is a key frame and its id the sample token.

    Needs an index from ``rangeseg-data index nuscenes ROOT``. The splits train and val are those of
    v1.0-trainval or, if that is not indexed, of v1.0-mini. The simulated street in this format is
    named ``nuscenes_simulated`` in results.

    Args:
        root: the folder that holds the index, usually that of nuScenes itself.
    """

    info: DatasetInfo = DatasetInfo(
        name="nuscenes",
        label_map=_label_map(),
        sensor=HDL_32E,
        # Round figures near what one sweep shows at 32x1920, rows by ring; the train split was
        # not measured.
        statistics={
            "range": (14.8, 14.5),
            "x": (0.0, 14.0),
            "y": (0.0, 14.0),
            "z": (-0.6, 2.3),
            "intensity": (0.07, 0.08),
            "range_step": (0.0, 0.15),
            "height_step": (0.12, 0.28),
        },
        policy="nuscenes",
        movable=frozenset(
            {
                "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian",
                "trailer", "truck",
            }
        ),
    )  # fmt: skip
    layout = Layout(
        columns=5, intensity_max=255, ring_column=4, ring_zero="lowest", label_type="uint8"
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        if self._versions == [SIMULATED]:
            self.info = replace(type(self).info, name="nuscenes_simulated")

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return "train", "val", "test"

    def sequences(self, split: str) -> tuple[str, ...]:
        """Sorted names of a split's scenes; see ``ScanSource``."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        scenes, official = self._index(split).scenes, self._official(split)
        return tuple(name for name, scene in scenes.items() if scene.split == official)

    def official(self, split: str) -> Official | None:
        """Numbers of scenes and key frames of the whole set; see ``ScanSource``."""
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return None if self._versions == [SIMULATED] else _OFFICIAL[split]

    def sequence_ids(self, sequence: str) -> list[str]:
        """Sample tokens of all scans of a scene, in the order of time."""
        self.check_root()
        for index in self._indices:
            if sequence in index.scenes:
                return [scan.token for scan in index.scenes[sequence].scans]
        raise DataError(
            f"scene '{sequence}' is not in the index of {self.root}: check its name", kind="missing"
        )

    def paths(self, scan_id: str) -> tuple[Path, Path | None]:
        """The point file and the label file of a scan; None where labels are not published."""
        index, scan = self._find(scan_id)
        assert index.data is not None
        return index.data / scan.points, None if scan.labels is None else index.data / scan.labels

    def has_labels(self, scan_id: str) -> bool:
        """Whether there is a label file for a scan, sound or not."""
        label_path = self.paths(scan_id)[1]
        return label_path is not None and label_path.exists()

    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The LiDAR's pose in each scan of a scene, from the index; see ``ScanSource``."""
        rows = {i: self._find(i)[1].pose for i in self.sequence_ids(sequence)}
        if not any(rows.values()):
            raise DataError(
                f"the index of {self.root} holds no pose of {sequence}: build it again with "
                "`rangeseg-data index`",
                kind="missing",
            )
        return {i: np.array([*r, 0, 0, 0, 1]).reshape(4, 4) for i, r in rows.items() if r}

    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan of a scene, from the index; see ``ScanSource``."""
        return {i: 1e-6 * self._find(i)[1].timestamp for i in self.sequence_ids(sequence)}

    def check_root(self) -> None:
        """Check that the root holds an index, and that its data folder exists."""
        if not self._indices:
            raise missing_index(self.root, list(VERSIONS))

    def label_file(self, scan_id: str) -> str:
        """``lidarseg/<version>/<token>_lidarseg.bin``, also where no labels are published."""
        index, scan = self._find(scan_id)
        return scan.labels or f"lidarseg/{index.version}/{scan.lidar_token}_lidarseg.bin"

    def prediction_file(self, scan_id: str, split: str) -> str:
        """``lidarseg/<split>/<token>_lidarseg.bin``: the devkit's split, the lidar's token."""
        lidar_token = self._find(scan_id)[1].lidar_token
        return f"lidarseg/{self._official(split)}/{lidar_token}_lidarseg.bin"

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) uint8 in 0..31, as the devkit's viewer takes them; 0 (noise) if withheld."""
        return self.info.label_map.to_raw(labels).astype(np.uint8)

    def encode_prediction(self, labels: np.ndarray) -> np.ndarray:
        """The benchmark's ids (N,) uint8: 1..16, and 0, which it refuses, where withheld."""
        return np.where(labels == IGNORE, 0, labels + np.uint8(1)).astype(np.uint8)

    def submission_files(self, split: str) -> dict[str, str]:
        """``<split>/submission.json``: the sensors used for the predictions."""
        senses = ("camera", "lidar", "radar", "map", "external")
        meta = {f"use_{sense}": sense == "lidar" for sense in senses}
        text = json.dumps({"meta": meta}, indent=2) + "\n"
        return {f"{self._official(split)}/submission.json": text}

    def _official(self, split: str) -> str:
        return VERSIONS[self._index(split).version][split]

    def _find(self, scan_id: str) -> tuple[Index, IndexedScan]:
        self.check_root()
        for index in self._indices:
            if scan_id in index.scans:
                return index, index.scans[scan_id]
        raise DataError(
            f"'{scan_id}' is no sample token of {' or '.join(i.version for i in self._indices)} as "
            f"indexed in {self.root}: write one of 32 hexadecimal digits, and check the version"
        )

    def _index(self, split: str) -> Index:
        """The index that holds a split."""
        for index in self._indices:
            if split in VERSIONS[index.version]:
                return index
        raise missing_index(self.root, [v for v, splits in VERSIONS.items() if split in splits])

    @cached_property
    def _indices(self) -> list[Index]:
        """The existing indices, read at first use."""
        return [read_index(self.root, version) for version in self._versions]

    @property
    def _versions(self) -> list[str]:
        """The versions with an index."""
        return [version for version in VERSIONS if index_path(self.root, version).exists()]
