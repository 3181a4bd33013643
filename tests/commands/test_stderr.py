"""Nobody listens any more: the work goes on, and its exit code is its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from rangeseg.cli import main

REPOSITORY = Path(__file__).parents[2]
COMMAND = """
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


@needs_full
@pytest.mark.parametrize("code", [0, 3, 143])
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exec true)"])
def test_a_command_ends_with_its_own_code(stderr: str, code: int) -> None:
    """A log on a full disk, no stderr at all, a ``tee`` that has ended."""
    line = f'sleep 0.2; exec {sys.executable} -c "$0" {code}'
    done = subprocess.run(
        ["bash", "-c", f"exec {stderr}; {line}", COMMAND], cwd=REPOSITORY, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, "done\n")


@pytest.mark.slow
@needs_full
def test_a_training_goes_on(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--method", "supervised", "--labels", "10%", "--out", str(tmp_path / "run")]
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        code = main(["train", *tiny_config, *words])
        monkeypatch.undo()
    assert code == 0
    assert (tmp_path / "run" / "result.json").is_file()
