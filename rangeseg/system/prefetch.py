"""Work that threads do ahead of the one who asks for it, in order and within bounds."""

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
    """Threads that end with the block: what they have begun they finish, what waits is dropped.

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
    """``map``, in the order of the items, with further ones under way as a result is handed out.

    The items are taken in the caller's thread, so they may be results of another ``map_ahead``, or
    of work that must stay in one thread: it goes on beside that of the pool. An error, of an item
    or of taking one, is raised behind the results of all items before it.

    Args:
        pool: what calls the function; None calls it here, for each item as it is asked for.
        function: must not wait for another call of the pool.
        items: as many as there are.
        ahead: how many more items than results were taken, at the most, when one is handed out.
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
    """A call for each item; an error of taking one stands last, in the place of its call."""
    try:
        for item in items:
            yield pool.submit(function, item)
    except Exception as error:
        failed: Future[Result] = Future()
        failed.set_exception(error)
        yield failed


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
