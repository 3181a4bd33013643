"""The ``rangeseg-data`` command: one file per subcommand."""

from __future__ import annotations

import argparse
import sys

from data_tools import (
    check,
    import_scans,
    index,
    pack,
    poses,
    propagate,
    scribble,
    simulate,
    split,
    stats,
)
from rangeseg.commands.base import make_parser, run_command

COMMANDS = (check, import_scans, split, index, pack, poses, propagate, scribble, simulate, stats)


def main(argv: list[str] | None = None) -> int:
    """Run ``rangeseg-data``; returns the exit code."""
    return run_command(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``rangeseg-data``; shell completion uses it too."""
    parser = make_parser(
        "rangeseg-data",
        "Prepare data for rangeseg.",
        "rangeseg-data check semantic_kitti data/semantic_kitti",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
