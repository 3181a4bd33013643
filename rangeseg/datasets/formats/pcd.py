"""PCD, the Point Cloud Library's format: ascii, binary or binary_compressed.

Reference: https://pointclouds.org/documentation/tutorials/pcd_file_format.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, damaged, unreadable
from rangeseg.datasets.layout import Layout
from rangeseg.errors import one_line

_LONGEST_HEADER = 1 << 16  # bytes
_MOST_VALUES = 4096  # values per field of a point; the longest descriptors have 1,960
_SIZES = 8  # bytes before compressed values: compressed and unpacked size
_KINDS = {"F": "f", "U": "u", "I": "i"}


class _PcdHeader(NamedTuple):
    dtype: np.dtype
    points: int
    data: str
    begin: int  # where the values begin


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values, by the header; a binary file's size is checked.

    Raises:
        DataError: the file is missing or damaged, or holds no point.
    """
    with _opened(path) as file:
        header = _checked_header(path, file)
    return Header(header.points, tuple(header.dtype.names or ()))


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The fields (N,) by name; one of several values a point gets names like ``normal__0000``.

    Raises:
        DataError: see ``read_header``.
    """
    with _opened(path) as file:
        header = _checked_header(path, file)
        if header.data == "binary":
            # The library is as fast, but parses the header again, as long as reading a small scan.
            # Its arrays are read-only.
            file.seek(header.begin)
            values = np.fromfile(file, header.dtype, header.points)
        else:
            values = _by_library(path, header)
    if len(values) != header.points:
        why = f"{len(values)} of {header.points} points"
        raise damaged(path, f"{header.data} PCD", why)
    return {name: values[name] for name in header.dtype.names or ()}


def _by_library(path: Path, header: _PcdHeader) -> np.ndarray:
    from pypcd4.pypcd4 import PointCloud

    try:
        values: np.ndarray = np.atleast_1d(PointCloud.from_path(path).pc_data)
    except Exception as error:  # the library checks little
        raise damaged(path, f"{header.data} PCD", one_line(error)) from None
    return values


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise unreadable(path, error) from None


def _checked_header(path: Path, file: IO[bytes]) -> _PcdHeader:
    """Read the header, and check the file's size against it."""
    header = _parse_header(path, file)
    check_count(path, header.points)
    there, whole = file.seek(0, 2) - header.begin, header.points * header.dtype.itemsize
    if header.data == "binary_compressed":
        file.seek(header.begin)
        sizes = np.frombuffer(file.read(_SIZES), "<u4")
        if len(sizes) < 2 or sizes[1] != whole:
            raise damaged(path, "binary_compressed PCD", f"{header.points} points do not fit in it")
        whole = _SIZES + int(sizes[0])
    if header.data != "ascii" and there < whole:
        raise damaged(path, f"{header.data} PCD", f"{there} of {whole} bytes behind the header")
    return header


def _parse_header(path: Path, file: IO[bytes]) -> _PcdHeader:
    lines: dict[str, list[str]] = {}
    while "DATA" not in lines and file.tell() < _LONGEST_HEADER:
        line = file.readline(_LONGEST_HEADER)
        if not line:
            break
        words = line.decode("utf-8", "replace").split()
        if words and not words[0].startswith("#"):
            name = words[0].upper()
            lines["FIELDS" if name == "COLUMNS" else name] = words[1:]
    try:
        columns = [lines.get(name, []) for name in ("FIELDS", "SIZE", "TYPE", "COUNT")]
        dtype = _dtype(*map(tuple, columns))
        points, data = int((lines.get("POINTS") or lines["WIDTH"])[0]), lines["DATA"][0].lower()
        if points < 0 or data not in ("ascii", "binary", "binary_compressed"):
            raise ValueError(f"POINTS {points}, DATA {data}")
    except (LookupError, ValueError, TypeError) as error:
        raise damaged(path, "PCD", f"its header: {one_line(error)}") from None
    return _PcdHeader(dtype, points, data, file.tell())


@lru_cache(maxsize=16)
def _dtype(
    fields: tuple[str, ...], sizes: tuple[str, ...], kinds: tuple[str, ...], counts: tuple[str, ...]
) -> np.dtype:
    """The type of one point, without a name for padding (``_``). The same for every scan."""
    names, formats, offsets, offset = [], [], [], 0
    each = zip(fields, sizes, kinds, counts or ("1",) * len(fields), strict=True)
    for name, size, kind, count in each:
        one = np.dtype(f"<{_KINDS[kind.upper()]}{int(size)}")
        if not 0 < int(count) <= _MOST_VALUES:
            raise ValueError(f"COUNT {count}")
        for part in range(int(count)):
            if name != "_":
                names.append(name if int(count) == 1 else f"{name}__{part:04d}")
                formats.append(one)
                offsets.append(offset)
            offset += one.itemsize
    if not names:
        raise ValueError("no FIELDS")
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})
