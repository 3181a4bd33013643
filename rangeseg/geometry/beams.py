"""Find the laser and the firing of each point from the order in the file."""

from __future__ import annotations

import logging
import math

import numpy as np

from rangeseg.geometry.kernel import as_points, kernel
from rangeseg.geometry.sensor import Sensor

ORDERED = 0.98
"""Least absolute ``descent`` of beams numbered from one end to the other."""

_STEADY = 0.98
"""Least agreement (0..1): azimuths with evenly spaced firings, inclinations with beams."""

_log = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()


def beam_rows(
    points: np.ndarray, sensor: Sensor, ring: np.ndarray | None = None
) -> np.ndarray | None:
    """Find the beam of each point by the sensor's row rule. Call it before any augmentation.

    ``scan_order`` needs a file, or a view cut from one, that lists beam after beam from the highest
    to the lowest. Each beam runs counter-clockwise from straight ahead (x forward), so it begins
    where the azimuth falls back past zero. ``file_order`` needs whole firings at evenly spaced
    azimuths all around, the highest or the lowest beam first.

    Args:
        points: (N,4) float32 in the order of the file.
        sensor: sensor with ``row_rule`` and ``beams``.
        ring: (N,) integer beam of each point from the file, 0 the highest; for rule ``ring``.

    Returns:
        (N,) int32 in 0..beams-1; None if rows come from the inclination. This includes scans that
        do not allow the rule (no ring, another number of beams), with one logged warning per
        sensor.
    """
    if sensor.row_rule == "inclination":
        return None
    found = _find_beams(points, sensor, ring)
    if isinstance(found, str):
        _warn_once(sensor, found)
        return None
    return found


def beams_of_points(
    points: np.ndarray, sensor: Sensor, ring: np.ndarray | None = None
) -> np.ndarray:
    """Find or estimate the beam of each point (N,) int32.

    Uses the sensor's row rule; if that fails, as many equal bands of inclination as beams.

    Args:
        points: (N,4) float32 in the order of the file.
        sensor: the device.
        ring: (N,) integer beam of each point from the file; for rule ``ring``.
    """
    beams = beam_rows(points, sensor, ring)
    if beams is not None:
        return beams
    x, y, z = points[:, :3].astype(np.float64).T
    inclination = np.degrees(np.arctan2(z, np.hypot(x, y)))
    band = (sensor.fov_up_deg - inclination) / (sensor.fov_up_deg - sensor.fov_down_deg)
    band = np.clip(np.nan_to_num(band) * sensor.beams, 0, sensor.beams - 1).astype(np.int32)
    return np.asarray(band)


def _find_beams(points: np.ndarray, sensor: Sensor, ring: np.ndarray | None) -> np.ndarray | str:
    """The beam of each point (N,) int32, or the reason why the rule fails."""
    if sensor.row_rule == "ring":
        if ring is None:
            return "the scan has no ring (the beam of each point)"
        return np.ascontiguousarray(ring, dtype=np.int32)
    if sensor.row_rule == "file_order":
        beams = firing_beams(as_points(points), sensor.beams, sensor.min_range)
        if beams is None:
            return (
                f"the scan does not list {sensor.beams} points of each firing, the highest or the "
                "lowest first"
            )
        return beams
    beams = np.empty(len(points), dtype=np.int32)
    turns = count_turns(as_points(points), beams, sensor.view_deg)
    if turns != sensor.beams:
        return f"the scan's order shows {turns} beams where the sensor has {sensor.beams}"
    return beams


def _warn_once(sensor: Sensor, reason: str) -> None:
    """Warn once per sensor and process, as every scan of a data set would warn alike."""
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


@kernel
def count_turns(points: np.ndarray, beams: np.ndarray, view_deg: float = 360.0) -> int:
    """Write each point's turn (N,), and return the number of turns.

    The points cover a view of ``view_deg`` in any direction.
    """
    turn, highest = 0, 0
    # In a narrow view the step over the unseen part is no jitter, and a new beam falls little.
    fall, jitter = min(1.0, view_deg / 180.0), max(3.0, 4.0 - view_deg / 180.0)
    last = 0.0
    for i in range(points.shape[0]):
        x, y = float(points[i, 0]), float(points[i, 1])
        if math.isfinite(x) and math.isfinite(y) and (x != 0.0 or y != 0.0):
            azimuth = _quarter_turns(x, y)
            # Beams begin and end within a quarter turn of straight ahead, unless they saw nothing
            # there. So a fall by one quarter is a new beam. A rise by more than three is jitter of
            # its first points back over the line ahead.
            if azimuth < last - fall:
                turn += 1
            elif azimuth > last + jitter and turn > 0:
                turn -= 1
            last = azimuth
        highest = max(turn, highest)  # the last points may jitter ahead and back again
        beams[i] = turn
    return highest + 1


@kernel
def _quarter_turns(x: float, y: float) -> float:
    """Azimuth in quarter turns without an arctangent: 0 straight ahead, 1 on the left, up to 4."""
    if y >= 0.0:
        return y / (x + y) if x >= 0.0 else 1.0 - x / (y - x)
    return 2.0 - y / (-x - y) if x < 0.0 else 3.0 + x / (x - y)


def firing_beams(points: np.ndarray, beams: int, min_range: float = 0.0) -> np.ndarray | None:
    """Find the beam of each point of a scan that lists its points firing by firing.

    Every firing must be whole, with lost echoes (0, 0, 0 or NaN). Firings must be evenly spaced
    over one turn, in either direction. A place in the firing must keep its inclination, and places
    must rise or fall in order. A missing point shifts all later places, and some devices list
    lasers in firing order.

    Args:
        points: (N,4) float32 in the order of the file.
        beams: number of beams of the sensor.
        min_range: nearer points, in metres, are not used.

    Returns:
        (N,) int32 in 0..beams-1, 0 the highest; None if the scan has another order.
    """
    if len(points) == 0 or len(points) % beams:
        return None
    forward, backward, count = _turn(points, beams, float(min_range))
    if count == 0 or max(abs(forward), abs(backward)) < _STEADY * count:
        return None
    means, explained = _means_of_places(points, beams, float(min_range))
    order = descent(means)
    if explained < _STEADY or abs(order) < ORDERED:
        return None
    place = np.arange(beams, dtype=np.int32)
    return np.tile(place if order > 0 else place[::-1], len(points) // beams)


def firing_columns(points: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Give each firing a column, if the image is wide enough.

    Firings outside the view fall into the nearest column. Rotation sense and first azimuth are
    estimated from all points, so columns stay correct in a rotated or mirrored scan. A column may
    differ from its azimuth by a few columns, as sensors turn unevenly.

    Args:
        points: (N,4) float32, N a multiple of the beams; NaN where a point was dropped.
        sensor: points nearer than its ``min_range`` are not used. If its image has enough columns,
            no two firings share one.

    Returns:
        (N,) int32 in 0..width-1.
    """
    beams, width = sensor.beams, sensor.width
    if len(points) % beams:
        raise ValueError(f"{len(points)} points are not whole firings of {beams} beams")
    firings = len(points) // beams
    forward, backward, _ = _turn(points, beams, float(sensor.min_range))
    azimuth_grows = abs(forward) >= abs(backward)
    first = np.angle(forward if azimuth_grows else backward)
    turn = round(width * 360.0 / sensor.view_deg)  # columns all around
    shift = math.floor(0.5 * (sensor.azimuth_left_deg / 180.0 - first / math.pi) * turn)
    steps = np.arange(firings) * turn // max(firings, 1)
    columns = (shift - steps if azimuth_grows else shift + steps) % turn
    columns = np.where(columns < (turn + width) / 2, np.minimum(columns, width - 1), 0)
    return np.repeat(columns.astype(np.int32), beams)


def descent(means: np.ndarray) -> float:
    """Measure how steadily inclinations of successive beams fall: 1 always fall, -1 always rise.

    Neighbours with nearly the same inclination hardly count.

    Args:
        means: (B,) mean inclination of each beam, or its sine; NaN without points.

    Returns:
        -1..1; 1 for a single inclination.
    """
    known = means[np.isfinite(means)]
    place = np.arange(len(known)) - 0.5 * (len(known) - 1)
    most = np.sort(known) @ place
    return float(-(known @ place) / most) if most > 0.0 else 1.0


@kernel
def _turn(points: np.ndarray, beams: int, min_range: float) -> tuple[complex, complex, int]:
    """Sum over points the direction turned back by its firing's angle, in both senses; count them.

    The firing's angle is 2π · firing / firings. If it is right, all turned directions agree, and
    their sum is as long as their number.
    """
    firings = points.shape[0] // beams
    forward, backward = 0.0j, 0.0j
    count = 0
    for firing in range(firings):
        angle = 2.0 * math.pi * firing / firings
        turn = complex(math.cos(angle), math.sin(angle))
        for i in range(firing * beams, (firing + 1) * beams):
            x, y = float(points[i, 0]), float(points[i, 1])
            flat = math.sqrt(x * x + y * y)
            if max(min_range, 0.0) < flat < math.inf:
                direction = complex(x / flat, y / flat)
                forward += direction * turn.conjugate()
                backward += direction * turn
                count += 1
    return forward, backward, count


@kernel
def _means_of_places(points: np.ndarray, beams: int, min_range: float) -> tuple[np.ndarray, float]:
    """The mean sine of the inclination at each place in a firing, NaN without points.

    And the share (0..1) of the sines' variance that the place explains.
    """
    count = np.zeros(beams, dtype=np.int64)
    total, squares = np.zeros(beams), 0.0
    for i in range(points.shape[0]):
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        depth = math.sqrt(x * x + y * y + z * z)
        if max(min_range, 0.0) < depth < math.inf:
            sine = z / depth
            count[i % beams] += 1
            total[i % beams] += sine
            squares += sine * sine
    means = total / count
    number = count.sum()
    if number == 0:
        return means, 0.0
    about_mean = total.sum() ** 2 / number
    variance = squares - about_mean
    between = np.nansum(total * means) - about_mean
    return means, between / variance if variance > 0.0 else 1.0
