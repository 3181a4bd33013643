"""The interface of an import's source: a sequence of scans with times."""

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
"""Size of the buffer that sorts late scans; a bag stores scans in order of receipt."""


@dataclass(frozen=True)
class Frame:
    """One scan, not read yet.

    Attributes:
        name: name in messages.
        stamp_ns: time, where known.
        points: number of points.
        read: reads the fields by name, each (N,).
        labels: reads the labels (N,) uint32 from their own file, if any.
    """

    name: str
    stamp_ns: int | None
    points: int
    read: Callable[[], Mapping[str, np.ndarray]]
    labels: Callable[[], np.ndarray] | None = None


class Recording(ABC):
    """A source of scans that becomes a sequence.

    Attributes:
        path: path of the file or folder.
        total: number of scans, for the progress bar.
        unit: word for them in messages.
    """

    path: Path
    total: int
    unit: str

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON values that identify this source."""

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Yield all scans in the order of time, as far as they can be read.

        Raises:
            DataError: after the last scan that can be read.
        """

    @abstractmethod
    def poses(self, names: list[str], stamps_ns: list[int | None]) -> tuple[np.ndarray, str]:
        """The LiDAR's poses, once all frames are read.

        Args:
            names: names of the kept scans.
            stamps_ns: times of the kept scans.

        Returns:
            (n,4,4) float64, NaN where unknown, and their origin.

        Raises:
            DataError: there are no poses; the message gives the reason.
        """

    @property
    def described(self) -> str:
        """Description of the source for the user."""
        return str(self.path)


def by_stamp(frames: Iterable[Frame], ahead: int = LOOK_AHEAD) -> Iterator[Frame]:
    """Sort frames that are at most ``ahead`` places late by their times.

    Raises:
        DataError: from ``frames``, after all earlier frames.
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
