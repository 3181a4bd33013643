"""Train and evaluate planned runs in parallel, each in its own processes."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.config import load_run_config
from rangeseg.runs.folder import CONFIG, result_path
from rangeseg.runs.trained import read_result
from rangeseg.system.device import choose_device
from rangeseg.system.distributed import end_with_parent
from rangeseg.system.process import Interrupted, collected_signals, cores

POLL_SECONDS = 0.2
ONE_SIGNAL_SECONDS = 1.0
"""Sooner signals count as the same one: ``timeout`` and others send theirs twice."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """A run with a result, now or later.

    Attributes:
        title: ``cps, 10%, seed 0``.
        folder: folder of the run.
        split: the split of the result.
        begun_split: the split that the run evaluates after its training; differs from ``split`` if
            an earlier comparison began the run.
        root: root of the data.
        train: arguments of ``rangeseg`` to begin or resume the training.
    """

    title: str
    folder: Path
    split: str
    begun_split: str
    root: Path
    train: tuple[str, ...]

    @property
    def result(self) -> Path:
        """The file of the result."""
        return result_path(self.folder, self.split)

    @property
    def log(self) -> Path:
        """The log of its processes."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def next_words(self) -> tuple[str, ...] | None:
        """The next command of this run, without ``rangeseg``; None once the result exists."""
        if self.result.is_file():
            return None
        if result_path(self.folder, self.begun_split).is_file() and self._has_data():
            return ("evaluate", str(self.folder), "--split", self.split)
        return self.train

    def _has_data(self) -> bool:
        """Whether its folder has the current root of the data; resuming writes it there."""
        return load_run_config(self.folder / CONFIG).dataset.root == self.root


@dataclass(frozen=True)
class Place:
    """A slot for one run at a time.

    Attributes:
        device: value of ``--device``.
        environment: variables added to this process's.
    """

    device: str
    environment: Mapping[str, str]


def find_places(device: str, jobs: int | None) -> list[Place]:
    """Make slots for parallel runs.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` (all GPUs) or ``cuda:N``.
        jobs: runs at a time; None takes one per GPU, or one per core without a GPU.

    Returns:
        One place per job. On a CPU each always has one thread: small networks are fastest so, and
        results do not depend on the number of jobs.

    Raises:
        ConfigError: no such device, or a wrong number.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: give a number from 1 on")
    chosen = choose_device(device)
    if chosen.type == "cpu":
        return [Place("cpu", {"OMP_NUM_THREADS": "1"})] * (jobs or cores())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = [str(number) for number in range(torch.cuda.device_count())]
    if visible is not None:
        gpus = visible.split(",")[: len(gpus)]
    if chosen.index is not None:
        gpus = [gpus[chosen.index]]
    return [
        Place("cuda", {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]})
        for job in range(jobs or len(gpus))
    ]


def train_missing(
    runs: Sequence[PlannedRun], places: Sequence[Place], show: Callable[[], None] = lambda: None
) -> dict[PlannedRun, str]:
    """Train and evaluate the runs without a result, each in its own process.

    A run that fails does not stop the others. After SIGINT or SIGTERM the processes save and end;
    a second signal kills them. None of them outlives this call.

    Args:
        runs: runs in the order of starting.
        places: slots; each takes one process at a time.
        show: called several times a second, to show the progress.

    Returns:
        The failed runs, each with its error message.

    Raises:
        Interrupted: after the processes have ended.
    """
    waiting = deque(run for run in runs if run.next_words() is not None)
    done, signals_seen = len(runs) - len(waiting), 0
    logger.info(
        "%d runs, %d of them finished before; %d at a time on %s",
        len(runs), done, len(places), places[0].device,
    )  # fmt: skip
    free = list(reversed(places))
    children: list[_Child] = []
    failed: dict[PlannedRun, str] = {}
    with collected_signals(ONE_SIGNAL_SECONDS) as received:
        try:
            while children or (waiting and not received):
                while waiting and free and not received:
                    run = waiting.popleft()
                    words = run.next_words()
                    if words is None:  # another process has finished it
                        done += 1
                        continue
                    logger.info("started %s", run.title)
                    try:
                        children.append(_Child(run, words, free[-1]))
                        free.pop()
                    except OSError as error:  # a full disk must not end the others
                        reason = error.strerror or error
                        failed[run] = f"it did not start, or {run.log} cannot be written ({reason})"
                        logger.warning("%s failed: %s", run.title, failed[run])
                        done += 1
                time.sleep(POLL_SECONDS)
                if len(received) > signals_seen:
                    signals_seen = len(received)
                    _stop(children, kill=signals_seen > 1)
                for child in [c for c in children if c.process.poll() is not None]:
                    children.remove(child)
                    free.append(child.place)
                    fault = child.fault()
                    if child.needs_another():
                        waiting.appendleft(child.run)
                    elif fault is None:
                        done += 1
                        logger.info("finished %s (%d of %d)", child.summary(), done, len(runs))
                    elif not received:
                        done += 1
                        failed[child.run] = fault
                        logger.warning("%s failed: %s", child.run.title, fault)
                show()
        finally:
            _stop(children, kill=True)
    if received:
        raise Interrupted(received[0])
    return failed


def raise_failed(failed: Mapping[PlannedRun, str], count: int) -> None:
    """Raise an error that names the failed runs.

    Args:
        failed: result of ``train_missing``.
        count: number of all runs.

    Raises:
        DataError: a run failed.
    """
    if failed:
        lines = [f"{run.title}: {fault} (see {run.log})" for run, fault in failed.items()]
        head = f"{len(failed)} of {count} runs failed; the same command tries them again:"
        raise DataError("\n  ".join([head, *lines]))


class _Child:
    """A process that trains or evaluates a run.

    It leads its own session, so Ctrl-C in a terminal reaches only the parent. The parent
    then sends SIGTERM, and the child saves.

    Raises:
        OSError: its log cannot be written, or it does not start.
    """

    def __init__(self, run: PlannedRun, words: tuple[str, ...], place: Place) -> None:
        self.run, self.place, self._words = run, place, words
        self._started = time.monotonic()
        run.log.parent.mkdir(parents=True, exist_ok=True)
        with run.log.open("ab") as log:
            log.write(f"$ rangeseg {shlex.join(words)}\n".encode())
            log.flush()
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rangeseg", *words, "--device", place.device],
                env={**os.environ, **place.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def needs_another(self) -> bool:
        """Whether it succeeded, and its run needs another command."""
        return self.process.returncode == 0 and self.run.next_words() not in (None, self._words)

    def fault(self) -> str | None:
        """The fault in one line; None without one."""
        if self.run.result.is_file():
            return None
        code = self.process.returncode
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        with self.run.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error:")]
        return (errors or lines or [f"exit code {code} without a word"])[-1]

    def summary(self) -> str:
        miou = read_result(self.run.result)["miou"]["point"]
        seconds = time.monotonic() - self._started
        return f"{self.run.title}: point mIoU {miou:.2f} on {self.run.split}, {seconds:.0f} s"

    def stop(self, kill: bool) -> None:
        """Let it save and end, or kill it with its loader workers and wait for it."""
        if not kill:
            # Signal only the process: a dead loader worker would cost the last step.
            self.process.terminate()
        elif self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _stop(children: Sequence[_Child], kill: bool) -> None:
    if children and not kill:
        logger.info("stopping %d runs, which save first (again to kill them)", len(children))
    for child in children:
        child.stop(kill)
