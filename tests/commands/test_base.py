"""The frame of both commands: exit codes, one line per error, a quiet log, a lost stderr."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.commands.base import add_command, make_parser, run_command
from rangeseg.errors import CheckpointError, ConfigError, DataError

REPOSITORY = Path(__file__).parents[2]
WRITES_TO_STDERR = """
import argparse, logging, sys
from rangeseg.commands.base import run_command
from rangeseg.system.progress import Progress
from rangeseg.system.process import Terminated

def work(arguments):
    for number in range(3):
        Progress("train", 3, "step").update(3)
        logging.getLogger("rangeseg").warning("odd %d", number)
    print("done")
    sys.stdout.flush()
    if sys.argv[1] == "143":
        raise Terminated(15)
    return int(sys.argv[1])

parser = argparse.ArgumentParser()
parser.set_defaults(run=work)
sys.exit(run_command(parser, []))
"""
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")

Run = Callable[[argparse.Namespace], int]


def command(run: Run, *argv: str) -> int:
    parser = make_parser("tool", "A tool.", "tool go")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_command(commands, "go", run, summary="go there", example="tool go")
    return run_command(parser, argv)


def raising(error: BaseException) -> Run:
    def run(arguments: argparse.Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such name"), 2, "error: no such name\n"),
        (DataError("no such file"), 3, "error: no such file\n"),
        (CheckpointError("no such weights"), 3, "error: no such weights\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (
            ZeroDivisionError("by zero"),
            1,
            "error: unexpected ZeroDivisionError: by zero "
            "(run again with --debug for the traceback)\n",
        ),
        (BrokenPipeError(), 1, "error: the reader of the output has closed it (broken pipe)\n"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(raising(error), "go") == code
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", line)


@pytest.mark.parametrize("argv", [("--debug", "go"), ("go", "--debug")])
def test_debug_shows_the_traceback(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(raising(DataError("no such file")), *argv) == 3
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("\nerror: no such file\n")


@pytest.mark.parametrize(("argv", "code"), [((), 2), (("stay",), 2), (("go", "--help"), 0)])
def test_argparse_exits_by_itself(argv: tuple[str, ...], code: int) -> None:
    with pytest.raises(SystemExit) as end:
        command(lambda arguments: 0, *argv)
    assert end.value.code == code


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command(lambda arguments: 0, "--version")
    assert capsys.readouterr().out.startswith("tool 0.")


def test_log_lines_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: argparse.Namespace) -> int:
        log = logging.getLogger("rangeseg.geometry")
        log.debug("for developers")
        log.info("reading")
        for _ in range(3):
            log.warning("rows by inclination")
        log.error("odd")
        return 0

    # A library that sets the root logger up must not double the lines, nor must a second call.
    root_handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(root_handler)
    try:
        for _ in range(2):
            assert command(run, "go") == 0
            captured = capsys.readouterr()
            assert captured.out == ""
            assert captured.err == "reading\nwarning: rows by inclination\nerror: odd\n"
    finally:
        logging.getLogger().removeHandler(root_handler)
    assert not logging.getLogger("rangeseg").handlers
    assert logging.getLogger("rangeseg").propagate


def test_a_reader_that_leaves_early() -> None:
    code = (
        "import sys; from rangeseg.commands.base import make_parser, run_command\n"
        "parser = make_parser('tool', 'A tool.', 'tool go')\n"
        "parser.set_defaults(run=lambda arguments: [print('x' * 99) for _ in range(9999)] and 0)\n"
        "sys.exit(run_command(parser, []))"
    )
    done = subprocess.run(
        f"{sys.executable} -c \"$CODE\" | head -n 1",
        shell=True, env={"CODE": code, "PATH": "/usr/bin:/bin"}, cwd=REPOSITORY,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "x" * 99 + "\n"
    assert done.stderr == "error: the reader of the output has closed it (broken pipe)\n"


@needs_full
@pytest.mark.parametrize(
    ("stderr", "code"),
    [("2>/dev/full", 0), ("2>/dev/full", 143), ("2>&-", 3), ("2> >(exec true)", 3)],
)
def test_without_a_stderr_a_command_ends_with_its_own_code(stderr: str, code: int) -> None:
    """A log on a full disk, no stderr at all, a ``tee`` that has ended."""
    line = f'sleep 0.2; exec {sys.executable} -c "$0" {code}'
    done = subprocess.run(
        ["bash", "-c", f"exec {stderr}; {line}", WRITES_TO_STDERR], cwd=REPOSITORY,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "done\n")


@pytest.mark.slow
@needs_full
def test_without_a_stderr_a_training_goes_on(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--method", "supervised", "--labels", "10%", "--out", str(tmp_path / "run")]
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        code = main(["train", *tiny_config, *words])
        monkeypatch.undo()
    assert code == 0
    assert (tmp_path / "run" / "result.json").is_file()
