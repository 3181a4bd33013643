"""PLY: the properties of the element ``vertex``, from ascii or binary files of both byte orders.

Reference: Turk, The PLY Polygon File Format, 1994.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, damaged, unreadable
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError, one_line


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values; an ascii file is read whole.

    Raises:
        DataError: the file is missing or damaged, or holds no point.
    """
    values = _vertices(path)
    return Header(len(values), tuple(_names(values)))


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The properties (N,) by name; lists are left out.

    Raises:
        DataError: see ``read_header``.
    """
    values = _vertices(path)
    return {name: np.array(values[name]) for name in _names(values)}


def _vertices(path: Path) -> np.ndarray:
    """The structured array of the vertices, mapped into memory where the file is binary."""
    from plyfile import PlyData

    try:
        content: Any = PlyData.read(path, mmap="c")
        values: np.ndarray = content["vertex"].data
    except OSError as error:
        raise unreadable(path, error) from None
    except KeyError:
        raise DataError(
            f"{path} has no element 'vertex', where PLY files keep points: write them there"
        ) from None
    except Exception as error:  # the library may raise anything
        raise damaged(path, "PLY file", one_line(error)) from None
    check_count(path, len(values))
    return values


def _names(values: np.ndarray) -> list[str]:
    return [name for name in values.dtype.names or () if values.dtype[name].kind in "iuf"]
