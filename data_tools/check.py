"""``rangeseg-data check``: what is wrong with a data set."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from data_tools.source import add_source, check_present, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import DataError, DataFault

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource
    from rangeseg.datasets.survey.check import Part, Tally

CULPRITS_SHOWN = 10
FAULTS: tuple[DataFault, ...] = get_args(DataFault)


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
        "--labels", metavar="FILE", type=Path,
        help="a labelled list: of the train split only its scans need labels",
    )  # fmt: skip
    check.add_argument(
        "--json", action="store_true", help="print one JSON document with all that was found"
    )
    check.add_argument(
        "--workers", type=int, metavar="N", help="threads (default: a few more than cores)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check a data set; exit code 3 if training or evaluation would fail."""
    from rangeseg.datasets.survey.check import Part, Problem, Tally

    source = open_source(arguments)
    try:
        parts = _check(source, arguments)
    except DataError as error:
        if not arguments.json:
            raise
        parts = [Part("none", "none", found=Tally(problems=[Problem(str(error), error.kind)]))]
    total = Tally()
    for part in parts:
        total.add(part.found)
    if arguments.json:
        print(json.dumps(_document(source, parts, total, arguments.deep), indent=2))
    else:
        _print_report(source, parts, total, arguments.deep)
    return DataError.exit_code if total.problems else 0


def _check(source: ScanSource, arguments: argparse.Namespace) -> list[Part]:
    from rangeseg.datasets.splits import check_split, read_split
    from rangeseg.datasets.survey.check import check_dataset

    check_present(source, "check")
    labelled = None
    if arguments.labels is not None:
        labelled = read_split(arguments.labels)
        try:
            check_split(labelled, source, arguments.labels)
        except DataError as error:
            # What is missing of the train split is a problem among others, if that is checked.
            if error.kind != "missing" or "train" not in (arguments.split or ["train"]):
                raise
    return check_dataset(source, arguments.split, arguments.deep, labelled, arguments.workers)


def _document(
    source: ScanSource, parts: Sequence[Part], total: Tally, deep: bool
) -> dict[str, Any]:
    """All that was found; what only a deep check counts is null in another one."""
    names = source.info.label_map.names
    return {
        "ok": not total.problems,
        "dataset": source.info.name,
        "root": str(source.root),
        "deep": deep,
        "totals": _counts(total, deep),
        "sequences": [
            {"split": part.split, "sequence": part.name, **_counts(part.found, deep)}
            for part in parts
        ],
        "class_points": {
            split: _named(points, names) for split, points in _by_split(parts).items()
        }
        if deep
        else None,
        "problems": [
            {
                "split": part.split, "sequence": part.name, "scan": problem.scan_id,
                "kind": problem.kind, "message": problem.message,
            }
            for part in parts for problem in part.found.problems
        ],
        "notes": [
            {"split": part.split, "sequence": part.name, "message": note}
            for part in parts for note in part.found.notes
        ],
    }  # fmt: skip


def _counts(found: Tally, deep: bool) -> dict[str, int | None]:
    return {
        "scans": found.scans,
        "labelled": found.labelled,
        "points": found.points,
        **{kind: found.count(kind) for kind in FAULTS},
        "nan_points": found.nan_points if deep else None,
        "empty_returns": found.empty_returns if deep else None,
    }


def _by_split(parts: Sequence[Part]) -> dict[str, list[int]]:
    """The points of every train id (256) in each split."""
    splits: dict[str, list[int]] = {}
    for part in parts:
        sums = splits.setdefault(part.split, [0] * len(part.found.class_points))
        splits[part.split] = [
            a + int(b) for a, b in zip(sums, part.found.class_points, strict=True)
        ]
    return splits


def _named(points: Sequence[int], names: Sequence[str]) -> dict[str, int]:
    """The points of every class by its name, and of what is ignored."""
    return {**dict(zip(names, points, strict=False)), "(ignored)": points[-1]}


def _print_report(source: ScanSource, parts: Sequence[Part], total: Tally, deep: bool) -> None:
    _print_counts(parts, total, deep)
    if deep:
        _print_classes(parts, source.info.label_map.names)
    _print_first("note", total.notes)
    _print_first("problem", [problem.message for problem in total.problems])
    print(f"problems: {len(total.problems) or 'none'}")


def _print_first(kind: str, lines: Sequence[str]) -> None:
    for line in lines[:CULPRITS_SHOWN]:
        print(f"{kind}: {line}")
    if len(lines) > CULPRITS_SHOWN:
        print(f"{kind}: ... {len(lines) - CULPRITS_SHOWN} more")


def _print_counts(parts: Sequence[Part], total: Tally, deep: bool) -> None:
    """A line for every sequence; a column is as wide as its widest cell."""
    counted = [_counts(part.found, deep) for part in parts] + [_counts(total, deep)]
    columns = [name for name, number in counted[-1].items() if number is not None]
    rows = [["split", "sequence", *columns]]
    places = [(part.split, part.name) for part in parts] + [("total", "")]
    for place, counts in zip(places, counted, strict=True):
        rows.append([*place, *(f"{counts[name]:,}" for name in columns)])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(f"{c:<{w}}" if i < 2 else f"{c:>{w}}" for i, (c, w) in enumerate(cells)))


def _print_classes(parts: Sequence[Part], names: Sequence[str]) -> None:
    """The share of every class among the labelled points of each split, in percent."""
    splits = {split: _named(points, names) for split, points in _by_split(parts).items()}
    width = max(len(name) for name in ("% of points", *names)) + 1
    print(f"{'% of points':<{width}}" + "".join(f"{split:>10}" for split in splits))
    for name in (*names, "(ignored)"):
        shares = (100 * points[name] / max(1, sum(points.values())) for points in splits.values())
        print(f"{name:<{width}}" + "".join(f"{share:>10.3f}" for share in shares))
