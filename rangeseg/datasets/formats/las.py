"""LAS and LAZ, survey formats; read with laspy (extra ``las``).

Reference: ASPRS, LAS Specification 1.4.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

import numpy as np

from rangeseg.datasets.formats.files import Header, check_count, damaged, unreadable
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError, one_line


def read_header(path: Path, layout: Layout) -> Header:
    """The number and names of the values, by the header alone.

    Raises:
        DataError: the file is missing or damaged, holds no point, or laspy is not installed.
    """
    laspy = _laspy(path)
    try:
        _check_records(path)
        with laspy.open(path) as file:
            points, names = file.header.point_count, file.header.point_format.dimension_names
            return Header(check_count(path, points), ("x", "y", "z", *_others(names)))
    except OSError as error:
        raise unreadable(path, error) from None
    except DataError:
        raise
    except Exception as error:  # a damaged header may raise anything
        raise damaged(path, "LAS or LAZ file", one_line(error)) from None


def read_fields(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """The dimensions (N,) by name; x, y and z in float64, with the file's scale and offset.

    Raises:
        DataError: see ``read_header``.
    """
    header = read_header(path, layout)
    try:
        content = _laspy(path).read(path)
        fields = {name: np.array(content[name]) for name in header.names}
    except Exception as error:  # laspy's own, lazrs' own, numpy's
        raise damaged(path, "LAS or LAZ file", one_line(error)) from None
    if len(fields["x"]) != header.points:
        why = f"{len(fields['x'])} of {header.points} points"
        raise damaged(path, "LAS or LAZ file", why)
    return fields


_HEAD = 375
"""Bytes of the longest header."""


def _check_records(path: Path) -> None:
    """Check that the variable-length records can fit into the file.

    laspy trusts the header's number, even beyond the file's end: 4 billion in a damaged one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD).ljust(_HEAD, b"\0")
    length, points_at, records = struct.unpack_from("<HII", head, 94)
    extended_at, extended = struct.unpack_from("<QI", head, 235)
    if head[25] < 4:  # before LAS 1.4
        extended_at = extended = 0
    room, extended_room = min(points_at, size) - length, max(size - extended_at, 0)
    if points_at > size or 54 * records > room or 60 * extended > extended_room:
        why = f"{records} + {extended} records beside the points do not fit"
        raise damaged(path, "LAS or LAZ file", why)


def _others(names: object) -> list[str]:
    """The dimensions without the integers behind x, y and z."""
    return [str(name) for name in names if name not in ("X", "Y", "Z")]  # type: ignore[attr-defined]


def _laspy(path: Path) -> ModuleType:
    try:
        import laspy
    except ImportError:
        raise DataError(
            f"{path} is a LAS or LAZ file, which laspy reads, and that is not installed: "
            "pip install 'rangeseg[las]'"
        ) from None
    module: ModuleType = laspy
    return module
