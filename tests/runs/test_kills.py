"""Real processes that are killed or told to stop, at any point: the same command completes them.

Afterwards every file is the same as that of a command that nobody stopped, weights bit for bit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from data_tools.cli import main as data_main
from rangeseg.cli import main

from .fingerprint import difference

STEPS = 12
SETTINGS = [
    f"train.steps={STEPS}", "train.log_every=2", "train.save_every=3",
    "methods.ael.ramp_start=0.2", "methods.pcr.ramp_start=0.2",
]  # fmt: skip
# A bank and no loader process; prototypes and two of them.
TRAININGS = {"ael": [], "pcr": ["--set", "train.workers=2"]}
TRIES = 5

Moment = Callable[[Path], bool]
"""Whether a command that writes to a place is where it shall be stopped."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the stopped processes have: sums are rounded in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def training(tiny_config: list[str]) -> Callable[[str], list[str]]:
    def words(method: str) -> list[str]:
        sets = [word for setting in SETTINGS for word in ("--set", setting)]
        return ["train", *tiny_config, *sets, *TRAININGS[method], "--method", method,
                "--labels", "10%", "--out"]  # fmt: skip

    return words


@pytest.fixture(scope="module")
def whole(
    training: Callable[[str], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")

    def run(method: str) -> Path:
        if not (folder / method).exists():
            assert main([*training(method), str(folder / method)]) == 0
        return folder / method

    return run


def stop(program: str, words: list[str], out: Path, moment: Moment, number: int) -> Path:
    """Start a command, send all its processes a signal at a moment; returns where it wrote."""
    start = f"import sys; from {program}.cli import main; sys.exit(main())"
    for attempt in range(TRIES):
        place = out / str(attempt) / "out"
        process = subprocess.Popen(
            [sys.executable, "-c", start, *words, str(place)], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # A shell that runs tests in the background hands down that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while process.poll() is None and not moment(place):
            time.sleep(0.0005)
        if stopped := process.poll() is None:
            os.killpg(process.pid, number)
        _, stderr = process.communicate(timeout=60)
        if stopped and number == signal.SIGKILL:
            return place
        if stopped and process.returncode == 128 + number:
            assert stderr.splitlines()[-1].startswith("stopped; ")
            assert str(place) in stderr.splitlines()[-1]
            assert "Traceback" not in stderr
            return place
    raise AssertionError(f"it ended {TRIES} times before its moment came")


def lines(run: Path) -> int:
    """How many of a run's steps are logged: every second one."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_a_step(run: Path) -> bool:
    return lines(run) >= 2


def in_a_checkpoint(run: Path) -> bool:
    return (run / "last.pt").exists() and (run / "last.pt.partial").exists()


def in_the_evaluation(run: Path) -> bool:
    return lines(run) == STEPS // 2 and not (run / "result.json").exists()


@pytest.mark.parametrize(
    ("method", "moment", "number"),
    [
        ("ael", in_a_step, signal.SIGKILL),
        *[
            pytest.param(method, moment, number, marks=pytest.mark.slow)
            for method, moment, number in [
                ("ael", in_a_step, signal.SIGINT),
                ("ael", in_a_checkpoint, signal.SIGKILL),
                ("ael", in_the_evaluation, signal.SIGKILL),
                ("pcr", in_a_step, signal.SIGKILL),
                ("pcr", in_a_step, signal.SIGTERM),
                ("pcr", in_a_checkpoint, signal.SIGKILL),
            ]
        ],
    ],
)
def test_a_training(
    method: str, moment: Moment, number: int, training: Callable[[str], list[str]],
    whole: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    run = stop("rangeseg", training(method), tmp_path, moment, number)
    assert main([*training(method), str(run), "--resume"]) == 0
    assert difference(whole(method), run) == ""


def between_two_files(out: Path) -> bool:
    return len(list(out.rglob("*.label"))) in (1, 2)


def in_the_archive(out: Path) -> bool:
    return out.with_name("out.zip.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (between_two_files, signal.SIGKILL),
        (between_two_files, signal.SIGINT),
        (in_the_archive, signal.SIGKILL),
    ],
)
def test_an_export(
    moment: Moment, number: int, whole: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ["predict", str(whole("ael")), "--zip", "--out"]
    assert main([*words, str(tmp_path / "whole" / "out")]) == 0
    out = stop("rangeseg", words, tmp_path, moment, number)
    assert main([*words, str(out), "--resume"]) == 0
    assert difference(tmp_path / "whole", out.parent) == ""


@pytest.mark.slow
def test_a_packing(simulated_root: Path, tmp_path: Path) -> None:
    words = ["pack", "simulated", str(simulated_root), "--out"]
    assert data_main([*words, str(tmp_path / "whole" / "out")]) == 0

    def half_written(out: Path) -> bool:
        partial = out.with_name("out.partial")
        return partial.exists() and partial.stat().st_size > 100_000

    out = stop("data_tools", words, tmp_path, half_written, signal.SIGKILL)
    if not out.exists():  # it may just have got its name
        assert data_main([*words, str(out)]) == 0
    assert difference(tmp_path / "whole", out.parent) == ""
