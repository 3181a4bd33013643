"""Views of a scan for test-time augmentation: turned and mirrored, pixel for pixel the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rangeseg.errors import ConfigError
from rangeseg.geometry.augmentation import rotate_points
from rangeseg.geometry.projection import Projection
from rangeseg.geometry.sensor import Sensor


@dataclass(frozen=True)
class View:
    """A scan turned by whole columns of its image, and perhaps mirrored before.

    So no point changes its pixel's neighbours, and every row rule holds: rows are found once, for
    the scan as it was recorded. A mirrored view is mirrored about the middle of what the sensor
    sees, as in training.

    Attributes:
        columns: by how many the image is rolled to the left.
        mirrored: whether the order of the columns is reversed before.
    """

    columns: int = 0
    mirrored: bool = False

    def points(self, points: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The points (N,4) float32 as they lie in this view."""
        angle = 2.0 * math.pi * self.columns / sensor.width
        if self.mirrored:
            points = points * np.array([1, -1, 1, 1], dtype=np.float32)
            angle += 2.0 * math.radians(sensor.middle_deg)
        return rotate_points(points, angle) if angle else points

    def projection(self, projection: Projection) -> Projection:
        """Where the points of this view fall; rows and columns of points are left as they were."""
        if self == View():
            return projection
        shown = projection.point_index
        if self.mirrored:
            shown = shown[..., ::-1]
        shown = np.ascontiguousarray(np.roll(shown, -self.columns, axis=-1))
        return replace(projection, point_index=shown)


def make_views(count: int, sensor: Sensor) -> tuple[View, ...]:
    """The scan itself, mirrored, turned, mirrored and turned, and so on.

    Args:
        count: how many; turns are evenly spaced.
        sensor: with the size of the image.

    Raises:
        ConfigError: more than two of a sensor that does not see all around, or more than the image
            has columns for.
    """
    turns = -(-count // 2)
    if turns > 1 and not sensor.full_turn:
        raise ConfigError(
            f"evaluate.tta={count}, but the sensor {sensor.name} sees {sensor.view_deg:g} degrees: "
            "its scans can be mirrored (evaluate.tta=2), but not turned"
        )
    if turns > sensor.width:
        raise ConfigError(
            f"evaluate.tta={count}, but the image has {sensor.width} columns to turn a scan by: "
            f"take {2 * sensor.width} at most"
        )
    return tuple(View(k // 2 * sensor.width // turns, k % 2 == 1) for k in range(count))
