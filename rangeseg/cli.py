"""The parser of the ``rangeseg`` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rangeseg.commands.base import add_command, make_parser, run_command
from rangeseg.commands.compare import add_compare
from rangeseg.commands.config import add_show_config
from rangeseg.commands.evaluate import add_evaluate
from rangeseg.commands.predict import add_predict
from rangeseg.commands.report import add_report
from rangeseg.commands.train import add_train
from rangeseg.commands.view import add_view


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the words after ``rangeseg``; None takes those of the process.

    Returns:
        0 success, 1 unexpected, 2 usage or configuration, 3 data or checkpoint, 130 or 143
        interrupted after saving.
    """
    return run_command(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``rangeseg``, for a shell to complete by too."""
    parser = make_parser(
        "rangeseg",
        "Semi-supervised LiDAR segmentation in the range view.",
        "rangeseg demo",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = add_command(
        commands, "demo", _demo,
        "simulate, train two methods on 1 %% of the labels, evaluate, draw (3 to 7 minutes)",
        "rangeseg demo",
    )  # fmt: skip
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: %(default)s")
    demo.add_argument("--steps", type=int, help="of each training (default: 1200)")
    add_train(commands)
    add_evaluate(commands)
    add_predict(commands)
    add_compare(commands)
    add_report(commands)
    add_view(commands)
    add_show_config(commands)
    doctor = add_command(
        commands, "doctor", _doctor,
        "what this machine has of what rangeseg needs, and what to do about the rest",
        "rangeseg doctor",
    )  # fmt: skip
    doctor.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?",
        help="whose data are looked for (default: those of all configurations that are shipped)",
    )  # fmt: skip
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.demo import run_demo

    print(run_demo(arguments.out, arguments.steps))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.doctor import examine

    for line in examine(arguments.config):
        print(line, flush=True)
    return 0
