"""The ``rangeseg-data`` command: check, split, simulate. Parses, calls, prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.commandline import add_command, make_parser, run_command
from rangeseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from data_tools.check import Part

CULPRITS_SHOWN = 10

SIMULATION_OPTIONS = {
    "seed": "another seed, other streets",
    "train-scans": "scans of the train split",
    "val-scans": "scans of the val split",
    "test-scans": "scans of the test split",
    "beams": "lasers of the sensor: rows of the range image",
    "columns": "firings in one turn: columns of the range image",
}


def main(argv: list[str] | None = None) -> int:
    """Run ``rangeseg-data``; returns the exit code."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("rangeseg-data", "Prepare data for rangeseg: check, split, simulate.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = add_command(
        commands, "check", run_check,
        summary="check every scan and label file of a data set",
        example="rangeseg-data check semantic_kitti data/semantic_kitti --split train val",
    )  # fmt: skip
    _add_source(check)
    check.add_argument("--split", nargs="+", metavar="NAME", help="only these splits")
    check.add_argument(
        "--deep", action="store_true", help="read every point and label, not only the file sizes"
    )
    check.add_argument(
        "--labels", metavar="FILE",
        help="a labelled list: of the train split only its scans need labels",
    )  # fmt: skip

    split = add_command(
        commands, "split", run_split,
        summary="draw lists of labelled scans, or check one",
        example=(
            "rangeseg-data split semantic_kitti data/semantic_kitti "
            "--labels 1% 10% 20% 50% --out lists\n"
            "  rangeseg-data split semantic_kitti data/semantic_kitti --check lists/mine.txt"
        ),
    )  # fmt: skip
    _add_source(split)
    what = split.add_mutually_exclusive_group(required=True)
    what.add_argument("--labels", nargs="+", metavar="RATIO", help="draw lists: 1%% 10%% 0.5 ...")
    what.add_argument("--check", metavar="FILE", type=Path, help="check this list instead")
    split.add_argument("--out", metavar="DIR", type=Path, help="where drawn lists are written")
    split.add_argument("--seed", type=int, default=0, help="another seed, other lists (default: 0)")

    simulate = add_command(
        commands, "simulate", run_simulate,
        summary="make a simulated data set in SemanticKITTI's layout",
        example="rangeseg-data simulate data/simulated --train-scans 200 --workers 2",
    )  # fmt: skip
    simulate.add_argument("root", metavar="ROOT", type=Path, help="the folder that is made")
    for option, text in SIMULATION_OPTIONS.items():
        simulate.add_argument(f"--{option}", type=int, metavar="N", help=text)
    simulate.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="semantic_kitti, simulated, ...")
    parser.add_argument("root", metavar="ROOT", type=Path, help="the folder above sequences/")


def run_check(arguments: argparse.Namespace) -> int:
    """Check a data set; exit code 3 if training or evaluation would fail."""
    from data_tools.check import check_dataset
    from rangeseg.datasets import open_dataset
    from rangeseg.datasets.splits import check_split, read_split

    source = open_dataset(arguments.dataset, arguments.root)
    if not arguments.root.is_dir():  # a simulated data set would be made here, not checked
        raise DataError(f"{arguments.root} is not a folder: there is nothing to check")
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


def run_split(arguments: argparse.Namespace) -> int:
    """Draw labelled lists, or check an existing one."""
    from rangeseg.datasets import open_dataset
    from rangeseg.datasets.splits import (
        check_split,
        draw_uniform,
        format_ratio,
        parse_ratio,
        read_split,
        write_split,
    )

    source = open_dataset(arguments.dataset, arguments.root)
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


def run_simulate(arguments: argparse.Namespace) -> int:
    """Make a simulated data set."""
    from pydantic import ValidationError

    from rangeseg.simulation.generate import SimulationSettings, generate_dataset

    given = {
        option.replace("-", "_"): value
        for option in SIMULATION_OPTIONS
        if (value := getattr(arguments, option.replace("-", "_"))) is not None
    }
    try:
        settings = SimulationSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise ConfigError(f"{option} {first['input']}: {first['msg']}") from None
    generate_dataset(arguments.root, settings, arguments.workers)
    print(f"{arguments.root}: simulated data set written")
    return 0


def _share(labelled: int, total: int) -> str:
    return f"{labelled} of {total} training scans labelled ({labelled / total:.2%})"


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


if __name__ == "__main__":
    sys.exit(main())
