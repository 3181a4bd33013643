"""Views of a scan for test-time augmentation: rotated and mirrored by whole pixels."""

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
    """A scan, mirrored if set, then rotated by whole columns of its image.

    So pixels keep their neighbours, and every row rule holds: rows are found once, for the recorded
    scan. Mirroring is about the middle of the sensor's view, as in training.

    Attributes:
        columns: number of columns to roll the image to the left.
        mirrored: reverse the columns first.
    """

    columns: int = 0
    mirrored: bool = False

    def points(self, points: np.ndarray, sensor: Sensor) -> np.ndarray:
        """The points (N,4) float32 in this view."""
        angle = 2.0 * math.pi * self.columns / sensor.width
        if self.mirrored:
            points = points * np.array([1, -1, 1, 1], dtype=np.float32)
            angle += 2.0 * math.radians(sensor.middle_deg)
        return rotate_points(points, angle) if angle else points

    def projection(self, projection: Projection) -> Projection:
        """The projection of this view; rows and columns of points do not change."""
        if self == View():
            return projection
        shown = projection.point_index
        if self.mirrored:
            shown = shown[..., ::-1]
        shown = np.ascontiguousarray(np.roll(shown, -self.columns, axis=-1))
        return replace(projection, point_index=shown)


def make_views(count: int, sensor: Sensor) -> tuple[View, ...]:
    """Make the scan itself, then mirrored, rotated, mirrored and rotated, and so on.

    Args:
        count: number of views; rotations are evenly spaced.
        sensor: sensor with the image size.

    Raises:
        ConfigError: more than two views for a sensor without a full turn, or more than the columns
            allow.
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
