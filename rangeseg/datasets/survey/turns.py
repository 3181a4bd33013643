"""Measure the azimuth step and the horizontal view of a sensor, for the image width."""

from __future__ import annotations

import math

import numpy as np

from rangeseg.datasets.survey.directions import (
    azimuth_differences,
    find_directions,
    find_step,
    thinned,
    widest_gap_deg,
)

_BIN_DEG = 0.5
_SIDES = round(360 / _BIN_DEG)
_STEPS_AGREE = 0.05
STEP_FROM = 5.0
"""Least contrast of an azimuth step for the image width. Real scans have 50 and more,
17 with 18 % and 6 with 60 % of the points dropped."""

FULL_TURN_DEG = 320.0
"""A wider view counts as a full turn: an indoor scan left 34 degrees empty."""


class Turns:
    """Collects azimuths from scan after scan."""

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._seen = np.zeros(_SIDES, dtype=bool)

    def add(self, xyz: np.ndarray) -> None:
        """Take the points (N,3) of one scan, in the sensor's own axes."""
        found = find_directions(xyz)
        step = find_step(azimuth_differences(thinned(found)))
        if step.contrast >= STEP_FROM:
            self._steps.append(step.degrees)
        side = np.floor((found.azimuth_deg + 180.0) / _BIN_DEG).astype(np.int64) % _SIDES
        self._seen[side] = True

    @property
    def step_deg(self) -> float | None:
        """The azimuth step: the median over scans; None if fewer than half agree."""
        if not self._steps:
            return None
        step = float(np.median(self._steps))
        near = [abs(other - step) < _STEPS_AGREE * step for other in self._steps]
        return step if 2 * sum(near) >= len(near) else None

    @property
    def view_deg(self) -> tuple[float, float]:
        """Left and right edge of the joint view of all scans, in whole degrees.

        A full turn is (180, -180).
        """
        middles = (np.flatnonzero(self._seen) + 0.5) * _BIN_DEG - 180.0
        gap, right_end = widest_gap_deg(middles)
        if 360.0 - gap >= FULL_TURN_DEG or not len(middles):
            return 180.0, -180.0
        # The gap begins at the left end of the view.
        left = math.ceil(right_end + _BIN_DEG / 2)
        right = math.floor(right_end + gap - 360.0 - _BIN_DEG / 2)
        turn = 360.0 if left + right < -180.0 else 0.0  # a rear view runs from 270 to 90
        return left + turn, right + turn

    def columns(self, step_deg: float) -> int:
        """Number of steps in the view."""
        left, right = self.view_deg
        return max(round((left - right) / step_deg), 1)
