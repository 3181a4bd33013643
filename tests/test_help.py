"""The help of every command: at once, and with an example that can be copied."""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys

import pytest

import data_tools.cli
import rangeseg.cli

PARSERS = {"rangeseg": rangeseg.cli.build_parser, "rangeseg-data": data_tools.cli.build_parser}


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)


@pytest.mark.parametrize("program", sorted(PARSERS))
def test_every_help_has_an_example_that_can_be_copied(program: str) -> None:
    parser = PARSERS[program]()
    pages = {"": parser, **subcommands(parser)}
    for command, page in pages.items():
        text = page.format_help().partition("\nexample:\n")[2].partition("\n\n")[0]
        examples = [shlex.split(line) for line in text.splitlines()]
        assert examples, f"{program} {command}"
        assert examples[0][: 2 if command else 1] == [program, command][: 2 if command else 1]
        for called, *words in examples:
            ends = [words.index(">")] if ">" in words else []
            PARSERS[called]().parse_args(words[: min(ends, default=None)])  # or SystemExit


@pytest.mark.parametrize("command", ["", *subcommands(rangeseg.cli.build_parser())])
def test_help_takes_less_than_a_third_of_a_second(command: str) -> None:
    """Of the processor: what else the machine does is not ours."""
    words = [sys.executable, "-m", "rangeseg", *command.split(), "--help"]

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3
