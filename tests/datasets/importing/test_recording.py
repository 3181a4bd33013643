"""Scans in the order of their times, although a recording holds them as they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from rangeseg.datasets.importing.recording import LOOK_AHEAD, Frame, by_stamp
from rangeseg.errors import DataError


def frames(stamps: Iterable[int]) -> Iterator[Frame]:
    for stamp in stamps:
        yield Frame(str(stamp), stamp, 1, dict)


def stamps(found: Iterable[Frame]) -> list[int]:
    return [frame.stamp_ns or 0 for frame in found]


def test_late_scans_are_put_in_order() -> None:
    rng = np.random.default_rng(0)
    received = [int(i) for i in np.argsort(np.arange(200) + rng.uniform(0, LOOK_AHEAD, 200))]
    assert received != sorted(received)
    assert stamps(by_stamp(frames(received))) == list(range(200))


def test_scans_of_one_time_stay_as_they_came() -> None:
    same = [Frame(name, 5, 1, dict) for name in "abc"]
    assert [frame.name for frame in by_stamp(same)] == ["a", "b", "c"]


def test_what_was_read_before_a_fault_comes_first() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames([2, 1, 3])
        raise DataError("cut off")

    ordered = by_stamp(broken())
    assert stamps(next(ordered) for _ in range(3)) == [1, 2, 3]
    with pytest.raises(DataError, match="cut off"):
        next(ordered)
