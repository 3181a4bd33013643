"""``rangeseg report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rangeseg.commands.base import Commands, add_command, add_corrupt


def add_report(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    report = add_command(
        commands, "report", _report,
        "compare runs: mean ± std over seeds, gain over the supervised runs",
        "rangeseg report runs/simulated --split test --html report.html",
    )  # fmt: skip
    report.add_argument(
        "folders", metavar="RUNS", type=Path, nargs="+", help="folders with runs, or a --csv file"
    )
    report.add_argument("--split", default="val", help="default: %(default)s")
    add_corrupt(report, "results on corrupted scans")
    add_report_files(report)


def add_report_files(parser: argparse.ArgumentParser) -> None:
    """Add ``--html`` and ``--csv``."""
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write a page with plots")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="also write one line per run")


def _report(arguments: argparse.Namespace) -> int:
    from rangeseg.datasets.corruption import parse_corruption
    from rangeseg.errors import DataError
    from rangeseg.report.from_csv import read_results_csv
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.folder import result_path, result_words
    from rangeseg.runs.trained import read_result

    check_report_files([arguments.html, arguments.csv])
    corruption = None if arguments.corrupt is None else parse_corruption(arguments.corrupt)
    name = result_path(Path(), arguments.split, corruption).name
    files = [path for path in arguments.folders if path.is_file()]
    results = [result for path in files for result in read_results_csv(path)]
    for folder in arguments.folders:
        if folder not in files and not folder.is_dir():
            raise DataError(f"{folder} is not a folder: name those that hold runs")
    found = {path.resolve() for f in arguments.folders for path in f.rglob("result*.json")}
    paths = sorted(path for path in found if path.name == name)
    if not paths and not results:
        places = ", ".join(str(folder) for folder in arguments.folders)
        others = sorted({result_words(path) or "--split val" for path in found})
        remedy = "train and evaluate runs first"
        if others:
            remedy = f"there are results of {', '.join(others)}: name one of these"
        raise DataError(f"no {name} in {places}: {remedy}")
    print_report(results + [read_result(path) for path in paths], arguments)
    return 0


def print_report(results: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print a report and write the files that ``--html`` and ``--csv`` name.

    Args:
        results: content of each run's ``result.json``.
        arguments: parsed arguments with ``html`` and ``csv``.
    """
    from rangeseg.report.tables import report, results_csv, write_report

    print(report(results))
    if arguments.html is not None:
        from rangeseg.report.page import report_page

        write_report(arguments.html, report_page(results))
        print(f"\npage: {arguments.html}")
    if arguments.csv is not None:
        write_report(arguments.csv, results_csv(results))
        print(f"\ntable: {arguments.csv}")
