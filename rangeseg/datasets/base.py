"""What every data set offers: scans by id, and what is known about all of them."""

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
        labels: (N,) uint8 train ids with IGNORE, or None where labels were not asked for.
        ring: (N,) int32 beam of each point, 0 the highest, or None where the file has none.
        beams: (N,) int32 what ``beam_rows`` found before the points were changed; None: it is to
            look at them.
    """

    scan_id: str
    points: np.ndarray
    labels: np.ndarray | None = None
    ring: np.ndarray | None = None
    beams: np.ndarray | None = None


class ScanReader(Protocol):
    """What reads single scans: a data set, or something around one."""

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """See ``ScanSource.read_scan``."""


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a data set without reading it.

    Attributes:
        name: what results call it: its key in DATASETS, or more precisely.
        label_map: classes, colours, ids.
        sensor: the device, with the image size the literature uses.
        statistics: channel -> (mean, standard deviation) over the filled pixels of the train split.
        policy: how a class that is absent from truth and prediction enters the mean IoU:
            ``semantickitti`` counts it as 0, ``nuscenes`` leaves it out.
        movable: names of the classes whose things may move between two scans.
    """

    name: str
    label_map: LabelMap
    sensor: Sensor
    statistics: Mapping[str, tuple[float, float]]
    policy: MiouPolicy
    movable: frozenset[str] = frozenset()


class Official(NamedTuple):
    """What a published data set holds of one split.

    Attributes:
        sequences: how many sequences (scenes) it has.
        scans: how many scans.
        scan_ids: their ids; empty where only tables that are read from the disk name them.
    """

    sequences: int
    scans: int
    scan_ids: tuple[str, ...] = ()


class ScanSource(ABC):
    """Scans on a disk. Reading is stateless, so a source can be shared by worker processes.

    Args:
        root: the folder of the data. It is looked at when scans are listed or read, not here: a
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
        """What the published data set holds of a split; None for data that nobody published.

        Raises:
            ConfigError: no such split.
        """
        return None

    def needs_labels(self, scan_id: str) -> bool:
        """Whether it is a fault that a scan has no label file; not where this means unlabelled."""
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
        """Ids that a sequence has label files of, but no points; none where a table lists scans."""
        return []

    @abstractmethod
    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The pose (4,4) float64 of the LiDAR in each scan of a sequence, as far as known.

        A pose takes points from the LiDAR's frame to one that all scans of the sequence share.
        They are as the files have them; ``motion.poses`` checks them.

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
            DataError: it is not; the message says what was expected there.
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
        """Read one scan; points that are NaN, (0, 0, 0) or nowhere (beyond 1e6 m) are kept.

        Whatever the file says of them, their label is IGNORE.

        Args:
            scan_id: one of ``scan_ids``.
            with_labels: False leaves the label file alone (unlabelled training, test sets).

        Raises:
            DataError: a file is missing or truncated, holds no point, has another number of
                labels than points, or an unknown id.
        """

    @abstractmethod
    def label_file(self, scan_id: str) -> str:
        """Where the data set keeps the labels of a scan, relative to its folder."""

    @abstractmethod
    def prediction_file(self, scan_id: str, split: str) -> str:
        """Where the benchmark expects a scan's prediction, relative to the predictions' folder."""

    @abstractmethod
    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels as the data set's own label files hold them: raw ids.

        Args:
            labels: (N,) uint8 train ids; IGNORE where a label was withheld.

        Returns:
            (N,) of the file's dtype.

        Raises:
            ConfigError: a label was withheld and the data set has no id for that.
        """

    def encode_prediction(self, labels: np.ndarray) -> np.ndarray:
        """A prediction as the benchmark's file holds it, if not like the label files.

        Args:
            labels: (N,) uint8 train ids; none is withheld.

        Returns:
            (N,) of the file's dtype.
        """
        return self.encode_labels(labels)

    def submission_files(self, split: str) -> dict[str, str]:
        """Further files of a submission: path relative to the predictions' folder -> text."""
        return {}
