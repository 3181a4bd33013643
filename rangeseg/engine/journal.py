"""What a training writes down of each step, and whether all of it is still a number."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rangeseg.engine.processes import process_number
from rangeseg.errors import CheckpointError, ConfigError, RangesegError
from rangeseg.files import write_file
from rangeseg.methods.distributed import all_reduce_sum, num_processes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"

_NEVER = 1 << 62


def training_seconds(run: Path) -> float | None:
    """How long a run has trained, interruptions left out; None if its metrics are lost."""
    try:
        return float(json.loads((run / METRICS).read_text().splitlines()[-1])["seconds"])
    except (OSError, ValueError, LookupError):
        return None


class Watch:
    """Finds the first step in which a loss or a gradient was no longer finite.

    It looks at every step and says so only when asked: to ask would wait for the GPU.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._first: Tensor | None = None  # (terms,) int64

    def look(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Look at the scalars of a step, which have the same names at each."""
        now = torch.stack([value.detach().float() for value in values.values()])
        if self._first is None:
            self._names = list(values)
            self._first = torch.full_like(now, _NEVER, dtype=torch.long)
        self._first = torch.where(now.isfinite(), self._first, self._first.clamp(max=step))

    def check(self) -> None:
        """Look back at all steps since the start, in all processes.

        Raises:
            RangesegError: a value was not finite.
        """
        if self._first is None:
            return
        if num_processes() > 1:
            torch.distributed.all_reduce(self._first, torch.distributed.ReduceOp.MIN)
        steps = self._first.tolist()
        if min(steps) < _NEVER:
            raise not_finite(self._names[steps.index(min(steps))], min(steps))


def not_finite(what: str, step: int) -> RangesegError:
    """The error for a value that is infinite or not a number."""
    return RangesegError(
        f"{what} was no longer finite in step {step}, and nothing was saved from there on: begin "
        "again in another --out with a lower train.learning_rate, or with train.precision=float32"
    )


class Journal:
    """``metrics.jsonl``, written by the first process.

    Args:
        run: the run's folder.
        step: steps done; lines of later steps, which will be done again, are taken out.
        tensorboard: write curves too.

    Raises:
        ConfigError: TensorBoard is not installed.
        CheckpointError: the file cannot be written.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool) -> None:
        self._path, self._seconds_before = run / METRICS, 0.0
        self._started = time.monotonic()
        self._curves: SummaryWriter | None = None
        if process_number() > 0:
            return
        kept = []
        if step > 0 and self._path.is_file():
            for line in self._path.read_text().splitlines():
                try:
                    values = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut short
                    break
                if values["step"] <= step:
                    kept.append(line)
                    self._seconds_before = values["seconds"]
        if tensorboard:
            self._curves = _curves(run / "tensorboard", step)
        try:
            write_file(self._path, "".join(f"{line}\n" for line in kept))
            self._file = self._path.open("a")
        except OSError as error:
            raise self._unwritable(error) from None

    def record(
        self, step: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor], rate: float
    ) -> str:
        """Write one line; returns the note for the progress bar.

        Raises:
            CheckpointError: the disk is full.
        """
        means = all_reduce_sum(torch.stack([loss.detach().float() for loss in losses.values()]))
        values = dict(zip(losses, (means / num_processes()).tolist(), strict=True))
        total = sum(values.values())
        values |= {name: float(value) for name, value in norms.items()}
        if process_number() > 0:
            return ""
        seconds = round(self._seconds_before + time.monotonic() - self._started, 2)
        line = {"step": step, "seconds": seconds, "rate": rate, "loss": total, **values}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())  # a checkpoint must not know of more than is here
        except OSError as error:
            raise self._unwritable(error) from None
        if self._curves is not None:
            for name, value in (("loss", total), ("rate", rate), *values.items()):
                self._curves.add_scalar(name, value, step)
        return f"loss {total:.3f}"

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"{self._path} cannot be written ({error.strerror}): make room and go on with "
            "--resume; what was saved before stands"
        )

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if process_number() == 0:
            with suppress(OSError):  # on a full disk it would fail once more
                self._file.close()
        if self._curves is not None:
            self._curves.close()


def _curves(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "train.tensorboard needs TensorBoard: pip install 'rangeseg[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=step)
