"""The words of ``rangeseg compare`` and ``rangeseg report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rangeseg.commands.base import Commands, add_command, add_config, add_device, interrupted_code


def add_comparisons(commands: Commands) -> None:
    """Add both commands.

    Args:
        commands: what ``parser.add_subparsers(required=True)`` returned.
    """
    compare = add_command(
        commands, "compare", _compare,
        "train methods on several ratios and seeds, what is missing of them, then report",
        "rangeseg compare configs/simulated.yaml --labels 1% 10% --seeds 5 --split test",
    )  # fmt: skip
    add_config(compare)
    compare.add_argument(
        "--methods", metavar="METHOD", nargs="+", default=["all"],
        help="trained beside supervised plain and supervised strong (default: all)",
    )  # fmt: skip
    compare.add_argument(
        "--labels", metavar="RATIO|FILE", nargs="+", required=True, help="as for train, any number"
    )
    compare.add_argument(
        "--seeds", metavar="N", type=int, nargs="+", default=[5],
        help="seeds 0 to N-1; one number, or one for each of --labels (default: 5)",
    )  # fmt: skip
    compare.add_argument("--split", help="default: evaluate.split of the configuration")
    compare.add_argument("--jobs", type=int, help="runs at a time (default: one per core or GPU)")
    compare.add_argument(
        "--out", type=Path, default=Path("runs/compare"), help="default: %(default)s"
    )
    add_device(compare)
    _add_report_files(compare)

    report = add_command(
        commands, "report", _report,
        "compare runs: mean ± std over seeds, gain over the supervised runs",
        "rangeseg report runs/simulated --split test --html report.html",
    )  # fmt: skip
    report.add_argument("folders", metavar="RUNS", type=Path, nargs="+", help="searched for runs")
    report.add_argument("--split", default="val", help="default: %(default)s")
    _add_report_files(report)


def _add_report_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write a page with plots")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="also write one line per run")


def _compare(arguments: argparse.Namespace) -> int:
    from rangeseg.engine.trainer import Interrupted
    from rangeseg.errors import ConfigError, DataError
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.jobs import find_places, train_missing
    from rangeseg.runs.plan import plan_comparison
    from rangeseg.runs.trained import read_result

    check_report_files([arguments.html, arguments.csv])  # not after hours of training
    places = find_places(arguments.device, arguments.jobs)
    runs = plan_comparison(
        arguments.config, arguments.overrides, arguments.methods, arguments.labels,
        arguments.seeds, arguments.split, arguments.out,
    )  # fmt: skip
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--out {arguments.out} cannot be made ({error.strerror}): choose another folder"
        ) from None
    try:
        failed = train_missing(runs, places)
    except Interrupted as stop:
        print(f"stopped; {arguments.out} is saved: the same command goes on", file=sys.stderr)
        return interrupted_code(stop)
    results = [read_result(run.result) for run in runs if run not in failed]
    if results:
        _show_report(results, arguments)
    if failed:
        lines = [f"{run.title}: {fault} (see {run.log})" for run, fault in failed.items()]
        head = f"{len(failed)} of {len(runs)} runs failed; the same command tries them again:"
        raise DataError("\n  ".join([head, *lines]))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from rangeseg.errors import DataError
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.trained import read_result, result_path

    check_report_files([arguments.html, arguments.csv])
    name = result_path(Path(), arguments.split).name
    for folder in arguments.folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: name those that hold runs")
    found = {path.resolve() for f in arguments.folders for path in f.rglob("result*.json")}
    paths = sorted(path for path in found if path.name == name)
    if not paths:
        places = ", ".join(str(folder) for folder in arguments.folders)
        others = sorted({p.stem.removeprefix("result").removeprefix("_") or "val" for p in found})
        remedy = "train and evaluate runs first"
        if others:
            remedy = f"there are results of {', '.join(others)}: name one with --split"
        raise DataError(f"no {name} in {places}: {remedy}")
    _show_report([read_result(path) for path in paths], arguments)
    return 0


def _show_report(results: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    from rangeseg.report.tables import report, results_csv, write_report

    print(report(results))
    if arguments.html is not None:
        from rangeseg.report.page import report_page

        write_report(arguments.html, report_page(results))
        print(f"\npage: {arguments.html}")
    if arguments.csv is not None:
        write_report(arguments.csv, results_csv(results))
        print(f"\ntable: {arguments.csv}")
