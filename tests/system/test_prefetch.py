"""What threads do ahead: its order, its bounds, its errors and its end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rangeseg.system.prefetch import LoadAhead, map_ahead, threads


def running() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("rangeseg")]


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("ahead", [0, 5, 50])
def test_results_come_in_the_order_of_the_items(count: int, ahead: int) -> None:
    def square(number: int) -> int:
        time.sleep(0.002 * (number % 3 == 0))  # so that others are done before it
        return number * number

    with threads(count) as pool:
        assert list(map_ahead(pool, square, range(20), ahead)) == [n * n for n in range(20)]
        halves = map_ahead(pool, lambda n: n / 2, range(20), ahead)  # a map of a map
        assert list(map_ahead(pool, lambda x: x + 1, halves, 2)) == [n / 2 + 1 for n in range(20)]
    assert not running()


def test_no_more_items_are_taken_than_allowed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    with threads(2) as pool:
        for done, result in enumerate(map_ahead(pool, lambda n: n, items(), ahead=4), start=1):
            assert result == done
            assert taken == min(done + 4, 100)


def test_the_pool_works_while_the_next_item_is_made() -> None:
    called = threading.Event()
    where = []

    def items() -> Iterator[int]:
        yield 0
        assert called.wait(10)  # the call of the first item is not waited for before
        where.append(threading.current_thread())
        yield 1

    def call(number: int) -> int:
        called.set()
        where.append(threading.current_thread())
        return number

    with threads(1) as pool:
        assert list(map_ahead(pool, call, items(), ahead=1)) == [0, 1]
    assert where[1] is threading.main_thread()
    assert threading.main_thread() not in (where[0], where[2])


def test_without_threads_all_is_done_by_the_caller_as_it_is_asked_for() -> None:
    calls = []

    def call(number: int) -> int:
        calls.append((number, threading.current_thread()))
        return number

    with threads(0) as pool:
        results = map_ahead(pool, call, range(9), ahead=5)
        next(results)
    assert calls == [(0, threading.main_thread())]


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_comes_behind_what_was_before_it(count: int) -> None:
    def reciprocal(number: int) -> float:
        return 1 / number

    def items() -> Iterator[int]:
        yield from (1, 2, 4)
        raise KeyError("torn")

    for source, kind in (((1, 2, 4, 0, 5), ZeroDivisionError), (items(), KeyError)):
        found: list[float] = []
        with threads(count) as pool, pytest.raises(kind):
            found.extend(map_ahead(pool, reciprocal, source, ahead=9))
        assert found == [1, 0.5, 0.25]
        assert not running()


def test_what_waits_is_dropped_and_what_runs_is_finished() -> None:
    begun, finished = [], []

    def call(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 if number == 0 else 0.2)
        finished.append(number)
        return number

    with threads(1) as pool:
        assert next(map_ahead(pool, call, range(100), ahead=50)) == 0
    assert begun == finished
    assert len(begun) <= 3
    assert not running()


def test_an_iterator_that_is_left_open_does_not_keep_the_interpreter() -> None:
    code = (
        "from rangeseg.system.prefetch import LoadAhead, map_ahead, threads\n"
        "def results():\n"
        "    with threads(2) as pool:\n"
        "        yield from map_ahead(pool, str, iter(int, 1), ahead=3)\n"
        "left = results()\n"
        "print(next(left), next(left))\n"
    )
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=root, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 0\n", "")


def until_loaded(ahead: LoadAhead[int], number: int) -> None:
    deadline = time.monotonic() + 10
    while not ahead.is_loaded(number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_neighbours_are_loaded_once_and_outside_the_caller() -> None:
    loaded: list[int] = []
    where: set[threading.Thread] = set()

    def load(number: int) -> int:
        loaded.append(number)
        where.add(threading.current_thread())
        return 10 * number

    ahead = LoadAhead(load, 30)
    assert ahead.get(5) == 50
    until_loaded(ahead, 4)
    assert loaded == [5, 6, 4]
    assert ahead.get(6) == 60
    until_loaded(ahead, 7)
    assert loaded == [5, 6, 4, 7]
    assert ahead.get(16, 10) == 160
    until_loaded(ahead, 15)
    assert loaded == [5, 6, 4, 7, 16, 26, 17, 15]
    assert not ahead.is_loaded(6)  # memory does not fill up
    assert ahead.get(29) == 290  # the last one
    ahead.close()
    assert max(loaded) == 29
    assert threading.main_thread() not in where
    assert not running()


def test_an_item_that_is_asked_for_does_not_wait_for_unwanted_ones() -> None:
    begun, free, loaded = threading.Event(), threading.Event(), []

    def load(number: int) -> int:
        if number == 6:
            begun.set()
            assert free.wait(10)
        loaded.append(number)
        return number

    ahead = LoadAhead(load, 30)
    ahead.get(5)  # then comes 6, which takes long, then 4
    assert begun.wait(10)  # not yet begun, 6 would be dropped like 4
    threading.Timer(0.1, free.set).start()
    assert ahead.get(20) == 20
    assert loaded[:3] == [5, 6, 20]
    ahead.close()


def test_an_error_is_raised_where_the_item_is_asked_for() -> None:
    ahead = LoadAhead(lambda number: 1 / (number - 1), 3)
    assert ahead.get(0) == -1
    with pytest.raises(ZeroDivisionError):
        ahead.get(1)
    assert ahead.get(2) == 1
    ahead.close()
