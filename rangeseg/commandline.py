"""The frame of both commands: help texts, logging, errors as one line, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from rangeseg import __version__
from rangeseg.errors import RangesegError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``parser.add_subparsers(required=True)`` returns."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The parser of a whole command, with ``--version`` and ``--debug``."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    _add_debug(parser)
    return parser


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a subcommand; its own arguments are added to what is returned.

    Args:
        commands: what ``parser.add_subparsers(required=True)`` returned.
        name: how it is called.
        run: what it does; returns the exit code. Heavy imports belong inside, so that ``--help``
            is instant.
        summary: one line for both help pages.
        example: command lines, shown below the options.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_debug(parser)
    parser.set_defaults(run=run)
    return parser


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, run ``arguments.run(arguments)``, and turn every error into one line on stderr.

    Args:
        parser: its arguments, or those of its subcommands, set ``run``.
        argv: the words after the command's name; None takes those of the process.

    Returns:
        The exit code: that of ``run``, of the RangesegError, 130 after Ctrl-C, or 1 for an error
        nobody foresaw. A traceback is shown with ``--debug`` only.

    Raises:
        SystemExit: argparse's own, 0 after ``--help`` and 2 for wrong usage.
    """
    arguments = parser.parse_args(argv)
    debug = getattr(arguments, "debug", False)
    with _logging_to_stderr(logging.DEBUG if debug else logging.INFO):
        try:
            code = int(arguments.run(arguments))
            sys.stdout.flush()
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
        except RangesegError as error:
            code = _report(str(error), error.exit_code, debug)
        except BrokenPipeError:  # the reader of stdout, often ``| head``, has left
            code = _report("nobody reads the output any more (broken pipe)", 1, debug)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            hint = "" if debug else " (run again with --debug for the traceback)"
            code = _report(f"unexpected {type(error).__name__}: {error}{hint}", 1, debug)
    return code


def _add_debug(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: otherwise the subcommand's default overwrites a --debug that stands before it.
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error, and more of the log",
    )


def _report(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


class _LineFormatter(logging.Formatter):
    """Plain text; from warnings on, the level stands in front: ``warning: ...``."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class _StderrHandler(logging.Handler):
    """Writes lines above a progress bar, and each warning once."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_LineFormatter())
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.levelno == logging.WARNING:
                if text in self._warned:
                    return
                self._warned.add(text)
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    """Send the log of rangeseg to stderr, and only there, while a command runs."""
    logger = logging.getLogger("rangeseg")
    before = logger.level, logger.propagate
    handler = _StderrHandler()
    logger.addHandler(handler)
    # Libraries (the nuScenes devkit among them) may configure the root logger, which would print
    # every line a second time.
    logger.propagate = False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
