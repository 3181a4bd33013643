"""Share work among processes, and detect dead ones."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from rangeseg.errors import RangesegError

Job = TypeVar("Job")
Report = Callable[[int], None]
Make = Callable[[list[Job], Report], None]


def share(make: Make[Job], blocks: Sequence[list[Job]], workers: int, report: Report) -> None:
    """Distribute blocks of jobs to processes, which report every job through a pipe.

    Args:
        make: does jobs and reports the number done; pickled.
        blocks: jobs for one process in a row.
        workers: largest number of processes; 1 uses only this process.
        report: called with the number of finished jobs.

    Raises:
        RangesegError: a process was ended. Errors of a job are raised too.
    """
    workers = min(workers, len(blocks))
    if workers <= 1:
        make([job for block in blocks for job in block], report)
        return
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, Any] = {}
    try:
        for worker in range(workers):
            jobs = [job for block in blocks[worker::workers] for job in block]
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(make, jobs, sender), daemon=True)
            process.start()
            sender.close()
            running[receiver] = process
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    process = running.pop(ready)
                    process.join()
                    if process.exitcode:
                        raise RangesegError(
                            f"a process that simulates ended with code {process.exitcode}: free "
                            "memory, or go on with fewer: rangeseg-data simulate with the same "
                            "options and --workers 1; finished scans are kept"
                        ) from None
                    continue
                if isinstance(message, BaseException):
                    raise message
                report(message)
    finally:
        for process in running.values():
            process.terminate()


def _work(make: Make[Job], jobs: list[Job], sender: Connection) -> None:
    """A worker process; it ends when its parent is gone, as the pipe breaks."""
    try:
        make(jobs, sender.send)
    except (BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        sender.send(error)
