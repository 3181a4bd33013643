"""What every data set offers: scans by id, and what is known about all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rangeseg.datasets.labels import LabelMap
from rangeseg.geometry.sensor import Sensor

MiouPolicy = Literal["semantickitti", "nuscenes"]


@dataclass(frozen=True)
class Scan:
    """One turn of the sensor.

    Attributes:
        scan_id: unique in its data set, e.g. ``08/000123``.
        points: (N,4) float32: x, y, z in metres (sensor frame, z up), intensity in [0,1].
        labels: (N,) uint8 train ids with IGNORE, or None where labels were not asked for.
        ring: (N,) int32 beam of each point, 0 the highest, or None where the file has none.
    """

    scan_id: str
    points: np.ndarray
    labels: np.ndarray | None = None
    ring: np.ndarray | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set without reading it.

    Attributes:
        name: its key in DATASETS.
        label_map: classes, colours, ids.
        sensor: the device, with the image size the literature uses.
        statistics: channel -> (mean, standard deviation) over the filled pixels of the train split.
        policy: how a class that is absent from truth and prediction enters the mean IoU:
            ``semantickitti`` counts it as 0, ``nuscenes`` leaves it out.
    """

    name: str
    label_map: LabelMap
    sensor: Sensor
    statistics: Mapping[str, tuple[float, float]]
    policy: MiouPolicy


class ScanSource(ABC):
    """Scans on a disk. Reading is stateless, so a source can be shared by worker processes."""

    info: DatasetInfo
    root: Path

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, ``train`` and ``val`` among them."""

    @abstractmethod
    def scan_ids(self, split: str) -> list[str]:
        """Sorted ids of all scans of a split.

        Raises:
            DataError: the root or a sequence is missing, or the split has no scan.
            ConfigError: no such split.
        """

    @abstractmethod
    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan.

        Args:
            scan_id: one of ``scan_ids``.
            with_labels: False leaves the label file alone (unlabelled training, test sets).

        Raises:
            DataError: a file is missing or truncated, holds no point, has as many labels as it
                should not, or an unknown id.
        """
