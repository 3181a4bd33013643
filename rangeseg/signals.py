"""SIGINT and SIGTERM as something to look at when it suits, instead of an end at any moment."""

from __future__ import annotations

import math
import signal
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
