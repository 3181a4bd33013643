"""Two processes that do what they are told together, again and again: one start for many tests."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from rangeseg.cli import main

SECONDS = 120


class Ended(NamedTuple):
    """How a command of one process ended."""

    code: int
    stdout: str
    stderr: str


class Pair:
    """The processes, in the environment that torchrun would give them."""

    def __init__(self, connections: list[Connection]) -> None:
        self.connections = connections

    def call(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What the function returns in each process."""
        store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        for connection in self.connections:
            connection.send((store.port, function, arguments))
        found = []
        for connection in self.connections:
            assert connection.poll(SECONDS), f"nothing for {SECONDS} s"
            found.append(connection.recv())
        return found

    def command(self, *words: str) -> list[Ended]:
        """``rangeseg WORDS``."""
        return self.call(_command, words)


@contextmanager
def two_processes() -> Iterator[Pair]:
    """Start them, and end them."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(2)]
    processes = [
        context.Process(target=_serve, args=(number, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, there in pipes:
        there.close()
    try:
        yield Pair([here for here, _ in pipes])
    finally:
        for here, _ in pipes:
            here.close()
        for process in processes:
            process.join(SECONDS)
            process.kill()


def _serve(number: int, connection: Connection) -> None:
    torch.set_num_threads(1)
    with suppress(EOFError):
        while True:
            port, function, arguments = connection.recv()
            os.environ |= {
                "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
            }  # fmt: skip
            connection.send(function(*arguments))
            if torch.distributed.is_initialized():  # after a fault
                torch.distributed.destroy_process_group()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _command(words: tuple[str, ...]) -> Ended:
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = main(words)
    return Ended(code, stdout.getvalue(), stderr.getvalue())
