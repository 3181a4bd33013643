"""Atomic files, and folders locked by one process."""

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
"""Suffix of a file during writing; a remaining one was cut short."""

LOCK = ".lock"
"""Lock file in a held folder; a remaining one holds nothing by itself."""


@contextmanager
def writable(path: Path, remedy: str, error: type[RangesegError] = ConfigError) -> Iterator[None]:
    """Turn a failed write in the block into one line for the user.

    Args:
        path: file or folder to write.
        remedy: advice, e.g. ``make room, or choose another --out``.
        error: class of the raised error.

    Raises:
        RangesegError: ``PATH cannot be written (No space left on device): REMEDY``.
    """
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or fault
        raise error(f"{path} cannot be written ({reason}): {remedy}") from None


def write_file(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file under another name, then rename it; create folders.

    Args:
        path: path of the file; an existing one is replaced.
        content: text is written as UTF-8.

    Raises:
        OSError: it cannot be written; one that was there is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing under another name; rename it once it is whole and on disk.

    Args:
        path: path in an existing folder; an existing file is replaced.

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
            temporary.unlink()  # on a full disk, half a file wastes space
        raise


@contextmanager
def on_disk(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing; its content is on disk at the end of the block.

    A renamed file must be on disk first: after a power cut the name must not exist without content.

    Args:
        path: an existing file is replaced, not overwritten: in a foreign folder it may be a link to
            anywhere.

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
    """Create a folder, and lock it against other processes until the end of the block.

    The lock ends with the process, in any case, and children do not inherit it. Without file-system
    locks, and on Windows, nothing is locked.

    Args:
        folder: path of the folder.
        task: activity of a process there, for the message: ``trains``.

    Raises:
        ConfigError: another process holds it, or it cannot be created.
    """
    path = folder / LOCK
    with writable(folder, "make room, or choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    try:
        try:
            # The previous holder may have removed the file between our opening and locking it. Then
            # the name belongs to another file.
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
    """Lock a file until it is closed; False without locks.

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
    """Whether an open file still has this name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
