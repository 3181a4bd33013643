"""NumPy's ``.npz``: one array as in ``.npy``, or an array (N,) per field."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, damaged
from rangeseg.datasets.formats.npy import split
from rangeseg.datasets.formats.roles import column_names
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError, one_line


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values; the arrays are read, for packed ones tell nothing.

    Raises:
        DataError: the file is damaged, or its arrays are not those of one scan.
    """
    fields = read_fields(path, layout)
    return Header(len(next(iter(fields.values()))), tuple(fields))


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The fields (N,) by name.

    An array (N, 3) or wider holds x, y, z and perhaps intensity and more; the others are named by
    their keys.

    Raises:
        DataError: see ``read_header``.
    """
    arrays = _load(path)
    if len(arrays) == 1:
        (only,) = arrays.values()
        if only.dtype.names or only.ndim == 2:
            fields = split(only)
            check_count(path, len(next(iter(fields.values()))))
            return fields
    fields = {}
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
    check_count(path, len(next(iter(fields.values()))))
    return fields


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}
    except Exception as error:  # zipfile's, zlib's, numpy's
        raise damaged(path, ".npz file", one_line(error)) from None


def _shown(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {values.shape}" for key, values in arrays.items())
