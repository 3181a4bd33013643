"""``rangeseg-data check``: find the faults of a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import DataError

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource
    from rangeseg.datasets.survey.check import Part


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
        help="a labelled list: in the train split only its scans need labels",
    )  # fmt: skip
    check.add_argument(
        "--json", action="store_true", help="print all findings as one JSON document"
    )
    check.add_argument(
        "--workers", type=int, metavar="N", help="threads (default: a few more than cores)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check a data set; exit code 3 if training or evaluation would fail."""
    from rangeseg.datasets.survey.check import Part, Problem, Tally
    from rangeseg.datasets.survey.report import check_document, check_lines

    source = open_source(arguments)
    try:
        parts = _check(source, arguments)
    except DataError as error:
        if not arguments.json:
            raise
        parts = [Part("none", "none", found=Tally(problems=[Problem(str(error), error.kind)]))]
    if arguments.json:
        print(json.dumps(check_document(source, parts, arguments.deep), indent=2))
    else:
        for line in check_lines(source, parts, arguments.deep):
            print(line)
    return DataError.exit_code if any(part.found.problems for part in parts) else 0


def _check(source: ScanSource, arguments: argparse.Namespace) -> list[Part]:
    from rangeseg.datasets.split_files import check_split, read_split
    from rangeseg.datasets.survey.check import check_dataset

    labelled = None
    if arguments.labels is not None:
        labelled = read_split(arguments.labels)
        try:
            check_split(labelled, source, arguments.labels)
        except DataError as error:
            # If the train split is checked, its missing scans are reported with the other problems.
            if error.kind != "missing" or "train" not in (arguments.split or ["train"]):
                raise
    return check_dataset(source, arguments.split, arguments.deep, labelled, arguments.workers)
