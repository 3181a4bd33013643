"""``rangeseg config``."""

from __future__ import annotations

import argparse

from rangeseg.commands.base import Commands, add_command, add_config


def add_show_config(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    config = add_command(
        commands, "config", _config,
        "check a configuration and print it with every default written out",
        "rangeseg config configs/simulated.yaml --set train.steps=2000",
    )  # fmt: skip
    add_config(config)


def _config(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.config import load_config

    print(load_config(arguments.config, arguments.overrides).resolved(), end="")
    return 0
