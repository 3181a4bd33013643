"""What is loaded ahead, and when."""

from __future__ import annotations

import threading
import time

import pytest

from rangeseg.system.prefetch import LoadAhead


def until(ahead: LoadAhead[int], number: int) -> None:
    deadline = time.monotonic() + 10
    while not ahead.is_loaded(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_neighbours_are_loaded_once_and_outside_the_caller() -> None:
    loaded: list[int] = []
    threads: set[int] = set()

    def load(number: int) -> int:
        loaded.append(number)
        threads.add(threading.get_ident())
        return 10 * number

    ahead = LoadAhead(load, 30)
    assert ahead.get(5) == 50
    until(ahead, 4)
    assert loaded == [5, 6, 4]
    assert ahead.get(6) == 60
    until(ahead, 7)
    assert loaded == [5, 6, 4, 7]
    assert ahead.get(16, 10) == 160
    until(ahead, 15)
    assert loaded == [5, 6, 4, 7, 16, 26, 17, 15]
    assert not ahead.is_loaded(6)  # memory does not fill up
    ahead.close()
    assert threading.get_ident() not in threads


def test_the_ends_have_one_neighbour() -> None:
    loaded: list[int] = []
    ahead = LoadAhead(lambda number: loaded.append(number) or number, 3)
    ahead.get(0)
    until(ahead, 1)
    ahead.get(2, 2)
    ahead.close()
    assert set(loaded) == {0, 1, 2}


def test_an_error_is_raised_where_the_item_is_asked_for() -> None:
    def load(number: int) -> int:
        if number == 1:
            raise ValueError("cut short")
        return number

    ahead = LoadAhead(load, 3)
    assert ahead.get(0) == 0
    with pytest.raises(ValueError, match="cut short"):
        ahead.get(1)
    assert ahead.get(2) == 2
    ahead.close()
