"""Find the ground around a sensor, to detect its up axis and its tilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

Side = Literal["below", "above", "beside"]

_PLENTY = 300_000  # points; more do not help, even for merged scans
_POINTS, _TRIALS = 2000, 400
_FARTHEST_M = 20.0
_THICK_M = 0.1  # ground is rough, and curved
_NEAREST_M, _HIGHEST_M = 0.3, 6.0  # where sensors are mounted
_BEHIND_M = 0.3  # only slopes and mirrored echoes are below the ground
_MOST_BEHIND = 0.05


class Plane(NamedTuple):
    """A plane with nearly all points on the origin's side.

    Attributes:
        normal: (3,) float64, from the plane towards the origin.
        height: distance of the origin in metres.
        support: share of points within 20 m on the plane.
    """

    normal: np.ndarray
    height: float
    support: float

    @property
    def tilt_deg(self) -> float:
        """The angle between the normal and z."""
        return float(np.degrees(np.arccos(np.clip(self.normal[2], -1.0, 1.0))))

    @property
    def mounting_deg(self) -> tuple[float, float]:
        """Roll and pitch of the sensor, if the plane is level."""
        x, y, z = self.normal
        roll = np.degrees(np.arctan2(y, z))
        return float(roll), float(np.degrees(np.arctan2(-x, np.hypot(y, z))))


def find_planes(xyz: np.ndarray, level_deg: float = 45.0) -> Mapping[Side, Plane]:
    """Find the best ground candidates below, above and beside the origin.

    Args:
        xyz: (N,3) points in metres; many are subsampled, always alike.
        level_deg: largest tilt of a plane below or above.

    Returns:
        Side -> plane, only for sides with one.
    """
    xyz = xyz[:: len(xyz) // _PLENTY + 1].astype(np.float64)
    depth = np.sqrt(np.square(xyz).sum(axis=1))
    with np.errstate(invalid="ignore"):
        near = xyz[(depth > 1.0) & (depth < _FARTHEST_M)]
    if len(near) < 100:
        return {}
    rng = np.random.default_rng(0)
    points = near[rng.choice(len(near), min(_POINTS, len(near)), replace=False)]
    a, b, c = points[rng.integers(len(points), size=(3, _TRIALS))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    whole = length > 1.0  # smaller triangles give no reliable normal
    normals = normals[whole] / length[whole, None]
    height = -(normals * a[whole]).sum(axis=1)
    normals *= np.where(height < 0, -1.0, 1.0)[:, None]
    height = np.abs(height)
    above = points @ normals.T + height  # (points, planes)
    support = (np.abs(above) < _THICK_M).mean(axis=0)
    behind = (above < -_BEHIND_M).mean(axis=0)
    likely = (height > _NEAREST_M) & (height < _HIGHEST_M) & (behind < _MOST_BEHIND)
    least = np.cos(np.radians(level_deg))
    sides: dict[Side, np.ndarray] = {
        "below": normals[:, 2] > least,
        "above": normals[:, 2] < -least,
        "beside": np.abs(normals[:, 2]) <= least,
    }
    best = {side: np.where(likely & lies, support, 0.0) for side, lies in sides.items()}
    return {
        side: _refined(points, Plane(normals[i], float(height[i]), float(found[i])))
        for side, found in best.items()
        if len(found) and found[i := int(found.argmax())] > 0
    }


def _refined(points: np.ndarray, plane: Plane) -> Plane:
    """Refit the plane to the points on it."""
    on = points[np.abs(points @ plane.normal + plane.height) < _THICK_M]
    centre = on.mean(axis=0)
    normal = np.linalg.svd(on - centre, full_matrices=False)[2][-1]
    normal = normal if normal @ plane.normal > 0 else -normal
    return Plane(normal, float(-normal @ centre), plane.support)
