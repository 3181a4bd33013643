"""Scans are loaded before they are asked for, so that a step does not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Loaded = TypeVar("Loaded")


class LoadAhead(Generic[Loaded]):
    """Loads items of a list in a thread: the one that is asked for, then its neighbours.

    Args:
        load: number of an item -> the item.
        count: of all items.
    """

    def __init__(self, load: Callable[[int], Loaded], count: int) -> None:
        self._load, self._count = load, count
        self._futures: dict[int, Future[Loaded]] = {}
        # One thread: a network that predicts in two at a time is no faster.
        self._pool = ThreadPoolExecutor(max_workers=1)

    def get(self, number: int, step: int = 1) -> Loaded:
        """An item; what ``load`` raises, this raises.

        Args:
            number: of the item, from 0 on.
            step: from the item asked for before to this one: the next is expected as far again.
        """
        future = self._start(number)
        item = future.result()
        likely = [number + step, number + 1, number - 1]
        wanted = {n for n in likely if 0 <= n < self._count}
        for other in [n for n in self._futures if n not in wanted | {number}]:
            self._futures.pop(other).cancel()
        for neighbour in likely:
            if neighbour in wanted:
                self._start(neighbour)
        return item

    def is_loaded(self, number: int) -> bool:
        """Whether an item is there without waiting."""
        return number in self._futures and self._futures[number].done()

    def close(self) -> None:
        """Forget what is not loaded yet."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, number: int) -> Future[Loaded]:
        if number not in self._futures:
            self._futures[number] = self._pool.submit(self._load, number)
        return self._futures[number]
