"""``rangeseg-data split``: draw lists of labelled scans, import published ones, or check some."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from rangeseg.datasets.survey.lists import NewList

DRAWING = ("seed", "strategy", "block")


def add(commands: Commands) -> None:
    """Add the command."""
    split = add_command(
        commands, "split", run,
        summary="draw lists of labelled scans, import published ones, or check some",
        example=(
            "rangeseg-data split semantic_kitti data/semantic_kitti "
            "--labels 1% 10% 20% 50% --out lists\n"
            "  rangeseg-data split semantic_kitti data/semantic_kitti "
            "--import semantickitti_1pct.txt --out lists\n"
            "  rangeseg-data split semantic_kitti data/semantic_kitti --check lists/*.txt"
        ),
    )  # fmt: skip
    add_source(split)
    what = split.add_mutually_exclusive_group(required=True)
    what.add_argument("--labels", nargs="+", metavar="RATIO", help="draw lists: 1%% 10%% 0.5 ...")
    what.add_argument(
        "--import", nargs="+", metavar="FILE", type=Path, dest="imported",
        help="check these lists (text, or mmdetection3d's .pkl infos), recognise published ones, "
        "and write them in the toolkit's format",
    )  # fmt: skip
    what.add_argument(
        "--check", nargs="+", metavar="FILE", type=Path, dest="checked",
        help="like --import, but write nothing",
    )  # fmt: skip
    split.add_argument("--out", metavar="DIR", type=Path, help="output folder of the lists")
    split.add_argument("--seed", type=int, metavar="N", help="another seed, other lists [0]")
    split.add_argument(
        "--strategy", choices=("uniform", "sequence"),
        help="single scans, or whole sequences so that few labelled scans have an almost equal "
        "unlabelled neighbour [uniform]",
    )  # fmt: skip
    split.add_argument(
        "--block", type=int, metavar="N",
        help="with --strategy sequence: stretches of N successive scans, not whole sequences",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Draw, import or check labelled lists."""
    from rangeseg.datasets.splits import parse_ratio
    from rangeseg.datasets.survey.lists import (
        draw_lists,
        import_lists,
        nesting_lines,
        origin_line,
        read_lists,
        share_line,
    )

    _check_usage(arguments)
    source = open_source(arguments)
    if arguments.labels is not None:
        ratios = [parse_ratio(text) for text in arguments.labels]
        seed, strategy = arguments.seed or 0, arguments.strategy or "uniform"
        _write(draw_lists(source, ratios, arguments.out, seed, strategy, arguments.block))
        return 0
    found = read_lists(source, arguments.imported or arguments.checked)
    if arguments.imported is not None:
        _write(import_lists(source, found, arguments.out))
    else:
        for path, labelled in found.items():
            print(f"{path}: {share_line(source, labelled)}; {origin_line(labelled)}")
    for line in nesting_lines(found):
        print(line)
    return 0


def _check_usage(arguments: argparse.Namespace) -> None:
    if arguments.labels is None:
        if given := [name for name in DRAWING if getattr(arguments, name) is not None]:
            raise ConfigError(f"--{given[0]} is for drawing lists: leave it out, or add --labels")
    elif arguments.block is not None:
        if arguments.strategy != "sequence":
            raise ConfigError(f"--block {arguments.block} needs --strategy sequence")
        if arguments.block < 1:
            raise ConfigError(f"--block {arguments.block} is no number of scans: give 1 or more")
    if arguments.checked is None and arguments.out is None:
        raise ConfigError("missing --out: give the folder for the lists")
    if arguments.checked is not None and arguments.out is not None:
        raise ConfigError("--check writes nothing: leave --out away, or --import the lists")


def _write(lists: Mapping[Path, NewList]) -> None:
    from rangeseg.datasets.survey.lists import write_lists

    present = write_lists(lists)
    for path, new in lists.items():
        print(f"{path}: {new.about}{', there already' if path in present else ''}")
