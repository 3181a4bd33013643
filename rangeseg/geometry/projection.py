"""Points to pixels: where each point of a scan falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from rangeseg.errors import DataError
from rangeseg.geometry.firing_order import firing_columns
from rangeseg.geometry.kernel import as_points, kernel
from rangeseg.geometry.sensor import Sensor

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_PI, _QUARTER_TURN = np.float32(math.pi), np.float32(math.pi / 2)
_INFINITY = np.float32(np.inf)


@dataclass(frozen=True)
class Projection:
    """Where each point of a scan fell, and which point each pixel shows.

    Attributes:
        row: (N,) int32 image row, 0 the highest; -1 where the point is not projected.
        col: (N,) int32 image column, 0 at azimuth +180°, azimuth falling; -1 likewise.
        depth: (N,) float32 Euclidean distance in metres; 0 where the point is not projected.
        point_index: (H,W) int32 index of the nearest point in each pixel; -1 where there is none.
    """

    row: np.ndarray
    col: np.ndarray
    depth: np.ndarray
    point_index: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """(H,W) bool: pixels that show a point."""
        valid: np.ndarray = self.point_index >= 0
        return valid


def project_points(
    points: np.ndarray, sensor: Sensor, beams: np.ndarray | None = None
) -> Projection:
    """Find the pixel of each point; the nearest point owns its pixel, the lower index on a tie.

    Not projected are points with a value that is not finite, at range zero (no echo) or nearer
    than ``sensor.min_range``. Inclinations outside the field of view fall into the first or last
    row, as in the literature.

    Args:
        points: (N,4) float32.
        sensor: the field of view and the size of the image.
        beams: (N,) int32 from ``beam_rows``; None takes rows from the inclination.

    Raises:
        DataError: a beam that the sensor does not have.

    Reference:
        Milioto et al., RangeNet++: Fast and Accurate LiDAR Semantic Segmentation, IROS 2019,
        Eq. 1; with beams, the rows of Triess et al., Scan-based Semantic Segmentation of LiDAR
        Point Clouds, IV 2020.
    """
    if beams is not None:
        _check_beams(beams, len(points), sensor)
        beams = np.ascontiguousarray(beams, dtype=np.int32)
    points = as_points(points)
    # All in float32, like the tools of the literature, so that borders fall where theirs do. The
    # kernels stay apart: compiled into one function they are no longer vectorised.
    flat = np.ascontiguousarray(points[:, :4]).ravel()
    depth = np.empty(len(points), dtype=np.float32)
    _measure(flat, np.float32(sensor.min_range), depth)
    if beams is not None and sensor.row_rule == "file_order":
        col = firing_columns(points, sensor.beams, sensor.width, sensor.min_range)
    else:
        col = _columns(flat, depth, sensor.width)
    if beams is None:
        row = _rows(flat, depth, sensor)
    else:
        row = (np.arange(sensor.beams, dtype=np.int32) * sensor.height // sensor.beams)[beams]
    point_index = np.full((sensor.height, sensor.width), -1, dtype=np.int32)
    _find_owners(depth, row, col, point_index)
    return Projection(row, col, depth, point_index)


def _check_beams(beams: np.ndarray, num_points: int, sensor: Sensor) -> None:
    if len(beams) != num_points:
        raise ValueError(f"{num_points} points, but beams of {len(beams)}")
    if num_points and not 0 <= beams.min() <= beams.max() < sensor.beams:
        raise DataError(
            f"sensor {sensor.name} has beams 0 to {sensor.beams - 1}, but the scan names "
            f"{beams.min()} to {beams.max()}: check the sensor and the ring of the points"
        )


_ARCTANGENT = (0.99999611, -0.33317368, 0.19807812, -0.1323333, 0.07962347, -0.03360406, 0.00681174)
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (np.float32(c) for c in _ARCTANGENT)
"""Odd polynomial nearest to the arctangent on [0,1] in the largest error, 2.5e-7 rad."""

ANGLE_ERROR = 3e-6
"""What the approximation and the formulas in float32 may differ by, in rad, with a wide margin:
the approximation is right to 6e-7, the formulas and their rounding to as much again."""

_SMALL = np.float32(1e-30)


@kernel
def approximate_azimuth(y: Any, x: Any) -> Any:
    """The arctangent of y / x in all four quadrants, without a branch: it can be vectorised.

    Right to 6e-7 rad for finite arguments of which one at least is 1e-15 or more.
    """
    across, along = abs(y), abs(x)
    larger = across if across > along else along
    smaller = along if across > along else across
    t = smaller / (larger + _SMALL)
    s = t * t
    angle = t * (_C0 + s * (_C1 + s * (_C2 + s * (_C3 + s * (_C4 + s * (_C5 + s * _C6))))))
    angle = _QUARTER_TURN - angle if across > along else angle
    angle = _PI - angle if x < _ZERO else angle
    return -angle if y < _ZERO else angle


def _columns(flat: np.ndarray, depth: np.ndarray, width: int) -> np.ndarray:
    """(N,) int32 by the azimuth of points that are laid flat: x y z intensity x y z ..."""
    col = np.empty(len(depth), dtype=np.int32)
    _sure_columns(flat, np.float32(width), col)
    _remaining_columns(flat, depth, width, col)
    return col


def _rows(flat: np.ndarray, depth: np.ndarray, sensor: Sensor) -> np.ndarray:
    """(N,) int32 by the inclination likewise."""
    up, down = math.radians(sensor.fov_up_deg), math.radians(sensor.fov_down_deg)
    fov_down, fov = np.float32(down), np.float32(up - down)
    row = np.empty(len(depth), dtype=np.int32)
    _sure_rows(flat, np.float32(sensor.height), fov_down, fov, row)
    _remaining_rows(flat, depth, sensor.height, fov_down, fov, row)
    return row


@kernel
def _measure(points: np.ndarray, min_range: np.float32, depths: np.ndarray) -> None:
    """The distance of each point, 0 where it is no place."""
    for i in range(depths.shape[0]):
        x, y, z = points[4 * i], points[4 * i + 1], points[4 * i + 2]
        depth = math.sqrt(x * x + y * y + z * z)
        # False for NaN as well. An overflow to infinity is not a place either.
        place = (depth > _ZERO) & (depth < _INFINITY) & (depth >= min_range)
        place &= abs(points[4 * i + 3]) < _INFINITY
        depths[i] = depth if place else _ZERO


@kernel
def _sure_columns(points: np.ndarray, width: np.float32, cols: np.ndarray) -> None:
    """Columns, -1 so near to the border of two that only the formula can tell."""
    per_rad, middle = -_HALF * width / _PI, _HALF * width
    inside = _HALF - np.float32(ANGLE_ERROR / (2.0 * math.pi)) * width
    for i in range(cols.shape[0]):
        x, y = points[4 * i], points[4 * i + 1]
        col = approximate_azimuth(y, x) * per_rad + middle
        col = col if col > _ZERO else _ZERO  # NaN too, which belongs to a point that is no place
        col = col if col < width else width
        whole = np.int32(col)
        from_centre = abs(col - np.float32(whole) - _HALF)
        sure = (from_centre < inside) & (x * x + y * y > _SMALL)
        cols[i] = whole if sure else np.int32(-1)


@kernel
def _sure_rows(
    points: np.ndarray,
    height: np.float32,
    fov_down: np.float32,
    fov: np.float32,
    rows: np.ndarray,
) -> None:
    """Rows likewise; towards the vertical the formula's own error grows, so it decides there."""
    per_rad, lowest = -height / fov, (_ONE + fov_down / fov) * height
    inside = _HALF - np.float32(ANGLE_ERROR) * height / fov
    for i in range(rows.shape[0]):
        x, y, z = points[4 * i], points[4 * i + 1], points[4 * i + 2]
        flat = x * x + y * y
        row = approximate_azimuth(z, math.sqrt(flat)) * per_rad + lowest
        row = row if row > -_ONE else -_ONE
        row = row if row < height else height
        whole = np.int32(row)
        from_centre = abs(row - np.float32(whole) - _HALF)
        sure = (from_centre < inside) & (z * z < flat) & (flat > _SMALL)
        rows[i] = whole if sure else np.int32(-1)


@kernel
def _remaining_columns(
    points: np.ndarray, depths: np.ndarray, width: int, cols: np.ndarray
) -> None:
    for i in range(cols.shape[0]):
        if cols[i] < 0 and depths[i] > _ZERO:
            azimuth = math.atan2(points[4 * i + 1], points[4 * i])
            # Cut to whole numbers towards zero: as good as floor where negative ones become 0.
            col = int(_HALF * (_ONE - azimuth / _PI) * np.float32(width))
            cols[i] = min(max(col, 0), width - 1)


@kernel
def _remaining_rows(
    points: np.ndarray,
    depths: np.ndarray,
    height: int,
    fov_down: np.float32,
    fov: np.float32,
    rows: np.ndarray,
) -> None:
    for i in range(rows.shape[0]):
        if rows[i] < 0 and depths[i] > _ZERO:
            # Rounding may leave the ratio just outside the domain of the arcsine.
            inclination = math.asin(min(max(points[4 * i + 2] / depths[i], -_ONE), _ONE))
            row = int((_ONE - (inclination - fov_down) / fov) * np.float32(height))
            rows[i] = min(max(row, 0), height - 1)


@kernel
def _find_owners(
    depths: np.ndarray, rows: np.ndarray, cols: np.ndarray, point_index: np.ndarray
) -> None:
    """The nearest point of each pixel; points that are no place lose row and column."""
    width, owners = np.uint32(point_index.shape[1]), point_index.ravel()
    nearest = np.full(owners.shape[0], _INFINITY, dtype=np.float32)
    for i in range(depths.shape[0]):
        depth = depths[i]
        if depth == _ZERO:
            rows[i], cols[i] = -1, -1
            continue
        pixel = np.uint32(rows[i]) * width + np.uint32(cols[i])
        if depth < nearest[pixel]:
            nearest[pixel], owners[pixel] = depth, i
