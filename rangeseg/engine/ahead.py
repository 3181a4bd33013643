"""Work that threads do ahead of the one who asks for it, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

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
