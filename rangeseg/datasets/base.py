"""The interface of data sets: scans by id, and facts about the whole set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from rangeseg.datasets.labels import LabelMap
from rangeseg.geometry.sensor import Sensor

MiouPolicy = Literal["semantickitti", "nuscenes"]


@dataclass(frozen=True)
class Scan:
    """One turn of the sensor.

    Attributes:
        scan_id: unique in its data set, e.g. ``08/000123``.
        points: (N,4) float32: x, y, z in metres (sensor frame, z up), intensity in [0,1]; NaN
            where the file holds NaN or no measurement.
        labels: (N,) uint8 train ids with IGNORE, or None if not requested.
        ring: (N,) int32 beam of each point, 0 the highest, or None where the file has none.
        beams: (N,) int32 result of ``beam_rows`` before the points were changed; None: compute it
            from these points.
    """

    scan_id: str
    points: np.ndarray
    labels: np.ndarray | None = None
    ring: np.ndarray | None = None
    beams: np.ndarray | None = None


class ScanReader(Protocol):
    """Reads single scans: a data set or a wrapper of one."""

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """See ``ScanSource.read_scan``."""


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that need no reading.

    Attributes:
        name: name in results: the key in DATASETS, or a more precise one.
        label_map: classes, colours, ids.
        sensor: the device, with the image size the literature uses.
        statistics: channel -> (mean, standard deviation) over the filled pixels of the train split.
        policy: treatment of a class absent from truth and prediction in the mean IoU:
            ``semantickitti`` counts it as 0, ``nuscenes`` leaves it out.
        movable: names of the classes that may move between two scans.
    """

    name: str
    label_map: LabelMap
    sensor: Sensor
    statistics: Mapping[str, tuple[float, float]]
    policy: MiouPolicy
    movable: frozenset[str] = frozenset()


class Official(NamedTuple):
    """Published contents of one split.

    Attributes:
        sequences: number of sequences (scenes).
        scans: number of scans.
        scan_ids: ids of the scans; empty where only tables on the disk name them.
    """

    sequences: int
    scans: int
    scan_ids: tuple[str, ...] = ()


class ScanSource(ABC):
    """Scans on a disk. Reading is stateless, so a source can be shared by worker processes.

    Args:
        root: the folder of the data. It is opened only when scans are listed or read, so a
            configuration can be checked without the data.
    """

    info: DatasetInfo

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, ``train`` and ``val`` among them."""

    @abstractmethod
    def sequences(self, split: str) -> tuple[str, ...]:
        """The drives (sequences, scenes) of a split, whether they are on the disk or not.

        Raises:
            ConfigError: no such split.
            DataError: the root is wrong.
        """

    @abstractmethod
    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of all scans of a sequence, in the order of time.

        Raises:
            DataError: the root is wrong, or the sequence is missing or empty.
        """

    def scan_ids(self, split: str) -> list[str]:
        """Ids of all scans of a split, sequence by sequence.

        Raises:
            DataError: the root is wrong, or a sequence of the split is missing or empty.
            ConfigError: no such split.
        """
        return [i for sequence in self.sequences(split) for i in self.sequence_ids(sequence)]

    def official(self, split: str) -> Official | None:
        """The published contents of a split; None for unpublished data.

        Raises:
            ConfigError: no such split.
        """
        return None

    def needs_labels(self, scan_id: str) -> bool:
        """Whether a missing label file is a fault; False where it means unlabelled."""
        return True

    def labelled_ids(self, split: str) -> list[str]:
        """Ids of the scans of a split that have labels, or should have.

        Raises:
            DataError: see ``scan_ids``.
            ConfigError: no such split.
        """
        return [scan_id for scan_id in self.scan_ids(split) if self.needs_labels(scan_id)]

    @abstractmethod
    def has_labels(self, scan_id: str) -> bool:
        """Whether there is a label file for a scan, sound or not."""

    def labels_without_scan(self, sequence: str) -> list[str]:
        """Ids with label files but no points in a sequence; none where a table lists scans."""
        return []

    @abstractmethod
    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The pose (4,4) float64 of the LiDAR in each scan of a sequence, as far as known.

        A pose takes points from the LiDAR's frame to a frame shared by all scans of the sequence.
        Poses are read unchecked; ``motion.poses`` checks them.

        Raises:
            DataError: there are none (kind ``missing``), or the files are damaged.
        """

    @abstractmethod
    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan of a sequence in seconds, as far as known.

        Raises:
            DataError: a file is damaged.
        """

    @abstractmethod
    def check_root(self) -> None:
        """Check that the root is such a data set.

        Raises:
            DataError: it is not; the message names the expected contents.
        """

    @abstractmethod
    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Check a scan's files by their size alone.

        Returns:
            The number of points.

        Raises:
            DataError: a file is missing or truncated, holds no point, or has another number of
                labels than points.
        """

    @abstractmethod
    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; points that are NaN, (0, 0, 0) or beyond 1e6 m are kept.

        Their label is IGNORE, whatever the file holds.

        Args:
            scan_id: one of ``scan_ids``.
            with_labels: False does not open the label file (unlabelled training, test sets).

        Raises:
            DataError: a file is missing or truncated, holds no point, has another number of
                labels than points, or an unknown id.
        """

    @abstractmethod
    def label_file(self, scan_id: str) -> str:
        """Path of a scan's label file, relative to the data set's folder."""

    @abstractmethod
    def prediction_file(self, scan_id: str, split: str) -> str:
        """Path of a scan's prediction for the benchmark, relative to the predictions' folder."""

    @abstractmethod
    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Encode labels as in the data set's label files: raw ids.

        Args:
            labels: (N,) uint8 train ids; IGNORE where a label was withheld.

        Returns:
            (N,) of the file's dtype.

        Raises:
            ConfigError: a label was withheld and the data set has no id for that.
        """

    def encode_prediction(self, labels: np.ndarray) -> np.ndarray:
        """Encode a prediction for the benchmark, where it differs from the label files.

        Args:
            labels: (N,) uint8 train ids; none is withheld.

        Returns:
            (N,) of the file's dtype.
        """
        return self.encode_labels(labels)

    def submission_files(self, split: str) -> dict[str, str]:
        """Further files of a submission: path relative to the predictions' folder -> text."""
        return {}
