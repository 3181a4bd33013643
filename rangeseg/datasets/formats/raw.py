"""Raw files: the values of all points, without a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, file_size, reason, unreadable
from rangeseg.datasets.formats.roles import column_names
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError


def read_header(path: Path, layout: Layout) -> Header:
    """The number of points, by the file's size.

    Raises:
        DataError: the file is missing or truncated, or holds no point.
    """
    size, width = file_size(path), layout.columns * np.dtype(layout.dtype).itemsize
    if size is None:
        raise unreadable(path, FileNotFoundError())
    if size % width:
        raise DataError(
            f"{path} has {size} bytes, not a multiple of {width} "
            f"({layout.columns} {layout.dtype} per point): the file is truncated; copy it again "
            f"(or a point has another number of values than {layout.columns})",
            kind="truncated",
        )
    return Header(check_count(path, size // width), column_names(layout.columns))


def read_values(path: Path, layout: Layout) -> np.ndarray:
    """Read the values (N, columns) of ``layout.dtype``; see ``read_header``."""
    read_header(path, layout)
    dtype = np.dtype(layout.dtype).newbyteorder("<" if layout.byte_order == "little" else ">")
    try:
        values = np.fromfile(path, dtype)
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None
    return values.reshape(-1, layout.columns)


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The columns (N,) by the names that ``column_names`` gives them; see ``read_header``."""
    values = read_values(path, layout)
    return dict(zip(column_names(layout.columns), values.T, strict=True))
