"""Which data set a command is about."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource


def add_source(parser: argparse.ArgumentParser) -> None:
    """The arguments DATASET and ROOT, for ``open_source``."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="semantic_kitti, scribble_kitti, nuscenes, simulated, or a configuration file (.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "root", metavar="ROOT", type=Path, nargs="?",
        help="the data's folder, or the file that `pack` made of it "
        "(default: dataset.root of the configuration file)",
    )  # fmt: skip


def open_source(arguments: argparse.Namespace) -> ScanSource:
    """The data set that the arguments name; nothing is read or made yet.

    Raises:
        ConfigError: no such data set, a wrong configuration, or a name without a root.
    """
    from rangeseg.datasets import open_dataset

    name, root = arguments.dataset, arguments.root
    if not name.endswith((".yaml", ".yml")):
        if root is None:
            raise ConfigError(f"data set {name}, but where? Write {name} ROOT")
        return open_dataset(name, root)
    from rangeseg.runs.config import load_config

    dataset = load_config(Path(name)).dataset
    return open_dataset(dataset.name, root or dataset.root, dataset.description)


def check_present(source: ScanSource, task: str) -> None:
    """For a command that must not begin to simulate, as listing a simulated data set does.

    Args:
        source: what it is about.
        task: what it does with it.

    Raises:
        DataError: there is nothing, or only a part of a simulation.
    """
    from rangeseg.datasets import missing_data
    from rangeseg.datasets.simulated import Simulated

    missing = missing_data(source)
    if missing:
        made = isinstance(source, Simulated)
        remedy = f"; `rangeseg-data simulate {source.root}` makes it" if made else ""
        raise DataError(f"{source.root} {missing}: there is nothing to {task}{remedy}", "missing")
