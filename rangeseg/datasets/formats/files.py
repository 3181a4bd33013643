"""Checks that every reader makes before it reads a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rangeseg.errors import DataError

MOST_POINTS = 1 << 24
"""More points than any sensor's turn; a larger file is something else and would fill the memory."""


class Header(NamedTuple):
    """The header of a point file.

    Attributes:
        points: number of points.
        names: names of the values of each point, in file order.
    """

    points: int
    names: tuple[str, ...]


def file_size(path: Path) -> int | None:
    """Size of a file in bytes, None if it does not exist.

    Raises:
        DataError: the file's status cannot be read.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def reason(error: OSError) -> str:
    """Describe an operating system's error, for a message after the file's name."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read ({error.strerror or error})"


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a point file that the operating system cannot open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(
            f"{path} does not exist: check the scan's id or copy the sequence again", "missing"
        )
    return DataError(f"{path} {reason(error)}")


def check_count(path: Path, count: int) -> int:
    """Check that a number of points can be one scan, and return it.

    Raises:
        DataError: it holds none, or far too many.
    """
    if count == 0:
        raise DataError(f"{path} is empty: the scan has no point; copy it again", kind="truncated")
    if count > MOST_POINTS:
        raise DataError(
            f"{path} has {count:,} points, more than one turn of any sensor ({MOST_POINTS:,}): "
            "write one file for each turn, or state the right number of columns"
        )
    return count


def damaged(path: Path, kind: str, why: object) -> DataError:
    """The error for a damaged file of a known kind."""
    return DataError(
        f"{path} is not a whole {kind} ({why}): copy it again, or write it again", kind="truncated"
    )
