"""The parser of the ``rangeseg`` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rangeseg.commands.base import make_parser, run_command
from rangeseg.commands.compare import add_compare
from rangeseg.commands.config import add_show_config
from rangeseg.commands.demo import add_demo
from rangeseg.commands.doctor import add_doctor
from rangeseg.commands.evaluate import add_evaluate
from rangeseg.commands.export import add_export
from rangeseg.commands.import_weights import add_import_weights
from rangeseg.commands.predict import add_predict
from rangeseg.commands.report import add_report
from rangeseg.commands.score import add_score
from rangeseg.commands.train import add_train
from rangeseg.commands.view import add_view


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments after ``rangeseg``; None takes the process's.

    Returns:
        0 success, 1 unexpected, 2 usage or configuration, 3 data or checkpoint, 130 or 143
        interrupted after saving.
    """
    return run_command(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``rangeseg``; shell completion uses it too."""
    parser = make_parser(
        "rangeseg",
        "Semi-supervised LiDAR segmentation in the range view.",
        "rangeseg demo",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_demo(commands)
    add_train(commands)
    add_evaluate(commands)
    add_predict(commands)
    add_export(commands)
    add_score(commands)
    add_compare(commands)
    add_report(commands)
    add_view(commands)
    add_show_config(commands)
    add_import_weights(commands)
    add_doctor(commands)
    return parser
