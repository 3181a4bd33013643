"""What every reader asks of a file before it reads it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rangeseg.errors import DataError

MOST_POINTS = 1 << 24
"""No sensor has as many in a turn; a larger file is something else, and would fill the memory."""


class Header(NamedTuple):
    """What a file of points says of itself, without its points.

    Attributes:
        points: how many there are.
        names: of the values of each point, in the order of the file.
    """

    points: int
    names: tuple[str, ...]


def file_size(path: Path) -> int | None:
    """Bytes of a file, None where there is none.

    Raises:
        DataError: the file cannot be looked at.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def reason(error: OSError) -> str:
    """What an operating system's error means, to stand behind the file's name."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read ({error.strerror or error})"


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file of points that the operating system does not open."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(
            f"{path} does not exist: check the scan's id or copy the sequence again", "missing"
        )
    return DataError(f"{path} {reason(error)}")


def check_count(path: Path, count: int) -> int:
    """Check that a file holds a number of points that can be one scan, and return it.

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
    """The error for a file that begins like one of its kind, and is none."""
    return DataError(
        f"{path} is not a whole {kind} ({why}): copy it again, or write it again", kind="truncated"
    )
