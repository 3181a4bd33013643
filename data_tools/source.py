"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the arguments DATASET and ROOT, for ``open_source``."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="semantic_kitti, scribble_kitti, nuscenes, simulated, or a configuration file (.yaml)",
    )  # fmt: skip
    parser.add_argument(
        "root", metavar="ROOT", type=Path, nargs="?",
        help="the data's folder, or its packed file from `pack` "
        "(default: dataset.root of the configuration file)",
    )  # fmt: skip


def open_source(arguments: argparse.Namespace) -> ScanSource:
    """Open the data set that the arguments name; nothing is read yet.

    Raises:
        ConfigError: no such data set, a wrong configuration, or a name without a root.
    """
    from rangeseg.datasets import open_dataset

    name, root = arguments.dataset, arguments.root
    if not name.endswith((".yaml", ".yml")):
        if root is None:
            raise ConfigError(
                f"missing ROOT: give the data's folder, e.g. `rangeseg-data check {name} ROOT`"
            )
        if name == "custom":
            here = shlex.quote(str(root))
            raise ConfigError(
                f"scans of your own need a description: `rangeseg-data stats custom {here} > "
                "mine.yaml` writes one, then give mine.yaml in place of `custom "
                f"{here}`"
            )
        return open_dataset(name, root)
    from rangeseg.runs.config import load_config

    dataset = load_config(Path(name)).dataset
    return open_dataset(dataset.name, root or dataset.root, dataset.description)
