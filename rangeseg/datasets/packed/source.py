"""A data set in one file from ``rangeseg-data pack``.

Scans are read, not memory-mapped: if a disk fails, reading raises an error, but mapped memory kills
the process.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import DatasetInfo, Official, Scan, ScanSource
from rangeseg.datasets.formats.files import reason
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.packed.codec import decode_scan
from rangeseg.datasets.packed.index import PackedScan, PackedSplit, PackIndex, read_index
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.errors import DataError, unknown_name


class Packed(ScanSource):
    """A data set packed into one file.

    Reading is stateless: any number of processes and threads may share it.

    Args:
        root: path of the file; opened on first use.
        name: the data set, a key of DATASETS.
        own: the data set of that name, for classes and label maps.

    Raises:
        DataError: on first use, if the file is damaged or holds another data set.
    """

    def __init__(self, root: Path, name: str, own: ScanSource) -> None:
        super().__init__(root)
        self.name, self._own = name, own

    @cached_property
    def info(self) -> DatasetInfo:  # type: ignore[override]
        """The info of the packed data set."""
        own, index = self._own.info, self._index
        return replace(own, name=index.name, sensor=index.sensor or own.sensor)

    @property
    def layout(self) -> Layout:
        """The layout of the packed files."""
        return getattr(self._own, "layout", Layout())

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self._own.splits

    def sequences(self, split: str) -> tuple[str, ...]:
        """The sequences of a split, packed or not.

        Raises:
            ConfigError: no such split.
            DataError: the split was not packed.
        """
        if isinstance(self._own, SequenceFolder):  # its description may have changed since
            return self._own.sequences(split)
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return self._split(split).sequences

    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of all scans of one sequence, in the order of time.

        Raises:
            DataError: the sequence was not packed.
        """
        sequences = self._index.sequences
        if sequence not in sequences:
            raise DataError(
                f"sequence {sequence} is not in {self.root}; it holds "
                f"{', '.join(list(sequences)[:12])}{', ...' if len(sequences) > 12 else ''}: "
                "pack the data again with it",
                kind="missing",
            )
        return [scan.scan_id for scan in sequences[sequence]]

    def official(self, split: str) -> Official | None:
        """What the published data set holds of a split; see ``ScanSource``."""
        return self._own.official(split)

    def needs_labels(self, scan_id: str) -> bool:
        """Whether missing labels of a scan are a fault."""
        return self._find(scan_id).needs_labels

    def has_labels(self, scan_id: str) -> bool:
        """Whether a scan has labels."""
        return self._find(scan_id).labelled

    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """The LiDAR's pose in each scan, as packed; see ``ScanSource``."""
        rows = {i: self._find(i).pose for i in self.sequence_ids(sequence)}
        if not any(rows.values()):
            raise DataError(
                f"{self.root} was packed without poses of sequence {sequence}: pack the data again "
                "with them, or give a folder of poses",
                kind="missing",
            )
        return {i: np.array([*r, 0, 0, 0, 1]).reshape(4, 4) for i, r in rows.items() if r}

    def times(self, sequence: str) -> dict[str, float]:
        """The time of each scan, as packed; see ``ScanSource``."""
        times = {i: self._find(i).time for i in self.sequence_ids(sequence)}
        return {i: time for i, time in times.items() if time is not None}

    def check_root(self) -> None:
        """Check by the index that the file is whole and of this data set.

        Raises:
            DataError: it is not.
        """
        _ = self._index

    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Look a scan up; returns the number of points.

        Raises:
            DataError: the scan is missing, or has no labels.
        """
        scan = self._find(scan_id)
        if with_labels and not scan.labelled:
            raise DataError(
                f"{self.root}: scan {scan_id} was packed without labels: leave the scan out of "
                "the labelled list, or pack the data again with them",
                kind="missing",
            )
        return scan.points

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; its checksum is compared.

        Raises:
            DataError: the scan is missing or damaged, or has no labels.
        """
        self.check_files(scan_id, with_labels)
        entry = self._find(scan_id)
        try:
            content = np.fromfile(self.root, np.uint8, entry.size, offset=entry.start)
        except OSError as error:
            raise DataError(f"{self.root} {reason(error)}") from None
        try:
            if len(content) != entry.size:
                raise ValueError("the file became shorter")
            if zlib.crc32(content.data) != entry.checksum:
                raise ValueError("its checksum is wrong")
            scan = decode_scan(content, scan_id, entry.points, with_labels)
            _check_values(scan, with_labels, self.info)
        except ValueError as error:
            raise DataError(
                f"{self.root}: scan {scan_id} is damaged ({error}): copy the file again, or pack "
                "the data again",
                kind="truncated",
            ) from None
        return scan

    def label_file(self, scan_id: str) -> str:
        """Path of a scan's labels in the folder; for nuScenes the path of its prediction."""
        if isinstance(self._own, SequenceFolder):
            return self._own.label_file(scan_id)
        return self._find(scan_id).prediction

    def prediction_file(self, scan_id: str, split: str) -> str:
        """Path of a scan's prediction for the benchmark."""
        return self._find(scan_id).prediction

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Encode labels as in the data set's label files."""
        return self._own.encode_labels(labels)

    def encode_prediction(self, labels: np.ndarray) -> np.ndarray:
        """Encode a prediction for the benchmark."""
        return self._own.encode_prediction(labels)

    def submission_files(self, split: str) -> dict[str, str]:
        """Further files of a submission."""
        return dict(self._split(split).submission)

    def _split(self, split: str) -> PackedSplit:
        splits = self._index.splits
        if split not in splits:
            raise DataError(
                f"the split {split} is not in {self.root}; it holds {', '.join(splits)}: pack the "
                "data again with it",
                kind="missing",
            )
        return splits[split]

    def _find(self, scan_id: str) -> PackedScan:
        scan = self._index.scans.get(scan_id)
        if scan is None:
            raise DataError(f"scan '{scan_id}' is not in {self.root}: check its id", kind="missing")
        return scan

    @cached_property
    def _index(self) -> PackIndex:
        index = read_index(self.root)
        if index.dataset != self.name:
            raise DataError(
                f"{self.root} was packed from '{index.dataset:.100}', not from {self.name}: give "
                "the configuration or the name that belongs to it"
            )
        now = meaning(self._own)
        for key in sorted(now.keys() | index.meaning.keys()):
            if (was := index.meaning.get(key)) != now.get(key):
                raise DataError(
                    f"{self.root} was packed with another description, '{key:.100}': "
                    f"{was or 'not given':.200}, now it is {now.get(key, 'not given'):.200}: "
                    "describe the data as before, or pack them again"
                )
        return index


def meaning(source: ScanSource) -> dict[str, str]:
    """Settings that define the values in a pack: classes, raw ids and the file layout."""
    labels = source.info.label_map
    said = {"classes": ", ".join(labels.names)}
    for raw, train in sorted(labels.raw_to_train.items()):
        said[f"raw id {raw}"] = "ignored" if train == IGNORE else labels.names[train]
    if isinstance(source, SequenceFolder):
        # Defaults are left out, so fields of later versions do not invalidate existing packs.
        layout = source.layout.model_dump(exclude_defaults=True, exclude={"accept"})
        said |= {f"layout.{key}": str(value) for key, value in layout.items()}
        stated = source.layout.ring_column is not None or "ring" in source.layout.fields
        if stated or source.info.sensor.row_rule == "ring":
            said["sensor.beams"] = str(source.info.sensor.beams)
    return said


def _check_values(scan: Scan, with_labels: bool, info: DatasetInfo) -> None:
    """Raise ValueError if the data set has no such label or beam, as both index arrays."""
    if with_labels and scan.labels is None:
        raise ValueError("its labels are missing")
    if scan.labels is not None:
        unknown = (scan.labels >= info.label_map.num_classes) & (scan.labels != IGNORE)
        if unknown.any():
            raise ValueError(f"a label is {scan.labels[unknown][0]}")
    if scan.ring is not None and not 0 <= scan.ring.min() <= scan.ring.max() < info.sensor.beams:
        raise ValueError(f"beams {scan.ring.min()} to {scan.ring.max()} of {info.sensor.beams}")
