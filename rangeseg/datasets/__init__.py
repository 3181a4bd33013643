"""One file per data set: its quirks live there and nowhere else."""

from __future__ import annotations

from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import unknown_name

DATASETS: dict[str, type[SemanticKitti]] = {
    "semantic_kitti": SemanticKitti,
    "simulated": Simulated,
}


def open_dataset(name: str, root: Path) -> ScanSource:
    """A data set by name.

    Raises:
        ConfigError: no such data set.
        DataError: the root is not such a data set.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, list(DATASETS))
    return DATASETS[name](root)
