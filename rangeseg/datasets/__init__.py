"""Data sets, one module each, which alone handles the data set's quirks."""

from __future__ import annotations

import os
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.packed.source import Packed
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import ConfigError, unknown_name

DATASETS: dict[str, type[ScanSource]] = {
    "semantic_kitti": SemanticKitti,
    "scribble_kitti": ScribbleKitti,
    "nuscenes": NuScenes,
    "simulated": Simulated,
    "custom": Custom,
}


def open_dataset(name: str, root: Path, description: Description | None = None) -> ScanSource:
    """Open a data set by name; nothing is read yet.

    Args:
        name: a key of DATASETS.
        root: the data set's folder or packed file.
        description: required for ``custom``, refused for any other.

    Raises:
        ConfigError: no such data set, or a description that is missing or superfluous.
        DataError: the root is not such a data set.
    """
    source = _open_folder(name, root, description)
    return Packed(root, name, source) if os.path.isfile(root) else source


def key_of(source: ScanSource) -> str:
    """The key of DATASETS for an open data set."""
    if isinstance(source, Packed):
        return source.name
    return next(name for name, kind in DATASETS.items() if type(source) is kind)


def _open_folder(name: str, root: Path, description: Description | None) -> ScanSource:
    if name not in DATASETS:
        raise unknown_name("data set", name, list(DATASETS))
    if name != "custom":
        if description is not None:
            raise ConfigError(f"dataset.description is for 'custom' only: {name} knows its own")
        return DATASETS[name](root)
    if description is None:
        raise ConfigError(
            "data set 'custom' needs dataset.description: give the configuration file that holds "
            "it instead of the name (configs/custom_example.yaml shows one)"
        )
    return Custom(root, description)
