"""The running process: its signals, its share of the cores, its memory."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_INT, _LARGEST_MMAP_THRESHOLD = 2**31 - 1, 32 << 20


class Terminated(KeyboardInterrupt):
    """SIGTERM not caught by ``collected_signals``; its argument is the signal's number."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM after saving; its argument is the signal's number."""


@contextmanager
def collected_signals(apart: float = 0.0) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM while the block runs; only in the main thread.

    Args:
        apart: seconds within which a further signal counts as the same one.

    Yields:
        The numbers of the signals; later ones are appended.
    """
    received: list[int] = []
    latest = -math.inf

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal latest
        before, latest = latest, time.monotonic()
        if latest - before >= apart:
            received.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def cores() -> int:
    """Cores available to this process; fewer in a container or a batch job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Stop glibc from returning freed buffers, up to 2 GB, to the system.

    A scan and its image take some MB. Returned pages must be cleared again for the next scan, and a
    loader process reaches its peak in the first round. Without glibc (macOS, musl) it does nothing.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
