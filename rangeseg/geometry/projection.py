"""Points to pixels: the rows and columns of a scan, and the image that a network reads."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rangeseg.errors import ConfigError, DataError, unknown_name
from rangeseg.geometry.firing_order import firing_beams, firing_columns
from rangeseg.geometry.kernel import kernel
from rangeseg.geometry.sensor import Sensor

CHANNELS = ("range", "x", "y", "z", "intensity", "valid", "range_step", "height_step")
"""What an image can show of each pixel; ``make_range_image`` says what they are."""

STEP_CLIP_M = 1.0
"""Steps between neighbouring pixels are clipped to ± this: beyond it, it is simply an edge."""

_RANGE, _X, _Y, _Z, _INTENSITY, _VALID, _RANGE_STEP, _HEIGHT_STEP = range(len(CHANNELS))
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_PI, _CLIP = np.float32(math.pi), np.float32(STEP_CLIP_M)

_log = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()


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


def beam_rows(
    points: np.ndarray, sensor: Sensor, ring: np.ndarray | None = None
) -> np.ndarray | None:
    """The beam of each point by the sensor's row rule. Call it before any augmentation.

    ``scan_order`` reads the order of the file: beam after beam from the highest to the lowest,
    each counter-clockwise from straight ahead (x forward), so that a new beam begins where the
    azimuth falls back past zero. ``file_order`` needs whole firings of evenly spaced azimuths.

    Args:
        points: (N,4) float32 in the order of the file.
        sensor: whose ``row_rule`` and ``beams`` hold.
        ring: (N,) integer beam of each point from the file, 0 the highest; for rule ``ring``.

    Returns:
        (N,) int32 in 0..beams-1, or None: rows come from the inclination. None is also the answer
        where the rule asks for what the scan does not have (no ring, another number of beams); the
        first time this happens with a sensor a warning is logged.
    """
    if sensor.row_rule == "inclination":
        return None
    if sensor.row_rule == "ring":
        if ring is None:
            _warn_once(sensor, "the scan has no ring (the beam of each point)")
            return None
        return np.ascontiguousarray(ring, dtype=np.int32)
    if sensor.row_rule == "file_order":
        beams_in_firing = firing_beams(_as_points(points), sensor.beams, sensor.min_range)
        if beams_in_firing is None:
            _warn_once(sensor, f"the scan does not list {sensor.beams} points of each firing")
        return beams_in_firing
    beams = np.empty(len(points), dtype=np.int32)
    found = count_turns(_as_points(points), beams)
    if found != sensor.beams:
        _warn_once(
            sensor, f"the scan's order shows {found} beams where the sensor has {sensor.beams}"
        )
        return None
    return beams


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
    points = _as_points(points)
    columns = None
    if beams is not None and sensor.row_rule == "file_order":
        columns = firing_columns(points, sensor.beams, sensor.width, sensor.min_range)
    fov_up, fov_down = math.radians(sensor.fov_up_deg), math.radians(sensor.fov_down_deg)
    row, col, depth, point_index = _project(
        points,
        beams,
        columns,
        np.arange(sensor.beams, dtype=np.int32) * sensor.height // sensor.beams,
        sensor.height,
        sensor.width,
        np.float32(fov_down),
        np.float32(fov_up - fov_down),
        np.float32(sensor.min_range),
    )
    return Projection(row, col, depth, point_index)


def make_range_image(
    points: np.ndarray,
    projection: Projection,
    channels: Sequence[str],
    statistics: Mapping[str, tuple[float, float]],
) -> np.ndarray:
    """What the network reads: chosen channels, normalised, exactly 0 where no point is.

    ``range``, ``x``, ``y``, ``z`` in metres, ``intensity`` and ``valid`` (1) are those of the
    pixel's point. ``range_step`` is the range less that of the pixel to the left (around the
    seam), ``height_step`` is z less that of the pixel below: centimetres that the scaling of the
    range would hide. Steps are clipped to ±STEP_CLIP_M, and 0 where the neighbour is empty.

    Args:
        points: (N,4) float32, those that were projected.
        projection: of these points.
        channels: C names out of CHANNELS, in the order wanted.
        statistics: channel -> (mean, standard deviation) before normalisation; a channel that is
            not in it stays as it is.

    Returns:
        (C,H,W) float32.

    Raises:
        ConfigError: an unknown channel, or a standard deviation that is not positive.
    """
    for channel in channels:
        if channel not in CHANNELS:
            raise unknown_name("channel", channel, CHANNELS)
    mean_and_std = np.array([statistics.get(channel, (0.0, 1.0)) for channel in channels])
    mean_and_std = mean_and_std.astype(np.float32).reshape(-1, 2)
    if not (mean_and_std[:, 1] > 0.0).all():
        wrong = channels[int(np.argmin(mean_and_std[:, 1] > 0.0))]
        raise ConfigError(
            f"statistics of channel '{wrong}': the standard deviation must be positive, "
            f"found {statistics[wrong][1]}"
        )
    if len(points) != len(projection.depth):
        raise ValueError(f"{len(points)} points, but the projection of {len(projection.depth)}")
    codes = np.array([CHANNELS.index(channel) for channel in channels], dtype=np.int64)
    return _fill_image(
        _as_points(points), projection.depth, projection.point_index, codes, mean_and_std
    )


def to_image(values: np.ndarray, point_index: np.ndarray, fill: float) -> np.ndarray:
    """The value of each pixel's point: ``values[point_index]``, and ``fill`` where it is empty.

    Args:
        values: (N,) of any dtype, for example uint8 labels.
        point_index: (H,W) int32 of a projection of these N points.
        fill: the value of empty pixels.

    Returns:
        (H,W) of the dtype of ``values``.
    """
    values = np.ascontiguousarray(values)
    image = np.full(point_index.shape, fill, dtype=values.dtype)
    _gather(values, point_index, image)
    return image


def _as_points(points: np.ndarray) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] < 4:
        raise ValueError(f"points must be (N,4): x, y, z, intensity; found {points.shape}")
    return np.ascontiguousarray(points, dtype=np.float32)


def _warn_once(sensor: Sensor, reason: str) -> None:
    """Tell once per sensor and process: every scan of a data set would say the same."""
    if (sensor.name, sensor.row_rule) in _warned:
        return
    _warned.add((sensor.name, sensor.row_rule))
    _log.warning(
        "sensor %s: rows by %s are not possible: %s; rows come from the inclination instead "
        "(set the rows to 'inclination' to choose that)",
        sensor.name,
        sensor.row_rule,
        reason,
    )


def _check_beams(beams: np.ndarray, num_points: int, sensor: Sensor) -> None:
    if len(beams) != num_points:
        raise ValueError(f"{num_points} points, but beams of {len(beams)}")
    if num_points and not 0 <= beams.min() <= beams.max() < sensor.beams:
        raise DataError(
            f"sensor {sensor.name} has beams 0 to {sensor.beams - 1}, but the scan names "
            f"{beams.min()} to {beams.max()}: check the sensor and the ring of the points"
        )


@kernel
def _quarter_turns(x: float, y: float) -> float:
    """Grows with the azimuth from 0 straight ahead, through 1 on the left, to 4: no arctangent."""
    if y >= 0.0:
        return y / (x + y) if x >= 0.0 else 1.0 - x / (y - x)
    return 2.0 - y / (-x - y) if x < 0.0 else 3.0 + x / (x - y)


@kernel
def count_turns(points: np.ndarray, beams: np.ndarray) -> int:
    """Write the turn (N,) that each point belongs to, and return how many turns there are."""
    turn = 0
    last = 0.0
    for i in range(points.shape[0]):
        x, y = float(points[i, 0]), float(points[i, 1])
        if math.isfinite(x) and math.isfinite(y) and (x != 0.0 or y != 0.0):
            azimuth = _quarter_turns(x, y)
            # Beams begin and end within a quarter turn of straight ahead unless they saw nothing
            # there, hence the limits: a fall by one quarter is a new beam, and a rise by more than
            # three is jitter of its first points back over the line ahead.
            if azimuth < last - 1.0:
                turn += 1
            elif azimuth > last + 3.0 and turn > 0:
                turn -= 1
            last = azimuth
        beams[i] = turn
    return turn + 1


@kernel
def _project(
    points: np.ndarray,
    beams: np.ndarray | None,
    columns: np.ndarray | None,
    row_of_beam: np.ndarray,
    height: int,
    width: int,
    fov_down: np.float32,
    fov: np.float32,
    min_range: np.float32,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # All in float32, like the tools of the literature, so that borders fall where theirs do.
    n = points.shape[0]
    rows, cols = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    depths = np.empty(n, dtype=np.float32)
    point_index = np.full((height, width), np.int32(-1), dtype=np.int32)
    float_height, float_width = np.float32(height), np.float32(width)
    for i in range(n):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        depth = math.sqrt(x * x + y * y + z * z)
        # False for NaN as well. An overflow to infinity is not a place either.
        if not (_ZERO < depth < np.inf and depth >= min_range and math.isfinite(points[i, 3])):
            rows[i], cols[i], depths[i] = -1, -1, _ZERO
            continue
        if columns is None:
            # Cut to whole numbers towards zero: as good as floor where negative ones become 0.
            col = int(_HALF * (_ONE - math.atan2(y, x) / _PI) * float_width)
            col = min(max(col, 0), width - 1)
        else:
            col = int(columns[i])
        if beams is None:
            # Rounding may leave the ratio just outside the domain of the arcsine.
            inclination = math.asin(min(max(z / depth, -_ONE), _ONE))
            row = int((_ONE - (inclination - fov_down) / fov) * float_height)
            row = min(max(row, 0), height - 1)
        else:
            row = int(row_of_beam[beams[i]])
        rows[i], cols[i], depths[i] = row, col, depth
        owner = point_index[row, col]
        if owner < 0 or depth < depths[owner]:
            point_index[row, col] = i
    return rows, cols, depths, point_index


@kernel
def _fill_image(
    points: np.ndarray,
    depth: np.ndarray,
    point_index: np.ndarray,
    codes: np.ndarray,
    mean_and_std: np.ndarray,
) -> np.ndarray:
    height, width = point_index.shape
    image = np.empty((codes.shape[0], height, width), dtype=np.float32)
    # Raw channels of one row stay in the cache while they are normalised; from the last row up,
    # so that the row below is at hand for the height step.
    raw = np.zeros((len(CHANNELS), width), dtype=np.float32)
    valid_below, z_below = np.zeros(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
    for row in range(height - 1, -1, -1):
        for col in range(width):
            i = point_index[row, col]
            if i >= 0:
                raw[_RANGE, col] = depth[i]
                raw[_X, col], raw[_Y, col] = points[i, 0], points[i, 1]
                raw[_Z, col], raw[_INTENSITY, col] = points[i, 2], points[i, 3]
                raw[_VALID, col] = _ONE
            else:
                raw[_VALID, col] = _ZERO
        for c in range(codes.shape[0]):
            code = codes[c]
            if code == _RANGE_STEP:
                for col in range(width):
                    step = raw[_RANGE, col] - raw[_RANGE, col - 1]  # column -1 is the last
                    step = min(max(step, -_CLIP), _CLIP)
                    raw[code, col] = step if raw[_VALID, col - 1] > _ZERO else _ZERO
            elif code == _HEIGHT_STEP:
                for col in range(width):
                    step = min(max(raw[_Z, col] - z_below[col], -_CLIP), _CLIP)
                    raw[code, col] = step if valid_below[col] > _ZERO else _ZERO
            mean, std = mean_and_std[c, 0], mean_and_std[c, 1]
            for col in range(width):
                value = (raw[code, col] - mean) / std
                image[c, row, col] = value if raw[_VALID, col] > _ZERO else _ZERO
        valid_below[:] = raw[_VALID]
        z_below[:] = raw[_Z]
    return image


@kernel
def _gather(values: np.ndarray, point_index: np.ndarray, image: np.ndarray) -> None:
    for row in range(point_index.shape[0]):
        for col in range(point_index.shape[1]):
            i = point_index[row, col]
            if i >= 0:
                image[row, col] = values[i]
