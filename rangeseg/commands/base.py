"""The frame of both commands: help texts, logging, errors as one line, exit codes."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypeAlias, cast

from rangeseg import __version__
from rangeseg.errors import LostProcessError, RangesegError
from rangeseg.system.process import Terminated, keep_freed_memory

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What ``parser.add_subparsers(required=True)`` returns."""


def make_parser(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """The parser of a whole command, with ``--version`` and ``--debug``.

    Args:
        program: how it is called.
        description: one line.
        example: a command line, shown below the options.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        summary: one line for both help pages, a per cent sign written twice.
        example: command lines, shown below the options.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary % (),  # which argparse does for help alone
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_debug(parser)
    parser.set_defaults(run=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG and ``--set``."""
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a YAML file, see configs/")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
        help="change a setting, e.g. --set train.steps=2000 (again for more)",
    )  # fmt: skip


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (%(default)s)")


def add_on_bad_scan(parser: argparse.ArgumentParser) -> None:
    """Add ``--on-bad-scan``."""
    parser.add_argument(
        "--on-bad-scan", choices=("fail", "skip"),
        help="skip: report a scan that cannot be read and leave it out, up to 1 %% of all "
        "(default: dataset.on_bad_scan, which is fail)",
    )  # fmt: skip


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, run ``arguments.run(arguments)``, and turn every error into one line on stderr.

    Args:
        parser: its arguments, or those of its subcommands, set ``run``.
        argv: the words after the command's name; None takes those of the process.

    Returns:
        The exit code: that of ``run``, of the RangesegError, 130 after Ctrl-C, 143 after SIGTERM,
        or 1 for an error nobody foresaw. A traceback is shown with ``--debug`` only.

    Raises:
        SystemExit: argparse's own, 0 after ``--help`` and 2 for wrong usage.
    """
    with _speaking("LOCAL_RANK"):  # each machine may have been given other words
        arguments = parser.parse_args(argv)
    keep_freed_memory()
    debug = getattr(arguments, "debug", False)
    level = logging.DEBUG if debug else logging.INFO
    with _speaking("RANK") as stderr, _logging_to_stderr(level), _terminable():
        try:
            code = int(arguments.run(arguments))
            sys.stdout.flush()
        except KeyboardInterrupt as stop:
            print("interrupted", file=sys.stderr)
            code = interrupted_code(stop)
        except LostProcessError as error:
            said = error.spoken_for
            code = 1 if said else _report(str(error), error.exit_code, debug, stderr)
        except RangesegError as error:
            code = _report(str(error), error.exit_code, debug, stderr)
        except BrokenPipeError:  # the reader of stdout, often ``| head``, has left
            code = _report("nobody reads the output any more (broken pipe)", 1, debug, stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            hint = "" if debug else " (run again with --debug for the traceback)"
            code = _report(f"unexpected {type(error).__name__}: {error}{hint}", 1, debug, stderr)
    return code


def interrupted_code(stop: KeyboardInterrupt) -> int:
    """The exit code after a signal, as shells expect it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(stop.args[0] if stop.args else signal.SIGINT)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: otherwise the subcommand's default overwrites a --debug that stands before it.
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error, and more of the log",
    )


def _report(message: str, code: int, debug: bool, stderr: TextIO) -> int:
    if debug:
        traceback.print_exc(file=stderr)
    print(f"error: {message}", file=stderr)
    return code


@contextmanager
def _speaking(number: str) -> Iterator[TextIO]:
    """Silence all but the first of the processes that torchrun started.

    Args:
        number: the variable that numbers them: ``RANK``, or ``LOCAL_RANK`` on each machine anew.

    Yields:
        Where errors are said: one of its own, each process must be able to say. That nobody can
        hear it is no error.
    """
    with heard_or_not(sys.stderr) as stderr:
        if os.environ.get(number, "0") == "0":
            with redirect_stderr(stderr):
                yield stderr
            return
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            yield stderr


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it can say how to go on."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():  # only there Python allows it
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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


class _Unheard:
    """A stream to which everything can be written, even what its listener cannot take.

    A terminal that was closed, a ``| tee`` that Ctrl-C has ended, a log on a full disk: none of
    them is a reason to end days of work, or to end it without saving.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def heard_or_not(stream: TextIO | None) -> Iterator[TextIO]:
    """The same stream, but that it cannot be written to is no error.

    Args:
        stream: stderr; None where a process has none.
    """
    if stream is None:
        with open(os.devnull, "w") as nothing:
            yield nothing
        return
    try:
        yield cast(TextIO, _Unheard(stream))
    finally:
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let what is left go nowhere: Python would try once more, and end with a code of its own."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()
