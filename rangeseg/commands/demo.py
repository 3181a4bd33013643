"""``rangeseg demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command


def add_demo(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    demo = add_command(
        commands, "demo", _demo,
        "simulate, train three networks on 1 %% of the labels, evaluate, draw (about 4 minutes)",
        "rangeseg demo",
    )  # fmt: skip
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: %(default)s")
    demo.add_argument("--steps", type=int, help="steps per training (default: 1200)")


def _demo(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.demo import run_demo

    print(run_demo(arguments.out, arguments.steps))
    return 0
