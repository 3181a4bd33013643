"""Files that appear whole or not at all, and folders that one process holds."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from rangeseg.errors import ConfigError, RangesegError

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"
"""Suffix of a file that is being written; one that is left was cut short."""

LOCK = ".lock"
"""An empty file in the folder that a process holds; one that is found holds nothing by itself."""


@contextmanager
def writable(path: Path, remedy: str, error: type[RangesegError] = ConfigError) -> Iterator[None]:
    """Turn a failed write in the block into one line for the user.

    Args:
        path: the file or folder that is written.
        remedy: what to do, e.g. ``make room, or choose another --out``.
        error: the class that is raised.

    Raises:
        RangesegError: ``PATH cannot be written (No space left on device): REMEDY``.
    """
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or fault
        raise error(f"{path} cannot be written ({reason}): {remedy}") from None


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file under another name, then give it its own; folders are made.

    Args:
        path: the file; one that is there is replaced.
        content: text is written as UTF-8.

    Raises:
        OSError: it cannot be written; one that was there is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written under another name, which gets its own once it is whole and on disk.

    Args:
        path: the file, in a folder that exists; one that is there is replaced.

    Raises:
        OSError: it cannot be written; one that was there is untouched.
    """
    temporary = path.with_name(path.name + PARTIAL)
    try:
        with on_disk(temporary) as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()  # where the disk is full, half a file is in the way
        raise


@contextmanager
def on_disk(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written whose content is on disk at the end of the block.

    What is renamed must be there first: a name that outlives a power cut must not outlive its
    content.

    Args:
        path: one that is there is replaced, not written into: in the folder of a stranger it may be
            a link that leads anywhere.

    Raises:
        OSError: it cannot be written.
    """
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def sole_user(folder: Path, task: str) -> Iterator[None]:
    """Make a folder, and hold it against other processes until the end of the block.

    The hold ends with the process, however that ends, and children do not inherit it. On a file
    system without locks, and on Windows, nothing is held.

    Args:
        folder: the folder.
        task: what a process does there, for the message: ``trains``.

    Raises:
        ConfigError: another process holds it, or it cannot be made.
    """
    path = folder / LOCK
    with writable(folder, "make room, or choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    try:
        try:
            # The holder before may have removed the file between our opening and locking it:
            # then the name is another file's now.
            while _lock(file) and not _is_named(file, path):
                file.close()
                file = path.open("a")
        except BlockingIOError:
            raise ConfigError(
                f"another process {task} in {folder}: wait for its end, or choose another --out"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        file.close()


def _lock(file: IO[str]) -> bool:
    """Lock a file until it is closed; False where there are no locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BlockingIOError(error.errno, "in use", file.name) from None
        return False
    return True


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
