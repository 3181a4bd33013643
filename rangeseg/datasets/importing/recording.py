"""What an import reads: a sequence of scans with their times, from whatever holds them."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.errors import DataError

LOOK_AHEAD = 8
"""Scans that are held back to put late ones in order; a bag stores them as they are received."""


@dataclass(frozen=True)
class Frame:
    """One scan, not read yet.

    Attributes:
        name: for messages.
        stamp_ns: its time, where it is known.
        points: how many it has.
        read: its fields by name, each (N,).
        labels: its labels (N,) uint32 from beside it, where there are any.
    """

    name: str
    stamp_ns: int | None
    points: int
    read: Callable[[], Mapping[str, np.ndarray]]
    labels: Callable[[], np.ndarray] | None = None


class Recording(ABC):
    """A source of scans that becomes a sequence.

    Attributes:
        path: of the file or folder.
        total: scans there are; what a progress bar counts.
        unit: what they are called.
    """

    path: Path
    total: int
    unit: str

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What tells this source from others, as JSON holds it."""

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """All scans in the order of time; of what cannot be read further the rest is left out.

        Raises:
            DataError: after the last scan that can be read.
        """

    @abstractmethod
    def poses(self, names: list[str], stamps_ns: list[int | None]) -> tuple[np.ndarray, str]:
        """The LiDAR's poses, once all frames are read.

        Args:
            names: of the scans that are kept.
            stamps_ns: their times.

        Returns:
            (n,4,4) float64, NaN where unknown, and where they come from.

        Raises:
            DataError: there are none, and why.
        """

    @property
    def described(self) -> str:
        """What is read, for people."""
        return str(self.path)


def by_stamp(frames: Iterable[Frame], ahead: int = LOOK_AHEAD) -> Iterator[Frame]:
    """Sort frames that are at most ``ahead`` places late by their times.

    Raises:
        DataError: that of ``frames``, after all that came before it.
    """
    heap: list[tuple[int, int, Frame]] = []
    fault = None
    try:
        for number, frame in enumerate(frames):
            heapq.heappush(heap, (frame.stamp_ns or 0, number, frame))
            if len(heap) > ahead:
                yield heapq.heappop(heap)[2]
    except DataError as error:
        fault = error
    while heap:
        yield heapq.heappop(heap)[2]
    if fault is not None:
        raise fault
