"""``rangeseg-data check``: what is wrong with a data set."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.source import add_source, open_source
from rangeseg.commandline import Commands, add_command
from rangeseg.errors import DataError

if TYPE_CHECKING:
    from rangeseg.datasets.check import Part

CULPRITS_SHOWN = 10


def add(commands: Commands) -> None:
    """Add the command."""
    check = add_command(
        commands, "check", run,
        summary="check every scan and label file of a data set",
        example="rangeseg-data check semantic_kitti data/semantic_kitti --split train val",
    )  # fmt: skip
    add_source(check)
    check.add_argument("--split", nargs="+", metavar="NAME", help="only these splits")
    check.add_argument(
        "--deep", action="store_true", help="read every point and label, not only the file sizes"
    )
    check.add_argument(
        "--labels", metavar="FILE",
        help="a labelled list: of the train split only its scans need labels",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Check a data set; exit code 3 if training or evaluation would fail."""
    from rangeseg.datasets.check import check_dataset
    from rangeseg.datasets.splits import check_split, read_split

    source = open_source(arguments)
    if not source.root.is_dir():  # a simulated data set would be made here, not checked
        raise DataError(f"{source.root} is not a folder: there is nothing to check")
    labelled = None
    if arguments.labels is not None:
        labelled = read_split(Path(arguments.labels))
        check_split(labelled, source, Path(arguments.labels))
    parts = check_dataset(source, arguments.split, arguments.deep, labelled)

    _print_parts(parts)
    if arguments.deep:
        _print_classes(parts, source.info.label_map.names)
    problems = [problem for part in parts for problem in part.problems]
    _print_first("note", [note for part in parts for note in part.notes])
    _print_first("problem", problems)
    print(f"problems: {len(problems) or 'none'}")
    return DataError.exit_code if problems else 0


def _print_first(kind: str, lines: Sequence[str]) -> None:
    for line in lines[:CULPRITS_SHOWN]:
        print(f"{kind}: {line}")
    if len(lines) > CULPRITS_SHOWN:
        print(f"{kind}: ... {len(lines) - CULPRITS_SHOWN} more")


def _print_parts(parts: Sequence[Part]) -> None:
    print(f"{'split':<7}{'sequence':<10}{'scans':>7}{'labelled':>10}{'points':>15}{'problems':>10}")
    for part in parts:
        print(
            f"{part.split:<7}{part.name:<10}{len(part.scan_ids):>7}{part.labelled:>10}"
            f"{part.points:>15,}{len(part.problems):>10}"
        )
    print(
        f"{'total':<17}{sum(len(part.scan_ids) for part in parts):>7}"
        f"{sum(part.labelled for part in parts):>10}{sum(part.points for part in parts):>15,}"
        f"{sum(len(part.problems) for part in parts):>10}"
    )


def _print_classes(parts: Sequence[Part], names: Sequence[str]) -> None:
    """The share of every class among the labelled points of each split, in percent."""
    splits = list(dict.fromkeys(part.split for part in parts))
    columns = {s: [p.counts for p in parts if p.split == s] for s in splits}
    totals = {s: [sum(int(c[i]) for c in columns[s]) for i in range(256)] for s in splits}
    print(f"{'% of points':<18}" + "".join(f"{split:>10}" for split in splits))
    for index, name in [*enumerate(names), (255, "(ignored)")]:
        shares = (100 * totals[s][index] / max(1, sum(totals[s])) for s in splits)
        print(f"{name:<18}" + "".join(f"{share:>10.3f}" for share in shares))
    empty, points = sum(p.empty_returns for p in parts), sum(p.points for p in parts)
    print(f"empty returns (NaN or 0, 0, 0): {empty:,} of {points:,} points")
