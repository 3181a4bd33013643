"""The laser beam of each point, where the data tell it."""

from __future__ import annotations

import logging
import math
from threading import Lock

import numpy as np

from rangeseg.geometry.firing_order import firing_beams
from rangeseg.geometry.kernel import as_points, kernel
from rangeseg.geometry.sensor import Sensor

_log = logging.getLogger(__name__)
_warned: set[tuple[str, str]] = set()
_telling = Lock()


def beam_rows(
    points: np.ndarray, sensor: Sensor, ring: np.ndarray | None = None
) -> np.ndarray | None:
    """The beam of each point by the sensor's row rule. Call it before any augmentation.

    ``scan_order`` reads the order of the file: beam after beam from the highest to the lowest,
    each counter-clockwise from straight ahead (x forward), so that a new beam begins where the
    azimuth falls back past zero. ``file_order`` needs whole firings of evenly spaced azimuths,
    the highest or the lowest beam first.

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
        beams_in_firing = firing_beams(as_points(points), sensor.beams, sensor.min_range)
        if beams_in_firing is None:
            _warn_once(
                sensor,
                f"the scan does not list {sensor.beams} points of each firing, the highest or the "
                "lowest first",
            )
        return beams_in_firing
    beams = np.empty(len(points), dtype=np.int32)
    found = count_turns(as_points(points), beams)
    if found != sensor.beams:
        _warn_once(
            sensor, f"the scan's order shows {found} beams where the sensor has {sensor.beams}"
        )
        return None
    return beams


def _warn_once(sensor: Sensor, reason: str) -> None:
    """Tell once per sensor and process: every scan of a data set would say the same."""
    with _telling:  # threads meet their first scans at once
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
def _quarter_turns(x: float, y: float) -> float:
    """Grows with the azimuth from 0 straight ahead, through 1 on the left, to 4: no arctangent."""
    if y >= 0.0:
        return y / (x + y) if x >= 0.0 else 1.0 - x / (y - x)
    return 2.0 - y / (-x - y) if x < 0.0 else 3.0 + x / (x - y)


@kernel
def count_turns(points: np.ndarray, beams: np.ndarray) -> int:
    """Write the turn (N,) that each point belongs to, and return how many turns there are."""
    turn, highest = 0, 0
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
        highest = max(turn, highest)  # the last points may jitter ahead and back again
        beams[i] = turn
    return highest + 1
