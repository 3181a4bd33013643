"""``rangeseg-data split``: draw lists of labelled scans, import published ones, or check some."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource

DRAWING = ("seed", "strategy", "block")


class _List(NamedTuple):
    ids: list[str]
    comment: str
    about: str  # said of it


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
        help="check these lists, say which published ones they are, and write them in our format",
    )  # fmt: skip
    what.add_argument(
        "--check", nargs="+", metavar="FILE", type=Path, dest="checked",
        help="the same, but write nothing",
    )  # fmt: skip
    split.add_argument("--out", metavar="DIR", type=Path, help="where lists are written")
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
    _check_usage(arguments)
    source = open_source(arguments)
    if arguments.labels is not None:
        _draw(source, arguments)
    elif arguments.imported is not None:
        _import(source, arguments.imported, arguments.out)
    else:
        lists = _read(source, arguments.checked)
        for path, labelled in lists.items():
            print(f"{path}: {_share(source, labelled)}; {_origin(labelled)}")
        _print_nesting(lists)
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
        raise ConfigError("lists are made but where are they written? Add --out DIR")
    if arguments.checked is not None and arguments.out is not None:
        raise ConfigError("--check writes nothing: leave --out away, or --import the lists")


def _draw(source: ScanSource, arguments: argparse.Namespace) -> None:
    from rangeseg.datasets.splits import (
        draw_sequences,
        draw_uniform,
        format_ratio,
        labelled_by_sequence,
        parse_ratio,
    )

    seed, block = arguments.seed or 0, arguments.block
    strategy = arguments.strategy or "uniform"
    how = strategy if block is None else f"{strategy}_block{block}"
    options = (
        f"--strategy {strategy}" if block is None else f"--strategy {strategy} --block {block}"
    )
    sequences = labelled_by_sequence(source)
    lists: dict[Path, _List] = {}
    for ratio in map(parse_ratio, arguments.labels):
        slug = format_ratio(ratio).replace("%", "pct")
        path = arguments.out / f"{source.info.name}_{how}_{slug}_seed{seed}.txt"
        if strategy == "sequence":
            labelled = draw_sequences(sequences, ratio, seed, block)
        else:
            labelled = draw_uniform([i for ids in sequences.values() for i in ids], ratio, seed)
        share = _share(source, labelled)
        comment = (
            f"{source.info.name}: {share}\n"
            f"drawn by: rangeseg-data split --labels {format_ratio(ratio)} {options} --seed {seed}"
        )
        lists[path] = _List(labelled, comment, share)
    _write(lists)


def _import(source: ScanSource, files: Sequence[Path], out: Path) -> None:
    targets: dict[Path, Path] = {}
    for file in files:
        target = out / f"{Path(file.name.removesuffix('.gz')).stem}.txt"
        if target in targets:
            raise ConfigError(
                f"{targets[target]} and {file} would both become {target}: rename one of them"
            )
        targets[target] = file
    found = _read(source, files)
    lists: dict[Path, _List] = {}
    for target, file in targets.items():
        labelled = sorted(found[file])
        share, origin = _share(source, labelled), _origin(labelled)
        comment = f"{source.info.name}: {share}\nimported from {file.name}: {origin}"
        lists[target] = _List(labelled, comment, f"{share}; {origin}")
    _write(lists)
    _print_nesting(found)


def _read(source: ScanSource, files: Iterable[Path]) -> dict[Path, list[str]]:
    """The lists, all of them sound."""
    from rangeseg.datasets.splits import check_split, read_split

    lists = {}
    for file in files:
        lists[file] = read_split(file)
        check_split(lists[file], source, file)
    return lists


def _write(lists: Mapping[Path, _List]) -> None:
    """All or none; one that is there with the same scans, as after a kill, stays."""
    from rangeseg.datasets.splits import read_split, write_split

    present = [path for path in lists if path.exists()]
    for path in present:
        if read_split(path) != lists[path].ids:
            raise ConfigError(
                f"{path} exists and is not overwritten, for it names other scans: choose another "
                "--out"
            )
    for path, new in lists.items():
        if path not in present:
            write_split(path, new.ids, new.comment)
        print(f"{path}: {new.about}{', there already' if path in present else ''}")


def _share(source: ScanSource, labelled: Sequence[str]) -> str:
    from rangeseg.datasets.splits import count_with_unlabelled_neighbour

    total, candidates = len(source.scan_ids("train")), len(source.labelled_ids("train"))
    few = "" if candidates == total else f", {candidates} have labels"
    return (
        f"{len(labelled)} of {total} training scans labelled ({len(labelled) / total:.2%}{few}), "
        f"{count_with_unlabelled_neighbour(source, labelled)} with an unlabelled neighbour in time"
    )


def _origin(labelled: Sequence[str]) -> str:
    from rangeseg.datasets.split_files import published_name

    return published_name(labelled) or "no published list known here"


def _print_nesting(lists: Mapping[Path, Sequence[str]]) -> None:
    """Which list is part of which; of every two, the shorter one comes first."""
    by_length = sorted(lists, key=lambda path: len(lists[path]))
    for few, many in combinations(by_length, 2):
        shared = len(set(lists[few]) & set(lists[many]))
        if shared == len(lists[few]):
            print(f"{few} is nested in {many}")
        else:
            print(
                f"{few} is not nested in {many}, which has {shared} of its {len(lists[few])} scans"
            )
