"""``rangeseg compare``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rangeseg.commands.base import Commands, add_command, add_config, add_device, interrupted_code
from rangeseg.commands.report import add_report_files, print_report


def add_compare(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    compare = add_command(
        commands, "compare", _compare,
        "train methods on several ratios and seeds, skip finished runs, then report",
        "rangeseg compare configs/simulated.yaml --labels 1% 10% --seeds 5 --split test",
    )  # fmt: skip
    add_config(compare)
    compare.add_argument(
        "--methods", metavar="METHOD", nargs="+", default=["all"],
        help="methods, trained on the configuration's labelled branch, next to supervised plain, "
        "strong and that branch (default: all)",
    )  # fmt: skip
    compare.add_argument(
        "--labels", metavar="RATIO|FILE", nargs="+", required=True, help="as for train, one or more"
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
    add_report_files(compare)


def _compare(arguments: argparse.Namespace) -> int:
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.jobs import find_places, raise_failed, train_missing
    from rangeseg.runs.plan import plan_comparison
    from rangeseg.runs.trained import read_result
    from rangeseg.system.files import writable
    from rangeseg.system.process import Interrupted

    check_report_files([arguments.html, arguments.csv])  # check before hours of training
    places = find_places(arguments.device, arguments.jobs)
    runs = plan_comparison(
        arguments.config, arguments.overrides, arguments.methods, arguments.labels,
        arguments.seeds, arguments.split, arguments.out,
    )  # fmt: skip
    with writable(arguments.out, "choose another --out"):
        arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        failed = train_missing(runs, places)
    except Interrupted as stop:
        print(f"stopped; {arguments.out} is saved: the same command goes on", file=sys.stderr)
        return interrupted_code(stop)
    results = [read_result(run.result) for run in runs if run not in failed]
    if results:
        print_report(results, arguments)
    raise_failed(failed, len(runs))
    return 0
