"""Read the points of a scan from any format: metres, in the sensor's frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rangeseg.datasets.formats import column_names, file_format, raw, read_fields, roles_of
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout, Role
from rangeseg.errors import DataError
from rangeseg.geometry.kernel import kernel

_XYZ: tuple[Role, Role, Role] = ("x", "y", "z")

FARTHEST = np.float32(1e6)
"""Larger coordinates (metres) and intensities are invalid."""

_KNOWN, _IGNORED = np.uint8(0), np.uint8(IGNORE)
_NO_SIZE, _SIZE, _INFINITE_SIZE = np.uint32(0), np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)


class PointFile(NamedTuple):
    """The content of a point file.

    Attributes:
        points: (N,4) float32: x, y, z in metres in the sensor's frame, forward, left and up;
            intensity as in the file, 0 where it has none.
        fields: name in the file -> (N,) of the file's own type.
        roles: role -> name in the file.
    """

    points: np.ndarray
    fields: dict[str, np.ndarray]
    roles: dict[Role, str]


def read_points(path: Path, layout: Layout, pose: np.ndarray | None = None) -> PointFile:
    """Read a point file of any format, and transform its points to the sensor's frame.

    Args:
        path: see ``formats.file_format``.
        layout: content of the file.
        pose: (4,4) float64 pose of the sensor, if the file's points are in the world's frame.

    Raises:
        DataError: the file is missing, damaged or empty, is no file of points, or has no x, y, z.
    """
    if file_format(path) == "raw":
        values = raw.read_values(path, layout)
        fields = dict(zip(column_names(layout.columns), values.T, strict=True))
    else:
        values, fields = None, read_fields(path, layout)
    roles = _find_roles(path, tuple(fields), layout)
    if values is not None and _as_it_is(values, roles, layout):
        return PointFile(_packed(values[:, :4]), fields, roles)
    xyz: list[np.ndarray] = [fields[roles[axis]] for axis in _XYZ]
    intensity = fields[roles["intensity"]] if "intensity" in roles else None
    with np.errstate(all="ignore"):  # values beyond float32 become NaN or infinite
        if layout.moves:
            points = np.empty((len(xyz[0]), 4), dtype=np.float32)
            points[:, :3] = _in_sensor_frame(np.stack(xyz, axis=1, dtype=np.float64), layout, pose)
            points[:, 3] = 0.0 if intensity is None else intensity
        else:
            points = _stack(xyz, intensity)
    return PointFile(points, fields, roles)


def _stack(xyz: list[np.ndarray], intensity: np.ndarray | None) -> np.ndarray:
    """Stack columns (N,) of any type to points (N,4) float32; copy records in blocks."""
    if intensity is not None and (block := _side_by_side([*xyz, intensity])) is not None:
        return _packed(block)
    points = np.zeros((len(xyz[0]), 4), dtype=np.float32)
    if (block := _side_by_side(xyz)) is not None:
        points[:, :3].view("V12")[:] = block.view("V12")
    else:
        for column, coordinate in enumerate(xyz):
            points[:, column] = coordinate
    if intensity is not None:
        points[:, 3] = intensity
    return points


def _side_by_side(columns: list[np.ndarray]) -> np.ndarray | None:
    """View columns (N,) as (N, columns), if they are neighbouring float32 of each record."""
    begin, (stride,) = columns[0].ctypes.data, columns[0].strides
    for place, column in enumerate(columns):
        there = column.ctypes.data == begin + 4 * place and column.strides == (stride,)
        if not there or column.dtype != np.float32:
            return None
    shape, strides = (len(columns[0]), len(columns)), (stride, 4)
    return np.lib.stride_tricks.as_strided(columns[0], shape, strides)


def _packed(points: np.ndarray) -> np.ndarray:
    """Copy points (N,4) float32 from wider records, four times faster than NumPy."""
    if points.flags.c_contiguous:
        return points
    return np.ascontiguousarray(points.view("V16")).view(np.float32)


def _find_roles(path: Path, names: tuple[str, ...], layout: Layout) -> dict[Role, str]:
    try:
        roles = roles_of(names, layout)
    except DataError as error:
        raise DataError(f"{path} {error}") from None
    if missing := [axis for axis in _XYZ if axis not in roles]:
        raise DataError(
            f"{path} holds {', '.join(names)}, none of which is {' or '.join(missing)}: name them "
            "in layout.fields, e.g. {x: NAME}"
        )
    return roles


def _as_it_is(values: np.ndarray, roles: Mapping[Role, str], layout: Layout) -> bool:
    """Whether the first four columns are the points: float32 in metres, in the usual order."""
    first = tuple(roles.get(role) for role in (*_XYZ, "intensity"))
    usual = first == ("x", "y", "z", "intensity")
    return usual and values.dtype == np.float32 and not layout.moves


def _in_sensor_frame(xyz: np.ndarray, layout: Layout, pose: np.ndarray | None) -> np.ndarray:
    """The file's coordinates as (N,3) float64 metres forward, left and up of the sensor."""
    lost = ~xyz.any(axis=1)
    xyz *= layout.scale
    turn = layout.rotation()
    if pose is not None:
        xyz -= pose[:3, 3]
        turn = turn @ np.linalg.inv(pose[:3, :3])
    xyz = xyz @ turn.T
    xyz[lost] = 0.0  # keep empty returns at zero
    return xyz


def measured(points: np.ndarray, intensity_max: float) -> np.ndarray:
    """Scale intensities to 0..1; a coordinate beyond ±FARTHEST becomes NaN, such an intensity 0.

    A point without a position is not projected, but gets a prediction. A point without an intensity
    keeps its position: some devices write NaN. One intensity of 1e38 would make the image infinite,
    and the prediction of the whole scan invalid.

    Args:
        points: (N,4) float32; changed in place.
        intensity_max: value of the brightest echo in the file.

    Returns:
        The same points.
    """
    if intensity_max != 1.0:
        with np.errstate(all="ignore"):  # NaN and the like are allowed here
            points[:, 3] /= np.float32(intensity_max)
    if _any_beyond(points.ravel()):
        points[np.abs(points) > FARTHEST] = np.nan
        points[np.isnan(points[:, 3]), 3] = 0.0
    return points


@kernel
def _any_beyond(values: np.ndarray) -> bool:
    """Whether a value is NaN or beyond ±FARTHEST, without a temporary array."""
    found = False
    for i in range(values.shape[0]):
        found |= not abs(values[i]) <= FARTHEST
    return found


@kernel
def ignore_empty(points: np.ndarray, labels: np.ndarray) -> None:
    """Set the label of each point without a position, (0, 0, 0) or not finite, to IGNORE.

    Args:
        points: (N,4) float32, contiguous and ``measured``.
        labels: (N,) uint8; changed in place.
    """
    # Bits without the sign: they order like the numbers, infinity and NaN last.
    values = points.view(np.uint32).ravel()
    for i in range(labels.shape[0]):
        x, y, z = values[4 * i] & _SIZE, values[4 * i + 1] & _SIZE, values[4 * i + 2] & _SIZE
        largest = max(x, max(y, z))
        known = (largest > _NO_SIZE) & (largest < _INFINITE_SIZE)
        labels[i] |= _KNOWN if known else _IGNORED  # whose bits are all set
