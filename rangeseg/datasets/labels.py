"""Map raw ids of a data set to train ids of the network and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.kernel import kernel

IGNORE = 255
"""Train id of points that are neither trained nor evaluated."""

_UNKNOWN = 254
_TABLE_SIZE = 1 << 16
_CLASS = np.uint32(_TABLE_SIZE - 1)  # the upper half holds the instance
_NO_RAW_ID = (1 << 32) - 1
_NO_WIDE_ID = np.iinfo(np.int64).min


class LabelMap:
    """A checked, table-driven map between raw ids and train ids.

    Args:
        names: K class names in the order of the train ids.
        colours: K colours as (red, green, blue) in 0..255.
        raw_to_train: raw id -> train id, or IGNORE, for every raw id that may occur. Predictions
            are written as a class's first id. Ids below 0 and above 65535 need labels whose whole
            value is the class; see ``classes_of``.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        colours: tuple[tuple[int, int, int], ...],
        raw_to_train: Mapping[int, int],
    ) -> None:
        assert len(names) == len(colours) < _UNKNOWN
        self.names, self.colours = names, np.array(colours, dtype=np.uint8)
        self.raw_to_train = dict(raw_to_train)
        self._to_train = np.full(_TABLE_SIZE, _UNKNOWN, dtype=np.uint8)
        for raw, train in raw_to_train.items():
            if 0 <= raw < _TABLE_SIZE:
                self._to_train[raw] = train
        ordered = sorted(raw_to_train)
        self._ids = np.array(ordered, dtype=np.int64)
        self._train_of_ids = np.array([raw_to_train[raw] for raw in ordered], dtype=np.uint8)
        ignored = [raw for raw, train in raw_to_train.items() if train == IGNORE]
        narrow = all(0 <= raw < _NO_RAW_ID for raw in ordered)
        self._no_raw_id = _NO_RAW_ID if narrow else _NO_WIDE_ID
        dtype = np.uint32 if narrow else np.int64
        self._to_raw = np.full(IGNORE + 1, self._no_raw_id, dtype=dtype)
        for raw, train in reversed(self.raw_to_train.items()):
            self._to_raw[train] = raw
        self._to_raw[IGNORE] = min(ignored, default=self._no_raw_id)

    @property
    def num_classes(self) -> int:
        """Number K of classes, without ignored ones."""
        return len(self.names)

    def to_train(self, raw_labels: np.ndarray, where: str = "labels") -> np.ndarray:
        """Train ids of raw ids.

        Args:
            raw_labels: (N,) integers; see ``classes_of``.
            where: name of the labels in the message, usually the file.

        Returns:
            (N,) uint8 in 0..K-1 or IGNORE.

        Raises:
            DataError: an id that the data set does not define.
        """
        if _has_instances(raw_labels):
            labels = np.empty(raw_labels.shape, dtype=np.uint8)
            any_unknown = bool(_look_up(raw_labels, self._to_train, labels))
        else:
            labels = self._search(raw_labels)
            any_unknown = bool((labels == _UNKNOWN).any())
        if any_unknown:
            ids = classes_of(raw_labels)
            unknown, counts = np.unique(ids[labels == _UNKNOWN], return_counts=True)
            shown = ", ".join(
                f"{i} ({n} points)" for i, n in zip(unknown[:5], counts, strict=False)
            )
            raise DataError(
                f"{where}: unknown raw id {shown}; the data set defines "
                f"{len(self.raw_to_train)} ids from {min(self.raw_to_train)} to "
                f"{max(self.raw_to_train)}: check that these labels belong to it",
                kind="unknown_id",
            )
        return labels

    def _search(self, raw_labels: np.ndarray) -> np.ndarray:
        """Train ids (N,) uint8 of labels (N,) whose whole value is the class."""
        raw_labels = raw_labels.astype(np.int64, copy=False)
        place = np.searchsorted(self._ids, raw_labels)
        place[place == len(self._ids)] = 0
        known = self._ids[place] == raw_labels
        return np.where(known, self._train_of_ids[place], np.uint8(_UNKNOWN))

    def to_raw(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) of train ids (N,) in 0..K-1; IGNORE becomes the lowest ignored id.

        The type is uint32, or int64 if uint32 cannot hold all ids.

        Raises:
            ConfigError: a label is IGNORE and the data set ignores no id.
        """
        raw: np.ndarray = self._to_raw[labels]
        if (raw == self._no_raw_id).any():
            raise ConfigError(
                "withheld labels have no raw id to be written as: the data set ignores none; "
                "name one under ignored_ids"
            )
        return raw


def classes_of(raw_labels: np.ndarray) -> np.ndarray:
    """The class (N,) in raw labels (N,): the upper half of 32 bits may hold an instance.

    It is the lower 16 bits of unsigned labels up to 32 bits, and the whole value of all others.
    """
    return raw_labels.astype(np.uint16) if _has_instances(raw_labels) else raw_labels


def _has_instances(raw_labels: np.ndarray) -> bool:
    return bool(raw_labels.dtype.kind == "u" and raw_labels.dtype.itemsize <= 4)


@kernel
def _look_up(raw_labels: np.ndarray, table: np.ndarray, labels: np.ndarray) -> bool:
    """Fill in the train ids in one pass; return whether one of them is unknown."""
    unknown = False
    for i in range(raw_labels.shape[0]):
        label = table[raw_labels[i] & _CLASS]
        labels[i] = label
        unknown |= label == _UNKNOWN
    return unknown
