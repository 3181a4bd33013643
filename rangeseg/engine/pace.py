"""How fast a training goes, and what share of its time it waits for scans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rangeseg.engine.processes import gather
from rangeseg.methods.distributed import num_processes
from rangeseg.methods.mixing import Fields


class Pace:
    """The clock of a training, begun when it is made.

    A GPU works on while the host waits for scans, so there the wait is measured by marks in the
    GPU's own queue: from the end of a step's work until the next batch is there. They are read
    where the losses are read anyway; nothing else waits for the GPU.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._paused = self._read_at = 0.0  # seconds
        self._device = torch.device("cpu")
        self._waits: list[tuple[_Mark, _Mark]] = []
        self._scans = 0

    @property
    def seconds(self) -> float:
        """Of training so far, pauses left out."""
        return time.monotonic() - self._started - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not the training's, such as a validation's."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - begun

    def fetch(self, steps: Iterator[list[Fields]], device: torch.device) -> Iterator[list[Fields]]:
        """The same steps, while it is measured how long each lets the training wait.

        Args:
            steps: the fields of each step, on the host.
            device: where the training runs.
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
        """What became of the time since it was last read, in all processes.

        To be called by each of them, once the work on the GPU is done.

        Returns:
            ``data_wait``: share of the time, in [0,1], that was spent waiting for scans, in the
            process where it was longest; ``scans_per_second``, labelled and unlabelled, of all
            processes; on a GPU ``gpu_memory_gib``, the most that was in use so far.
        """
        now = self.seconds
        passed = max(now - self._read_at, 1e-9)
        waited = sum(asked.until(there) for asked, there in self._waits)
        figures = {
            "data_wait": round(max(gather(min(waited / passed, 1.0))), 4),
            "scans_per_second": round(self._scans * num_processes() / passed, 2),
        }
        if self._device.type == "cuda":
            most = torch.cuda.max_memory_allocated(self._device)
            figures["gpu_memory_gib"] = round(most / 2**30, 2)
        self._read_at, self._scans = now, 0
        self._waits.clear()
        return figures


class _Mark:
    """A moment: of the host's clock, or when a GPU has done all that it was given before."""

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
