"""``rangeseg-data split``: draw lists of labelled scans, or check one."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.source import add_source, open_source
from rangeseg.commandline import Commands, add_command
from rangeseg.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    split = add_command(
        commands, "split", run,
        summary="draw lists of labelled scans, or check one",
        example=(
            "rangeseg-data split semantic_kitti data/semantic_kitti "
            "--labels 1% 10% 20% 50% --out lists\n"
            "  rangeseg-data split semantic_kitti data/semantic_kitti --check lists/mine.txt"
        ),
    )  # fmt: skip
    add_source(split)
    what = split.add_mutually_exclusive_group(required=True)
    what.add_argument("--labels", nargs="+", metavar="RATIO", help="draw lists: 1%% 10%% 0.5 ...")
    what.add_argument("--check", metavar="FILE", type=Path, help="check this list instead")
    split.add_argument("--out", metavar="DIR", type=Path, help="where drawn lists are written")
    split.add_argument("--seed", type=int, default=0, help="another seed, other lists (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Draw labelled lists, or check an existing one."""
    from rangeseg.datasets.splits import (
        check_split,
        draw_uniform,
        format_ratio,
        parse_ratio,
        read_split,
        write_split,
    )

    source = open_source(arguments)
    if arguments.check is not None:
        labelled = read_split(arguments.check)
        check_split(labelled, source, arguments.check)
        total = len(source.scan_ids("train"))
        print(f"{arguments.check}: {_share(len(labelled), total)}: fits {source.info.name}")
        return 0

    if arguments.out is None:
        raise ConfigError("--labels draws lists but not where to: add --out DIR")
    seed = arguments.seed
    paths = {}
    for text in arguments.labels:
        ratio = parse_ratio(text)
        slug = format_ratio(ratio).replace("%", "pct")
        paths[ratio] = arguments.out / f"{source.info.name}_uniform_{slug}_seed{seed}.txt"
    if taken := [path for path in paths.values() if path.exists()]:  # before any is written
        raise ConfigError(f"{taken[0]} exists and is not overwritten: choose another --out")
    train = source.scan_ids("train")
    for ratio, path in paths.items():
        labelled = draw_uniform(train, ratio, seed)
        share = _share(len(labelled), len(train))
        write_split(
            path,
            labelled,
            f"{source.info.name}: {share}\n"
            f"drawn by: rangeseg-data split --labels {format_ratio(ratio)} --seed {seed}",
        )
        print(f"{path}: {share}")
    return 0


def _share(labelled: int, total: int) -> str:
    return f"{labelled} of {total} training scans labelled ({labelled / total:.2%})"
