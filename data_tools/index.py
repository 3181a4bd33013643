"""``rangeseg-data index``: list the scans of a data set that its own tables describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.commands.base import Commands, add_command

if TYPE_CHECKING:
    from rangeseg.datasets.nuscenes.index import Index


def add(commands: Commands) -> None:
    """Add the command."""
    index = add_command(
        commands, "index", run,
        summary="list the scans of nuScenes, once, for training without its devkit",
        example=(
            "rangeseg-data index nuscenes data/nuscenes --version v1.0-trainval\n"
            "  rangeseg-data index nuscenes /readonly/nuscenes --out data/nuscenes"
        ),
    )  # fmt: skip
    index.add_argument(
        "dataset", metavar="DATASET", choices=["nuscenes"], help="nuscenes; no other has an index"
    )
    index.add_argument(
        "root", metavar="ROOT", type=Path,
        help="the data's folder: holds v1.0-trainval, samples, lidarseg",
    )  # fmt: skip
    index.add_argument(
        "--version", metavar="NAME",
        help="v1.0-trainval, v1.0-mini or v1.0-test (default: the only one in ROOT)",
    )  # fmt: skip
    index.add_argument(
        "--out", metavar="DIR", type=Path,
        help="output folder, the dataset.root of later commands (default: ROOT)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Build an index, write it, and print its content."""
    from rangeseg.datasets.nuscenes.index import index_path, write_index
    from rangeseg.datasets.nuscenes.tables import build_index, only_version

    root, folder = arguments.root, arguments.out or arguments.root
    version = arguments.version or only_version(root)
    index = build_index(root, version)
    was_there = index_path(folder, version).exists()
    path = write_index(index, folder)
    print(f"{path}: {'rewritten' if was_there else 'written'}")
    _print_splits(index)
    return 0


def _print_splits(index: Index) -> None:
    print(f"{'split':<12}{'scenes':>8}{'scans':>8}")
    for split in dict.fromkeys(scene.split for scene in index.scenes.values()):
        scenes = [scene for scene in index.scenes.values() if scene.split == split]
        print(f"{split:<12}{len(scenes):>8}{sum(len(scene.scans) for scene in scenes):>8}")
