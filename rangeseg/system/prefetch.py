"""Threads that work ahead of the caller.

``map_ahead`` is for a stream: every result once, in order, with a bound on pending calls.
``LoadAhead`` is for a list with random access: near items stay loaded, and unneeded ones are
cancelled. Each has a few lines; one class would need the options of both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def threads(count: int) -> Iterator[Executor | None]:
    """A pool that ends with the block: running calls finish, waiting ones are dropped.

    Args:
        count: number of threads; 0 gives None, and ``map_ahead`` then works in the caller's thread.
    """
    if count == 0:
        yield None
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="rangeseg")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def map_ahead(
    pool: Executor | None,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: int,
) -> Iterator[Result]:
    """``map`` in the order of the items, with further calls pending.

    Items are taken in the caller's thread, while the pool works. They may be results of another
    ``map_ahead``, or of work that must stay in one thread. An error, of an item or of taking one,
    is raised after all earlier results.

    Args:
        pool: pool for the calls; None calls in this thread, one item at a time.
        function: function to call; must not wait for another call of the pool.
        items: any number of items.
        ahead: largest number of items taken beyond results.
    """
    if pool is None:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    for future in _submitted(pool, function, items):
        waiting.append(future)
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _submitted(
    pool: Executor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Future[Result]]:
    """A call for each item; an error of taking one replaces its call."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed


class LoadAhead(Generic[Result]):
    """Loads items of a list in a thread: the requested one, then its neighbours.

    Args:
        load: number of an item -> the item.
        count: number of items.
    """

    def __init__(self, load: Callable[[int], Result], count: int) -> None:
        self._load, self._count = load, count
        self._futures: dict[int, Future[Result]] = {}
        # One thread: a network is no faster in two.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rangeseg")

    def get(self, number: int, step: int = 1) -> Result:
        """Return an item; raises the errors of ``load``.

        Args:
            number: number of the item, from 0.
            step: distance from the last requested item; the next is expected as far again.
        """
        likely = [number, number + step, number + 1, number - 1]
        wanted = [n for n in likely if 0 <= n < self._count]
        for other in self._futures.keys() - set(wanted):
            self._futures.pop(other).cancel()
        for n in wanted:
            if n not in self._futures:
                self._futures[n] = self._pool.submit(self._load, n)
        return self._futures[number].result()

    def is_loaded(self, number: int) -> bool:
        """Whether an item is available without waiting."""
        return number in self._futures and self._futures[number].done()

    def close(self) -> None:
        """End the thread: finish the current item, drop waiting ones."""
        self._pool.shutdown(cancel_futures=True)
