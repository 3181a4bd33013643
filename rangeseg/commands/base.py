"""Shared parts of both commands: help, logging, one-line errors, exit codes."""

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
"""The return type of ``parser.add_subparsers(required=True)``."""


def make_parser(program: str, description: str, example: str) -> argparse.ArgumentParser:
    """Make the parser of a whole command, with ``--version`` and ``--debug``.

    Args:
        program: name of the command.
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
    """Add a subcommand and return its parser, to which it adds arguments.

    Args:
        commands: result of ``parser.add_subparsers(required=True)``.
        name: name of the subcommand.
        run: runs it and returns the exit code. Put heavy imports inside, so that ``--help`` is
            instant.
        summary: one line for both help pages, a per cent sign written twice.
        example: command lines, shown below the options.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary % (),  # argparse formats only help
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


def add_backend(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend", choices=("auto", "torch", "onnxruntime", "openvino"), default=default,
        help="library that runs the network; auto: OpenVINO for 20 scans or more on a CPU, if "
        "installed, else torch (default: %(default)s)",
    )  # fmt: skip


def add_on_bad_scan(parser: argparse.ArgumentParser) -> None:
    """Add ``--on-bad-scan``."""
    parser.add_argument(
        "--on-bad-scan", choices=("fail", "skip"),
        help="skip: report unreadable scans and leave them out, up to 1 %% of all "
        "(default: dataset.on_bad_scan, which is fail)",
    )  # fmt: skip


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Add ``--tta``."""
    parser.add_argument(
        "--tta", metavar="N", type=int,
        help="test-time augmentation: average N views of each scan, N times slower (default: "
        "evaluate.tta of the run, which is 1)",
    )  # fmt: skip


def add_corrupt(parser: argparse.ArgumentParser, use: str, more: str = "") -> None:
    """Add ``--corrupt``.

    Args:
        parser: parser of the command.
        use: purpose of the option, for its help.
        more: further values that the command takes.
    """
    parser.add_argument(
        "--corrupt", metavar="WHAT",
        help=f"{use}: beams:N (keep each Nth beam), points:P (drop a share P of the points), "
        f"noise:M (M metres of noise along the ray), intensity (set to 0){more}",
    )  # fmt: skip


def add_picture(parser: argparse.ArgumentParser) -> None:
    """Add ``--picture``."""
    parser.add_argument(
        "--picture", metavar="FILE", type=Path,
        help="also draw the confusion matrix, the mIoU by distance and the reliability curve (PNG)",
    )  # fmt: skip


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, run ``arguments.run(arguments)``, and turn every error into one line on stderr.

    Args:
        parser: a parser whose arguments, or subcommands, set ``run``.
        argv: arguments after the command's name; None takes the process's.

    Returns:
        The exit code: from ``run`` or from the RangesegError, 130 after Ctrl-C, 143 after SIGTERM,
        or 1 for an unexpected error. Only ``--debug`` shows a traceback.

    Raises:
        SystemExit: from argparse, 0 after ``--help`` and 2 for wrong usage.
    """
    with _speaking("LOCAL_RANK"):  # the arguments may differ between machines
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
            code = _report("the reader of the output has closed it (broken pipe)", 1, debug, stderr)
            _discard(sys.stdout)
        except Exception as error:
            hint = "" if debug else " (run again with --debug for the traceback)"
            code = _report(f"unexpected {type(error).__name__}: {error}{hint}", 1, debug, stderr)
    return code


def interrupted_code(stop: KeyboardInterrupt) -> int:
    """The exit code after a signal, as shells expect it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + int(stop.args[0] if stop.args else signal.SIGINT)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: otherwise the subcommand's default overwrites a --debug before its name.
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


class _Stderr:
    """A stderr that ignores write errors.

    A closed terminal, an ended ``| tee`` or a full disk must not end days of training.
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
def _speaking(number: str) -> Iterator[TextIO]:
    """Ignore errors of stderr, and silence all but the first process that torchrun started.

    Args:
        number: the variable with the process number: ``RANK``, or ``LOCAL_RANK`` on each machine.

    Yields:
        The stderr of this process, for its own errors, silent or not.
    """
    if sys.stderr is None:  # closed by the caller: ``2>&-``
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    stream = sys.stderr
    stderr = cast(TextIO, _Stderr(stream))
    try:
        if os.environ.get(number, "0") == "0":
            with redirect_stderr(stderr):
                yield stderr
        else:
            with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
                yield stderr
    finally:
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Discard the rest of a stream; otherwise Python tries to flush it at exit, and fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it can print how to resume."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _StderrHandler(logging.Handler):
    """Writes lines above a progress bar; shows the level of warnings and errors, warnings once."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.levelno == logging.WARNING:
            if text in self._warned:
                return
            self._warned.add(text)
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    """Send the log of rangeseg to stderr, and only there, while a command runs."""
    logger = logging.getLogger("rangeseg")
    before = logger.level, logger.propagate
    handler = _StderrHandler()
    logger.addHandler(handler)
    # The nuScenes devkit configures the root logger, which would print every line again.
    logger.propagate = False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
