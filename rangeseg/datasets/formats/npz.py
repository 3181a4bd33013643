"""NumPy's ``.npz``: one array as in ``.npy``, or an array (N,) per field."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from rangeseg.datasets.formats.files import MOST_POINTS, Header, check_count, damaged
from rangeseg.datasets.formats.npy import split
from rangeseg.datasets.formats.roles import column_names
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError, one_line

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MOST_BYTES = 64 * MOST_POINTS
"""Limit of one unpacked array: a small file may claim any size."""


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values, by the headers of the arrays.

    Raises:
        DataError: the file is damaged, or its arrays do not form one scan.
    """
    fields = _fields(path, _shapes(path))
    return Header(check_count(path, len(next(iter(fields.values())))), tuple(fields))


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The fields (N,) by name.

    An array (N, 3) or wider holds x, y, z and perhaps intensity and more; the others are named by
    their keys.

    Raises:
        DataError: see ``read_header``.
    """
    read_header(path, layout)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files}
    except Exception as error:  # zipfile's, zlib's, numpy's
        raise damaged(path, ".npz file", one_line(error)) from None
    return _fields(path, arrays)


def _shapes(path: Path) -> dict[str, np.ndarray]:
    """Arrays of the file's shapes and types without memory; their values mean nothing."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]
                    shape, _, dtype = _HEADERS[version](file)  # type: ignore[no-untyped-call]
                if dtype.hasobject:
                    raise ValueError(f"{name} holds Python's objects")
                found[name.removesuffix(".npy")] = np.broadcast_to(np.zeros((), dtype), shape)
    except Exception as error:  # the header is a Python literal; its parser raises nearly anything
        raise damaged(path, ".npz file", one_line(error)) from None
    for key, values in found.items():
        if values.nbytes > _MOST_BYTES:
            raise DataError(
                f"{path}: its array {key} has {values.nbytes:,} bytes, more than one turn of any "
                "sensor: write one file for each turn"
            )
    return found


def _fields(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if len(arrays) == 1:
        (only,) = arrays.values()
        if only.dtype.names or only.ndim == 2:
            return split(only)
    fields: dict[str, np.ndarray] = {}
    for key, values in arrays.items():
        if values.ndim == 2 and values.shape[1] >= 3:
            named = dict(zip(column_names(values.shape[1]), values.T, strict=True))
        elif values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1):
            named = {key: values.reshape(-1)}
        else:
            continue  # a calibration, a time, a name
        if twice := fields.keys() & named.keys():
            raise DataError(
                f"{path}: more than one array holds {', '.join(sorted(twice))} ({_shown(arrays)}): "
                "keep one array of points, and name the others"
            )
        fields |= named
    if len({len(values) for values in fields.values()}) != 1:
        raise DataError(
            f"{path}: its arrays are not of one length ({_shown(arrays)}): keep one array (N,) "
            "per field, or one (N, columns)"
        )
    return fields


def _shown(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {values.shape}" for key, values in arrays.items())
