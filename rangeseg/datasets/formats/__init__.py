"""Readers of point files: raw, NumPy, PCD, PLY and LAS."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from rangeseg.datasets.formats import las, npy, npz, pcd, ply, raw
from rangeseg.datasets.formats.detect import Format, file_format
from rangeseg.datasets.formats.files import Header
from rangeseg.datasets.formats.roles import column_names, find_roles, roles_of
from rangeseg.datasets.layout import Layout

__all__ = [
    "Header",
    "column_names",
    "count_points",
    "file_format",
    "find_roles",
    "read_fields",
    "read_header",
    "roles_of",
]

_READERS: dict[Format, ModuleType] = {
    "raw": raw, "npy": npy, "npz": npz, "pcd": pcd, "ply": ply, "las": las,
}  # fmt: skip


def read_header(path: Path, layout: Layout) -> Header:
    """Read a file's number of points and names of values, from its header or size.

    Raises:
        DataError: the file is missing or damaged, holds no point, or is no file of points.
    """
    header: Header = _READERS[file_format(path)].read_header(path, layout)
    return header


def count_points(path: Path, layout: Layout) -> int:
    """Count the points of a file; see ``read_header``."""
    return read_header(path, layout).points


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """Read the values of a point file, by their names in the file.

    Args:
        path: of any format; see ``file_format``.
        layout: content of a raw file: ``columns``, ``dtype``, ``byte_order``. Other fields are not
            applied.

    Returns:
        Name -> (N,) of the file's own type. Without names in the file they are x, y, z, intensity,
        column_4, column_5 and so on.

    Raises:
        DataError: see ``read_header``.
    """
    fields: dict[str, np.ndarray] = _READERS[file_format(path)].read_fields(path, layout)
    return fields
