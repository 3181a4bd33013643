"""SIGINT and SIGTERM as something to look at when it suits, instead of an end at any moment."""

from __future__ import annotations

import ctypes
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, where nobody collects it; its argument is the signal's number."""


@contextmanager
def collected_signals(apart: float = 0.0) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM while the block runs; to be used in the main thread.

    Args:
        apart: seconds within which a further signal counts as the same one.

    Yields:
        The signals' numbers, those to come too.
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


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST_INT, _LARGEST_MMAP_THRESHOLD = 2**31 - 1, 32 << 20


def keep_freed_memory() -> None:
    """Keep what is freed for the next arrays of this process, up to 2 GB.

    A scan and its image are some MB, and glibc may give such memory back to the system, which then
    has to clear it, page by page, for the next scan. This is for processes that do the same again
    and again: their memory has its peak in the first round. Without glibc (macOS, musl) nothing is
    done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
