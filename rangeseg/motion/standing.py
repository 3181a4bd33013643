"""Detect poses that move although the scans do not."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.base import Scan

_MOVED_M = 1.0
"""Shorter distances between poses are not checked."""

_ROWS, _COLUMNS = 60, 360  # 1° each, wide enough for the noise of a spinning sensor
_SAME_M = 0.05
_SAME_SHARE = 0.9


def seems_to_stand(one: Scan, other: Scan, pose: np.ndarray) -> bool:
    """Whether two scans are alike although their poses are metres apart.

    Args:
        one: a scan.
        other: another one of the same sequence.
        pose: (4,4) from the other's frame to the first's.

    Returns:
        True if the distance is over 1 m, but both see the same range in 9 of 10 directions.
    """
    if np.linalg.norm(pose[:3, 3]) < _MOVED_M:
        return False
    a, b = _ranges(one.points), _ranges(other.points)
    both = np.isfinite(a) & np.isfinite(b)
    return bool(both.any()) and float((np.abs(a - b)[both] < _SAME_M).mean()) > _SAME_SHARE


def _ranges(points: np.ndarray) -> np.ndarray:
    """The shortest range (ROWS*COLUMNS,) in each direction, NaN without a point."""
    x, y, z = points[:, :3].T
    distance = np.sqrt(x * x + y * y + z * z)
    seen = np.isfinite(distance) & (distance > 0)
    x, y, z, distance = x[seen], y[seen], z[seen], distance[seen]
    column = ((np.arctan2(y, x) / np.pi + 1) * (_COLUMNS / 2)).astype(np.int64) % _COLUMNS
    row = np.clip(np.degrees(np.arcsin(z / distance)) + _ROWS / 2, 0, _ROWS - 1).astype(np.int64)
    nearest = np.full(_ROWS * _COLUMNS, np.nan)
    order = np.argsort(-distance, kind="stable")  # the nearest is written last
    nearest[(row * _COLUMNS + column)[order]] = distance[order]
    return nearest
