"""NumPy's ``.npy``: an array of floats (N, columns), or a structured array of named fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, reason
from rangeseg.datasets.formats.roles import column_names
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError, one_line


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values, by the header; the file's size is checked.

    Raises:
        DataError: the file is damaged, or does not hold points.
    """
    values = open_array(path)
    if values.dtype.names is None:
        check_table(path, values, layout)
    return Header(check_count(path, count(values)), names(values))


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The columns or named fields (N,); see ``read_header``."""
    read_header(path, layout)
    try:
        return split(np.load(path))
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def open_array(path: Path) -> np.ndarray:
    """Open the array of a file; its values are not read yet.

    Raises:
        DataError: the file is damaged, or holds Python objects.
    """
    try:
        values: np.ndarray = np.load(path, mmap_mode="r")  # checks only the size
    except Exception as error:  # the header is a Python literal; its parser raises nearly anything
        raise DataError(
            f"{path} is not a whole .npy file of numbers ({one_line(error)}): write it again with "
            "numpy.save",
            kind="truncated",
        ) from None
    return values


def check_table(path: Path, values: np.ndarray, layout: Layout) -> None:
    """Check an array without names: floats, or whole numbers of the stated type.

    Raises:
        DataError: it is something else.
    """
    stated = values.dtype == layout.dtype
    wide = values.ndim == 2 and values.shape[1] == layout.columns
    if not wide or (values.dtype.kind != "f" and not stated):
        raise DataError(
            f"{path} holds {values.dtype} of shape {values.shape}, expected floats of shape "
            f"(N, {layout.columns}): correct layout.columns, state type and unit of whole numbers "
            "(layout.dtype, layout.scale), or write it again"
        )


def count(values: np.ndarray) -> int:
    """Count the points of an array: rows, or elements of a structured array."""
    return values.size if values.dtype.names else values.shape[0]


def names(values: np.ndarray) -> tuple[str, ...]:
    """Name an array's fields or columns."""
    return tuple(values.dtype.names or column_names(values.shape[1]))


def split(values: np.ndarray) -> dict[str, np.ndarray]:
    """Split an array into its fields or columns (N,), by name."""
    if values.dtype.names:
        flat = values.ravel()
        return {name: flat[name] for name in values.dtype.names}
    return dict(zip(names(values), values.T, strict=True))
