"""The channels of a range image, which are what a network reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from rangeseg.errors import ConfigError, unknown_name
from rangeseg.geometry.kernel import as_points, kernel
from rangeseg.geometry.normals import NORMALS, surface_normals
from rangeseg.geometry.projection import Projection
from rangeseg.geometry.sensor import Sensor

CHANNELS = ("range", "x", "y", "z", "intensity", "valid", "range_step", "height_step")
"""The channels of an image unless others are chosen; ``make_range_image`` explains them."""

ALL_CHANNELS = CHANNELS + NORMALS
"""The channels an image can have."""

STEP_CLIP_M = 1.0
"""Steps between neighbouring pixels are clipped to ± this: beyond it, it is simply an edge."""

_RANGE, _X, _Y, _Z, _INTENSITY, _VALID, _RANGE_STEP, _HEIGHT_STEP = range(len(CHANNELS))
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_CLIP = np.float32(STEP_CLIP_M)


def make_range_image(
    points: np.ndarray,
    projection: Projection,
    channels: Sequence[str],
    statistics: Mapping[str, tuple[float, float]],
    sensor: Sensor | None = None,
) -> np.ndarray:
    """The chosen channels of each pixel, normalised, and exactly 0 where no point is.

    ``range``, ``x``, ``y``, ``z`` in metres, ``intensity`` and ``valid`` (1) are those of the
    pixel's point. ``range_step`` is the range less that of the pixel to the left, around the seam
    of a full turn. ``height_step`` is z less that of the pixel below. Both show centimetres that
    the scaling of the range would hide. Steps are clipped to ±STEP_CLIP_M, and 0 where there is no
    neighbour or it is empty. Each layer of a projection with several is an image of its own: steps
    are between points of one layer. ``normal_x``, ``normal_y`` and ``normal_z`` are those of
    ``surface_normals``, for images of one layer.

    Args:
        points: (N,4) float32, those that were projected.
        projection: of these points.
        channels: C names out of ALL_CHANNELS, in the order wanted.
        statistics: channel -> (mean, standard deviation) before normalisation; a channel that is
            not in it stays as it is.
        sensor: of the projection; needed for normals only.

    Returns:
        (C,H,W) float32; (C,k,H,W) of k layers.

    Raises:
        ConfigError: an unknown channel, or a standard deviation that is not positive.
    """
    codes, normalisation = _recipe(
        tuple(channels), tuple(statistics.get(channel, (0.0, 1.0)) for channel in channels)
    )
    if len(points) != len(projection.depth):
        raise ValueError(f"{len(points)} points, but the projection of {len(projection.depth)}")
    if not len(points):
        return np.zeros((len(channels), *projection.point_index.shape), dtype=np.float32)
    points = np.ascontiguousarray(as_points(points)[:, :4])
    *_, height, width = shape = projection.point_index.shape
    image = _fill_image(  # layers below each other
        points, projection.depth, projection.point_index.reshape(-1, width), height,
        projection.full_turn, codes, normalisation,
    )  # fmt: skip
    image = image.reshape(len(channels), *shape)
    if set(NORMALS) & set(channels):
        _write_normals(image, projection, channels, normalisation, sensor)
    return image


def _write_normals(
    image: np.ndarray,
    projection: Projection,
    channels: Sequence[str],
    normalisation: np.ndarray,
    sensor: Sensor | None,
) -> None:
    """Fill in the normals among the channels of an image (C,H,W)."""
    if sensor is None or len(shape := projection.point_index.shape) != 2:
        raise ValueError("normals need the sensor, and an image of one layer")
    if shape != (sensor.height, sensor.width):
        raise ValueError(f"normals of an image of {shape}, but the sensor's is not of this size")
    valid = projection.valid
    normals = surface_normals(to_image(projection.depth, projection.point_index, 0.0), sensor)
    for channel, (mean, scale), plane in zip(channels, normalisation, image, strict=True):
        if channel in NORMALS:
            plane[:] = (normals[NORMALS.index(channel)] - mean) * scale * valid


@lru_cache(maxsize=64)
def _recipe(
    channels: tuple[str, ...], statistics: tuple[tuple[float, float], ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's place in ALL_CHANNELS (C,); its mean and 1 / standard deviation (C,2)."""
    for channel in channels:
        if channel not in ALL_CHANNELS:
            raise unknown_name("channel", channel, ALL_CHANNELS)
    normalisation = np.zeros((len(channels), 2), dtype=np.float32)
    for channel, (mean, std), row in zip(channels, statistics, normalisation, strict=True):
        row[:] = mean, std
        if not row[1] > 0.0:
            raise ConfigError(
                f"statistics of channel '{channel}': the standard deviation must be positive, "
                f"found {std}"
            )
        row[1] = 1.0 / row[1]
    return np.array([ALL_CHANNELS.index(c) for c in channels], np.int64), normalisation


def to_image(values: np.ndarray, point_index: np.ndarray, fill: float) -> np.ndarray:
    """The value of each pixel's point: ``values[point_index]``, and ``fill`` where it is empty.

    Args:
        values: (N,) of any dtype, for example uint8 labels.
        point_index: (H,W) or (k,H,W) int32 of a projection of these N points.
        fill: the value of empty pixels.

    Returns:
        (H,W) or (k,H,W) of the dtype of ``values``.
    """
    values = np.ascontiguousarray(values)
    image = np.full(point_index.shape, fill, dtype=values.dtype)
    rows = -1, point_index.shape[-1]
    _gather(values, point_index.reshape(rows), image.reshape(rows))
    return image


@kernel
def _fill_image(
    points: np.ndarray,
    depth: np.ndarray,
    point_index: np.ndarray,
    layer_height: int,
    full_turn: bool,
    codes: np.ndarray,
    normalisation: np.ndarray,
) -> np.ndarray:
    height, width = point_index.shape
    image = np.empty((codes.shape[0], height, width), dtype=np.float32)
    # Raw channels of one row stay in the cache while they are normalised; from the last row up,
    # so that the row below is at hand for the height step: two rows take turns.
    raw = np.zeros((2, len(CHANNELS), width), dtype=np.float32)
    raw[:, _VALID] = _ONE
    for row in range(height - 1, -1, -1):
        here, below = raw[row % 2], raw[1 - row % 2]
        owners = point_index[row]
        # An empty pixel reads the first point, which costs less than to guess which are empty.
        for col in range(width):
            i = np.uint32(max(owners[col], 0))  # without a sign: not looked at from the end
            here[_RANGE, col] = depth[i]
            here[_X, col], here[_Y, col] = points[i, 0], points[i, 1]
            here[_Z, col], here[_INTENSITY, col] = points[i, 2], points[i, 3]
        for c in range(codes.shape[0]):
            code = codes[c]
            if code >= len(CHANNELS):  # normals are written later
                continue
            if code == _RANGE_STEP:
                for col in range(width):
                    step = here[_RANGE, col] - here[_RANGE, col - 1]  # column -1 is the last
                    step = min(max(step, -_CLIP), _CLIP)
                    here[code, col] = step if owners[col - 1] >= 0 else _ZERO
                if not full_turn:
                    here[code, 0] = _ZERO
            elif code == _HEIGHT_STEP and (row + 1) % layer_height == 0:  # nothing is below
                here[code] = _ZERO
            elif code == _HEIGHT_STEP:
                for col in range(width):
                    step = min(max(here[_Z, col] - below[_Z, col], -_CLIP), _CLIP)
                    here[code, col] = step if point_index[row + 1, col] >= 0 else _ZERO
            mean, scale = normalisation[c, 0], normalisation[c, 1]
            for col in range(width):
                value = (here[code, col] - mean) * scale
                image[c, row, col] = value if owners[col] >= 0 else _ZERO
    return image


@kernel
def _gather(values: np.ndarray, point_index: np.ndarray, image: np.ndarray) -> None:
    for row in range(point_index.shape[0]):
        for col in range(point_index.shape[1]):
            i = point_index[row, col]
            if i >= 0:
                image[row, col] = values[i]
