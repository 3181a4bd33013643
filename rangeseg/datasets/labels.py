"""Raw ids of a data set <-> train ids of the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.kernel import kernel

IGNORE = 255
"""Train id of what is neither learnt nor evaluated."""

_UNKNOWN = 254
_TABLE_SIZE = 1 << 16
_CLASS = np.uint32(_TABLE_SIZE - 1)  # the instance stands in the upper half
_NO_RAW_ID = (1 << 32) - 1


class LabelMap:
    """A checked, table-driven map between raw ids and train ids.

    Args:
        names: K class names in the order of the train ids.
        colours: K colours as (red, green, blue) in 0..255.
        raw_to_train: raw id -> train id, or IGNORE, for every raw id that may occur. The first of a
            class is the one that predictions are written as.
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
            self._to_train[raw] = train
        ignored = [raw for raw, train in raw_to_train.items() if train == IGNORE]
        self._to_raw = np.full(IGNORE + 1, _NO_RAW_ID, dtype=np.uint32)
        for raw, train in reversed(self.raw_to_train.items()):
            self._to_raw[train] = raw
        self._to_raw[IGNORE] = min(ignored, default=_NO_RAW_ID)

    @property
    def num_classes(self) -> int:
        """K, without the ignored ones."""
        return len(self.names)

    def to_train(self, raw_labels: np.ndarray, where: str = "labels") -> np.ndarray:
        """Train ids of raw ids.

        Args:
            raw_labels: (N,) unsigned integers; the class is in the lower 16 bits.
            where: what the message calls the labels, usually the file.

        Returns:
            (N,) uint8 in 0..K-1 or IGNORE.

        Raises:
            DataError: an id that the data set does not define.
        """
        labels = np.empty(raw_labels.shape, dtype=np.uint8)
        if _look_up(raw_labels, self._to_train, labels):
            ids = raw_labels.astype(np.uint16)
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

    def to_raw(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) uint32 of train ids (N,) in 0..K-1; IGNORE becomes the lowest ignored id.

        Raises:
            ConfigError: a label is IGNORE and the data set ignores no id.
        """
        raw: np.ndarray = self._to_raw[labels]
        if (raw == _NO_RAW_ID).any():
            raise ConfigError(
                "withheld labels have no raw id to be written as: the data set ignores none; "
                "name one under ignored_ids"
            )
        return raw


@kernel
def _look_up(raw_labels: np.ndarray, table: np.ndarray, labels: np.ndarray) -> bool:
    """Fill in the train ids, in one pass, and say whether one of them is unknown."""
    unknown = False
    for i in range(raw_labels.shape[0]):
        label = table[raw_labels[i] & _CLASS]
        labels[i] = label
        unknown |= label == _UNKNOWN
    return unknown
