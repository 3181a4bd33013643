"""Work that threads do ahead of the one who asks for it.

``map_ahead`` is for a stream: every result once, in order, and a bound on how many are under way.
``LoadAhead`` is for a list in which a user steps about: an item stays while it is near, and what
is no longer wanted is cancelled. Each has a few lines; one class would need the options of both.
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
    """Threads that end with the block: running calls are finished, waiting ones dropped.

    Args:
        count: how many; 0 gives None, and ``map_ahead`` then works in the caller's thread.
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
    """``map`` in the order of the items, with further calls under way.

    Items are taken in the caller's thread. They may be results of another ``map_ahead``, or of
    work that must stay in one thread; the pool works meanwhile. An error, of an item or of taking
    one, is raised after the results of all items before it.

    Args:
        pool: where the function is called; None calls it here, as each item is asked for.
        function: must not wait for another call of the pool.
        items: any number of them.
        ahead: how many more items than results have been taken, at most.
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
    """A call for each item; an error of taking one takes the place of its call."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed


class LoadAhead(Generic[Result]):
    """Loads items of a list in a thread: the one that is asked for, then its neighbours.

    Args:
        load: number of an item -> the item.
        count: of all items.
    """

    def __init__(self, load: Callable[[int], Result], count: int) -> None:
        self._load, self._count = load, count
        self._futures: dict[int, Future[Result]] = {}
        # One thread: a network that predicts in two at a time is no faster.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rangeseg")

    def get(self, number: int, step: int = 1) -> Result:
        """An item; raises what ``load`` raises.

        Args:
            number: of the item, from 0 on.
            step: from the item asked for before to this one: the next is expected as far again.
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
        """Whether an item is there without waiting."""
        return number in self._futures and self._futures[number].done()

    def close(self) -> None:
        """End the thread: what it loads is finished, what waits is dropped."""
        self._pool.shutdown(cancel_futures=True)
