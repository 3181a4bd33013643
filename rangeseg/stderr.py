"""What is said on stderr, whether anybody can hear it or not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class _Unheard:
    """A stream to which everything can be written, even what its listener cannot take.

    A terminal that was closed, a ``| tee`` that Ctrl-C has ended, a log on a full disk: none of
    them is a reason to end days of work, or to end it without saving.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def heard_or_not(stream: TextIO | None) -> Iterator[TextIO]:
    """The same stream, but that it cannot be written to is no error.

    Args:
        stream: stderr; None where a process has none.
    """
    if stream is None:
        with open(os.devnull, "w") as nothing:
            yield nothing
        return
    try:
        yield cast(TextIO, _Unheard(stream))
    finally:
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let what is left go nowhere: Python would try once more, and end with a code of its own."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
        stream.flush()
