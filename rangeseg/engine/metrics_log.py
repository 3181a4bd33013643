"""The training log: ``metrics.jsonl``, note of the progress bar, throughput."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rangeseg.engine.tensorboard import TensorBoard
from rangeseg.engine.validation import Validated
from rangeseg.errors import CheckpointError
from rangeseg.methods.mixing import Fields
from rangeseg.system.distributed import all_reduce_sum, gather, rank, world_size
from rangeseg.system.files import writable, write_file

METRICS = "metrics.jsonl"

_log = logging.getLogger(__name__)

_NO_TERMS = {
    "step", "seconds", "rate", "loss", "data_wait", "scans_per_second", "gpu_memory_gib",
    "val_miou", "val_iou",
}  # fmt: skip
_NORM = "gradient_norm_"


def training_seconds(run: Path) -> float | None:
    """Training time of a run in seconds; None if its metrics are lost.

    Interruptions and validations are left out.
    """
    try:
        return float(json.loads((run / METRICS).read_text().splitlines()[-1])["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read a run's ``metrics.jsonl`` up to the first truncated or damaged line.

    Each line is one step: ``step``, ``seconds`` of training so far (without validations), learning
    ``rate``, ``loss`` and its terms, ``gradient_norm_0`` and so on. ``data_wait``,
    ``scans_per_second`` and ``gpu_memory_gib`` are explained in ``Throughput.read``. A validation
    adds ``val_miou`` and, by class, ``val_iou``, per cent.

    Raises:
        OSError: the file cannot be read.
    """
    lines: list[dict[str, Any]] = []
    for text in (run / METRICS).read_bytes().splitlines():
        try:
            line = json.loads(text)
            sound = type(line["step"]) is int and type(line["seconds"]) in (int, float)
        except (ValueError, LookupError, TypeError, RecursionError):
            sound = False
        if not sound:
            break
        lines.append(line)
    return lines


def loss_terms(line: Mapping[str, Any]) -> dict[str, float]:
    """The terms of the loss in a line of ``metrics.jsonl``."""
    return {k: v for k, v in line.items() if k not in _NO_TERMS and not k.startswith(_NORM)}


class Throughput:
    """The clock of a training, which starts on creation.

    A GPU keeps working while the host waits for scans. So events in the GPU's queue measure the
    wait, from the end of a step's work until the next batch arrives. They are read together with
    the losses; nothing else waits for the GPU.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._paused = self._read_at = 0.0  # seconds
        self._device = torch.device("cpu")
        self._waits: list[tuple[_Mark, _Mark]] = []
        self._scans = 0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without pauses."""
        return time.monotonic() - self._started - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude a time from training, such as a validation."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - begun

    def fetch(self, steps: Iterator[list[Fields]], device: torch.device) -> Iterator[list[Fields]]:
        """Yield the steps, and measure the wait for each.

        Args:
            steps: the fields of each step, on the host.
            device: device of the training.
        """
        self._device = device
        while True:
            asked = _Mark(device)
            loaded = next(steps, None)
            if loaded is None:
                return
            self._waits.append((asked, _Mark(device)))
            self._scans += sum(len(fields["image"]) for fields in loaded)
            yield loaded

    def read(self) -> dict[str, float]:
        """Summarise the time since the last call, over all processes.

        Every process must call it after the GPU has finished.

        Returns:
            ``data_wait``: share of time in [0,1] spent waiting for scans, in the slowest process.
            ``scans_per_second``: labelled and unlabelled, of all processes. On a GPU
            ``gpu_memory_gib``: peak use so far.
        """
        now = self.seconds
        passed = max(now - self._read_at, 1e-9)
        waited = sum(asked.until(there) for asked, there in self._waits)
        figures = {
            "data_wait": round(max(gather(min(waited / passed, 1.0))), 4),
            "scans_per_second": round(self._scans * world_size() / passed, 2),
        }
        if self._device.type == "cuda":
            most = torch.cuda.max_memory_allocated(self._device)
            figures["gpu_memory_gib"] = round(most / 2**30, 2)
        self._read_at, self._scans = now, 0
        self._waits.clear()
        return figures


class _Mark:
    """A moment: the host's clock, or the end of all queued work of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        self._time = time.monotonic()
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def until(self, later: _Mark) -> float:
        """Seconds from this moment to a later one; a GPU must have passed both."""
        if self._event is not None and later._event is not None:
            return float(self._event.elapsed_time(later._event)) / 1000
        return later._time - self._time


class MetricsLog:
    """``metrics.jsonl``, written by the first process.

    Args:
        run: the run's folder.
        step: finished steps; lines of later steps are removed, as they run again.
        tensorboard: also write curves.

    Attributes:
        throughput: the clock of this training.

    Raises:
        ConfigError: TensorBoard is not installed.
        CheckpointError: the file cannot be read or written.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool) -> None:
        self._path, self._seconds_before = run / METRICS, 0.0
        self.throughput = Throughput()
        self._miou: float | None = None
        self._curves: TensorBoard | None = None
        if rank() > 0:
            return
        kept = []
        try:
            earlier = read_metrics(run) if self._path.is_file() else []
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be read ({error.strerror}): make it readable, or remove it; "
                "only the curves of the steps so far are lost"
            ) from None
        if step > 0:
            for line in earlier:
                if line["step"] <= step:
                    kept.append(json.dumps(line))
                    self._seconds_before = line["seconds"]
                    self._miou = line.get("val_miou", self._miou)
        elif earlier:
            _log.warning(
                "%s has no checkpoint: the training starts again, and the %d steps in %s are "
                "dropped", run, earlier[-1]["step"], METRICS,
            )  # fmt: skip
        if tensorboard:
            self._curves = TensorBoard(run / "tensorboard", step)
        with self._writable():
            write_file(self._path, "".join(f"{line}\n" for line in kept))
            self._file = self._path.open("a")

    def record(
        self,
        step: int,
        losses: Mapping[str, Tensor],
        norms: Mapping[str, Tensor],
        rate: float,
        validated: Validated | None = None,
    ) -> str:
        """Write one line and return the progress bar's note. Every process must call it.

        Args:
            step: finished steps.
            losses: terms of this process's loss.
            norms: norms of the gradients.
            rate: learning rate.
            validated: result of a validation after this step.

        Raises:
            CheckpointError: the disk is full.
        """
        means = all_reduce_sum(torch.stack([loss.detach().float() for loss in losses.values()]))
        terms = dict(zip(losses, (means / world_size()).tolist(), strict=True))
        total = sum(terms.values())
        throughput = self.throughput.read()
        scalars = {"loss": total, **terms, **{n: float(v) for n, v in norms.items()}, **throughput}
        if rank() > 0:
            return ""
        if validated is not None:
            self._miou = scalars["val_miou"] = validated.miou
        seconds = round(self._seconds_before + self.throughput.seconds, 2)
        line: dict[str, Any] = {"step": step, "seconds": seconds, "rate": rate, **scalars}
        if validated is not None:
            line["val_iou"] = validated.iou
        with self._writable():
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())  # the log must not be behind a checkpoint
        if self._curves is not None:
            self._curves.scalars(step, {"rate": rate, **scalars})
            if validated is not None:
                self._curves.validation(step, validated)
        return _note(total, terms, self._miou, throughput)

    def _writable(self) -> AbstractContextManager[None]:
        remedy = "make room and go on with --resume from the last checkpoint"
        return writable(self._path, remedy, CheckpointError)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        if rank() == 0:
            with suppress(OSError):  # on a full disk it would fail again
                self._file.close()
        if self._curves is not None:
            self._curves.close()


def _note(
    total: float, terms: Mapping[str, float], miou: float | None, throughput: Mapping[str, float]
) -> str:
    """The text after the progress bar, most important first, as a terminal may be narrow."""
    note = f"loss {total:.3f}"
    if miou is not None:
        note += f", mIoU {miou:.1f}"
    scans = throughput["scans_per_second"]
    note += f", {scans:.1f}" if scans < 10 else f", {scans:.0f}"
    note += f" scans/s, wait {100 * throughput['data_wait']:.0f} %"
    if "gpu_memory_gib" in throughput:
        note += f", {throughput['gpu_memory_gib']:.1f} GiB"
    if len(terms) > 1:
        note += f" ({', '.join(f'{name} {value:.3f}' for name, value in terms.items())})"
    return note
