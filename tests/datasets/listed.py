"""A data set that only knows its ids, and those of SemanticKITTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError

# Scans of the official sequences 00 to 10.
LENGTHS = (4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201)
TRAIN = [f"{s:02d}/{i:06d}" for s, n in enumerate(LENGTHS) if s != 8 for i in range(n)]
VAL = [f"08/{i:06d}" for i in range(LENGTHS[8])]


class Listed(SemanticKitti):
    """A split is one sequence."""

    info = replace(SemanticKitti.info, name="listed")

    def __init__(self, ids: Mapping[str, Sequence[str]]) -> None:
        super().__init__(Path("data/listed"))
        self.ids = {name: list(listed) for name, listed in ids.items()}
        self.SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",)}  # type: ignore[misc]
        self.without_labels: set[str] = set()

    def sequence_ids(self, sequence: str) -> list[str]:
        if sequence not in self.ids:
            raise DataError(f"{sequence} is missing")
        return list(self.ids[sequence])

    def needs_labels(self, scan_id: str) -> bool:
        return scan_id not in self.without_labels
