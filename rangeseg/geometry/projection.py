"""Projection: map the points of a scan to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rangeseg.errors import DataError
from rangeseg.geometry.beams import firing_columns
from rangeseg.geometry.kernel import BLOCK, approximation, as_points, kernel, take_apart
from rangeseg.geometry.sensor import Sensor

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_PI, _TURN, _QUARTER_TURN = (np.float32(math.pi * turns) for turns in (1.0, 2.0, 0.5))
_INFINITY = np.float32(np.inf)
_NOBODY, _INDEX = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0xFFFFFFFF)  # its index reads -1
_FARTHEST = np.uint64(0x7FEFFFFFFFFFFFFF)  # likewise; as float64 the largest number
_TILE, _NEXT = np.uint64(64), np.uint64(1)  # pixels; unsigned indices need no check


@dataclass(frozen=True)
class Projection:
    """The pixel of each point, and the nearest point of each pixel.

    Attributes:
        row: (N,) int32 image row, 0 the highest; -1 if the point is not projected.
        col: (N,) int32 image column, 0 at the left edge of the view; -1 likewise.
        depth: (N,) float32 Euclidean distance in metres; 0 if the point is not projected.
        point_index: (H,W) int32 index of the nearest point in each pixel; -1 for an empty one.
            With k layers (k,H,W): the k nearest points, the nearest first.
        full_turn: whether the first and the last column are neighbours.
    """

    row: np.ndarray
    col: np.ndarray
    depth: np.ndarray
    point_index: np.ndarray
    full_turn: bool = True

    @property
    def valid(self) -> np.ndarray:
        """(H,W) or (k,H,W) bool: pixels with a point."""
        valid: np.ndarray = self.point_index >= 0
        return valid

    @property
    def front(self) -> Projection:
        """The projection with only the nearest point of each pixel."""
        if self.point_index.ndim == 2:
            return self
        return replace(self, point_index=self.point_index[0])


MOST_LAYERS = 16


def project_points(
    points: np.ndarray, sensor: Sensor, beams: np.ndarray | None = None, layers: int = 1
) -> Projection:
    """Find the pixel of each point; the nearest point owns its pixel, the lower index on a tie.

    Points with a non-finite value, at range zero (no echo) or nearer than ``sensor.min_range`` are
    not projected. Points outside the field of view fall into the nearest row and column, as in the
    literature.

    Args:
        points: (N,4) float32.
        sensor: the field of view and the size of the image.
        beams: (N,) int32 from ``beam_rows``; None takes rows from the inclination.
        layers: number of points that a pixel keeps, from 1 to MOST_LAYERS.

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
    # All in float32 like the literature's tools, so that pixel borders agree.
    flat = np.ascontiguousarray(points[:, :4]).ravel()
    up, down = math.radians(sensor.fov_up_deg), math.radians(sensor.fov_down_deg)
    fov_down, fov = np.float32(down), np.float32(up - down)
    height, width = np.float32(sensor.height), np.float32(sensor.width)
    middle = np.float32(math.radians(sensor.middle_deg))
    half_view = np.float32(math.radians(sensor.view_deg / 2.0))
    depth = np.empty(len(points), dtype=np.float32)
    row, col = np.empty(len(points), dtype=np.int32), np.empty(len(points), dtype=np.int32)
    min_range = np.float32(sensor.min_range)
    _approximate_pixels(
        flat, min_range, height, width, fov_down, fov, middle, half_view, depth, row, col
    )
    if beams is not None:
        row = beams.copy()
        if sensor.height != sensor.beams:
            row = (np.arange(sensor.beams, dtype=np.int32) * sensor.height // sensor.beams)[beams]
        if sensor.row_rule == "file_order":
            col = firing_columns(points, sensor)
    _compute_remaining(
        flat, depth, sensor.height, sensor.width, fov_down, fov, middle, half_view, row, col
    )
    size = sensor.height, sensor.width
    point_index = np.empty(size if layers == 1 else (layers, *size), dtype=np.int32)
    _find_owners(depth, row, col, point_index)
    return Projection(row, col, depth, point_index, sensor.full_turn)


def _check_beams(beams: np.ndarray, num_points: int, sensor: Sensor) -> None:
    if len(beams) != num_points:
        raise ValueError(f"{num_points} points, but beams of {len(beams)}")
    if num_points and not 0 <= beams.min() <= beams.max() < sensor.beams:
        raise DataError(
            f"sensor {sensor.name} has beams 0 to {sensor.beams - 1}, but the scan names "
            f"{beams.min()} to {beams.max()}: check the sensor and the ring of the points"
        )


def add_points(
    projection: Projection, row: np.ndarray, col: np.ndarray, depth: np.ndarray
) -> Projection:
    """Add M points to a projection, with the last indices; pixels show the nearest points.

    Args:
        projection: projection of N points.
        row: (M,) int32 image row of each further point.
        col: (M,) int32 image column.
        depth: (M,) float32 distance in metres.
    """
    depth = np.concatenate([projection.depth, depth])
    row, col = np.concatenate([projection.row, row]), np.concatenate([projection.col, col])
    point_index = np.empty_like(projection.point_index)
    _find_owners(depth, row, col, point_index)
    return Projection(row, col, depth, point_index, projection.full_turn)


_ARCTANGENT = (0.99999611, -0.33317368, 0.19807812, -0.1323333, 0.07962347, -0.03360406, 0.00681174)
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (np.float32(c) for c in _ARCTANGENT)
"""Odd minimax polynomial of the arctangent on [0,1], error 2.5e-7 rad."""

_ARCSINE = (0.99999436, 0.16695927, 0.07070478, 0.07104399, -0.04453103, 0.11112911)
_S0, _S1, _S2, _S3, _S4, _S5 = (np.float32(c) for c in _ARCSINE)
"""Odd minimax polynomial of the arcsine up to the sine of 45 degrees, error 3.2e-7 rad."""

LARGEST_SINE = np.float32(0.7071)
"""Largest sine for the approximate arcsine."""

ANGLE_ERROR = 3e-6
"""Bound in rad, with a wide margin, on the difference of approximations and float32 formulas. The
approximations are right to 6e-7, the rounded formulas to as much again."""

_SMALL = np.float32(1e-30)


@approximation
def approximate_azimuth(y: Any, x: Any) -> Any:
    """Approximate the arctangent of y / x in all quadrants, without a branch, for vectorisation.

    The error is at most 6e-7 rad for finite arguments, one of them at least 1e-15.
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


@approximation
def approximate_inclination(sine: Any) -> Any:
    """Approximate the arcsine to 6e-7 rad, up to LARGEST_SINE in absolute value."""
    s = sine * sine
    return sine * (_S0 + s * (_S1 + s * (_S2 + s * (_S3 + s * (_S4 + s * _S5)))))


@kernel
def from_middle(azimuth: Any, middle: Any) -> Any:
    """Azimuth relative to the middle of the view, within half a turn."""
    azimuth = azimuth - middle
    azimuth = azimuth - _TURN if azimuth > _PI else azimuth
    return azimuth + _TURN if azimuth < -_PI else azimuth


@kernel
def _approximate_pixels(
    points: np.ndarray,
    min_range: np.float32,
    height: np.float32,
    width: np.float32,
    fov_down: np.float32,
    fov: np.float32,
    middle: np.float32,
    half_view: np.float32,
    depths: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
) -> None:
    """Compute distances, 0 for points without position; rows and columns, -1 if undecided.

    Only the formula decides near the border of two. Points are flat: x, y, z, intensity.
    """
    values = np.empty((4, BLOCK), dtype=np.float32)
    for start in range(0, depths.shape[0], BLOCK):
        end = min(start + BLOCK, depths.shape[0])
        take_apart(points[4 * start : 4 * end], values)
        n = end - start
        x, y, z, intensity = values[0, :n], values[1, :n], values[2, :n], values[3, :n]
        _approximate_block(
            x, y, z, intensity, min_range, height, width, fov_down, fov, middle, half_view,
            depths[start:end], rows[start:end], cols[start:end],
        )  # fmt: skip


@kernel
def _approximate_block(
    xs: np.ndarray,
    ys: np.ndarray,
    zs: np.ndarray,
    intensities: np.ndarray,
    min_range: np.float32,
    height: np.float32,
    width: np.float32,
    fov_down: np.float32,
    fov: np.float32,
    middle: np.float32,
    half_view: np.float32,
    depths: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
) -> None:
    rows_per_rad, lowest = -height / fov, (_ONE + fov_down / fov) * height
    row_inside = _HALF - np.float32(ANGLE_ERROR) * height / fov
    cols_per_rad, centre = -_HALF * width / half_view, _HALF * width
    col_inside = _HALF - _HALF * np.float32(ANGLE_ERROR) * width / half_view
    for i in range(depths.shape[0]):
        x, y, z = xs[i], ys[i], zs[i]
        depth = math.sqrt(x * x + y * y + z * z)
        # False for NaN too. An overflow to infinity is no position either.
        place = (depth > _ZERO) & (depth < _INFINITY) & (depth >= min_range)
        place &= abs(intensities[i]) < _INFINITY
        depths[i] = depth if place else _ZERO

        sine = z / depth
        row = approximate_inclination(sine) * rows_per_rad + lowest
        # As in the formula, points above the field of view go to the first row, below to the last.
        # NaN, from points without position, falls into the first.
        row = row if row > _HALF else _HALF
        row = row if row < height - _HALF else height - _HALF
        whole = np.int32(row)
        from_centre = abs(row - np.float32(whole) - _HALF)
        rows[i] = whole if (from_centre < row_inside) & (abs(sine) < LARGEST_SINE) else -1

        col = from_middle(approximate_azimuth(y, x), middle) * cols_per_rad + centre
        col = col if col > _ZERO else _ZERO
        col = col if col < width else width
        whole = np.int32(col)
        from_centre = abs(col - np.float32(whole) - _HALF)
        cols[i] = whole if (from_centre < col_inside) & (x * x + y * y > _SMALL) else -1


@kernel
def _compute_remaining(
    points: np.ndarray,
    depths: np.ndarray,
    height: int,
    width: int,
    fov_down: np.float32,
    fov: np.float32,
    middle: np.float32,
    half_view: np.float32,
    rows: np.ndarray,
    cols: np.ndarray,
) -> None:
    """Apply the formulas where row or column is undecided."""
    for i in range(depths.shape[0]):
        if (rows[i] | cols[i]) >= 0 or depths[i] == _ZERO:
            continue
        if rows[i] < 0:
            # Rounding may leave the ratio just outside the domain of the arcsine.
            inclination = math.asin(min(max(points[4 * i + 2] / depths[i], -_ONE), _ONE))
            row = int((_ONE - (inclination - fov_down) / fov) * np.float32(height))
            rows[i] = min(max(row, 0), height - 1)
        if cols[i] < 0:
            azimuth = from_middle(math.atan2(points[4 * i + 1], points[4 * i]), middle)
            # Truncation equals floor here, as negative numbers become 0 below.
            col = int(_HALF * (_ONE - azimuth / half_view) * np.float32(width))
            cols[i] = min(max(col, 0), width - 1)


def _find_owners(
    depths: np.ndarray, rows: np.ndarray, cols: np.ndarray, point_index: np.ndarray
) -> None:
    """Find the nearest points of each pixel; points without position lose row and column."""
    (_find_nearest if point_index.ndim == 2 else _find_layers)(depths, rows, cols, point_index)


@kernel
def _find_nearest(
    depths: np.ndarray, rows: np.ndarray, cols: np.ndarray, point_index: np.ndarray
) -> None:
    """Fill in the nearest point of each pixel (H,W).

    Bits of a positive number order like it, so distance and index form one whole number. The least
    one is the nearest point with the lowest index, without branches.
    """
    width, owners = np.uint32(point_index.shape[1]), point_index.ravel()
    nearest = np.full(owners.shape[0], _NOBODY, dtype=np.uint64)
    depth_bits = depths.view(np.uint32)
    for i in range(depths.shape[0]):
        if depth_bits[i] != 0:
            pixel = np.uint32(rows[i]) * width + np.uint32(cols[i])
            key = np.uint64(depth_bits[i]) << np.uint64(32) | np.uint64(i)
            nearest[pixel] = min(nearest[pixel], key)
        else:
            rows[i], cols[i] = -1, -1
    for i in range(owners.shape[0]):
        owners[i] = np.int32(nearest[i] & _INDEX)


@kernel
def _find_layers(
    depths: np.ndarray, rows: np.ndarray, cols: np.ndarray, point_index: np.ndarray
) -> None:
    """Fill in the k nearest points of each pixel (k,H,W); see ``_find_nearest``.

    Whole numbers are compared as float64 bits, which order alike: processors have a minimum of
    these. A point moves down the row of its pixel and pushes out farther ones.
    """
    layers, width = np.uint64(point_index.shape[0]), np.uint32(point_index.shape[2])
    pixels = np.uint64(point_index.size) // layers
    nearest = np.full(point_index.size, _FARTHEST, dtype=np.uint64)  # a row for each pixel
    held, bits = nearest.view(np.float64), np.empty(1, dtype=np.uint64)
    number, depth_bits = bits.view(np.float64), depths.view(np.uint32)
    for i in range(depths.shape[0]):
        if depth_bits[i] == 0:
            rows[i], cols[i] = -1, -1
            continue
        place = np.uint64(np.uint32(rows[i]) * width + np.uint32(cols[i])) * layers
        bits[0] = np.uint64(depth_bits[i]) << np.uint64(32) | np.uint64(i)
        pushed = number[0]
        end = place + layers
        while place < end:
            own = held[place]
            held[place] = own if own < pushed else pushed
            pushed = pushed if own < pushed else own
            place += _NEXT
    owners = point_index.ravel()
    for start in range(np.uint64(0), pixels, _TILE):  # stays in the cache
        count = min(_TILE, pixels - start)
        for layer in range(layers):
            place, owner = start * layers + layer, layer * pixels + start
            for _ in range(count):
                owners[owner] = np.int32(nearest[place] & _INDEX)
                place, owner = place + layers, owner + _NEXT
