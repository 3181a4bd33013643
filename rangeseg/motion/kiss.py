"""KISS-ICP step by step, with further starts if the motion is unknown or does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np

NEAR_M = 0.3
"""Largest distance in metres of an overlapping point to the previous scan."""

_ENOUGH_FIRST, _ENOUGH = 0.5, 1 / 3
"""Overlap in the first and later steps that needs no further start.

Steps mistaken for standing had at most .30 on real scans.
"""

_STARTS_M = (4.0, 8.0, 12.0, 16.0)


class Odometry:
    """KISS-ICP with further starts if the motion is unknown or does not fit.

    A scan's nearest points are often rings on the ground, which move with the sensor. After a step
    of some metres they keep KISS-ICP at the previous pose.

    Args:
        kiss: a new KissICP.

    Attributes:
        pose: (4,4) pose of the latest scan.
    """

    def __init__(self, kiss: Any) -> None:
        self.pose = np.eye(4)
        self._kiss = kiss
        self._step, self._gap = np.eye(4), 0  # between the latest two scans; 0 frames: unknown
        self._frame = 0
        self._tree: Any = None  # the latest scan's points

    def add(self, points: np.ndarray, frame: int) -> float:
        """Find the pose of the next scan.

        Args:
            points: (N,3) float64.
            frame: frame number.

        Returns:
            The share of its points near the previous scan; NaN for the first.
        """
        from scipy.spatial import cKDTree

        sparse, dense = self._kiss.voxelize(points)
        overlap = np.nan
        if self._tree is not None:
            overlap = self._move(sparse, frame - self._frame)
        self._kiss.local_map.update(dense, self.pose)
        self._frame, self._tree = frame, cKDTree(points, balanced_tree=False)
        return overlap

    def _move(self, points: np.ndarray, gap: int) -> float:
        """Find the pose of points some frames later; return their overlap."""
        from scipy.linalg import fractional_matrix_power

        threshold = self._kiss.adaptive_threshold
        start = np.eye(4)
        if self._gap:  # the same velocity as before
            start = fractional_matrix_power(self._step, gap / self._gap).real
        step, overlap = self._align(points, start, threshold.get_threshold())
        sigma = self._kiss.config.adaptive_threshold.initial_threshold
        for other in _starts():
            if overlap >= (_ENOUGH if self._gap else _ENOUGH_FIRST):
                break
            found, share = self._align(points, other, sigma)
            if share > overlap:
                start, step, overlap = other, found, share
        threshold.update_model_deviation(np.linalg.inv(start) @ step)
        self.pose, self._step, self._gap = self.pose @ step, step, gap
        return overlap

    def _align(
        self, points: np.ndarray, start: np.ndarray, sigma: float
    ) -> tuple[np.ndarray, float]:
        """Find the step (4,4) from an initial guess, and its overlap."""
        pose = self._kiss.registration.align_points_to_map(
            points=points,
            voxel_map=self._kiss.local_map,
            initial_guess=self.pose @ start,
            max_correspondance_distance=3 * sigma,
            kernel=sigma,
        )
        if not np.isfinite(pose).all():
            return start, 0.0
        step = np.linalg.inv(self.pose) @ pose
        places = points @ step[:3, :3].T + step[:3, 3]
        distance, _ = self._tree.query(places, distance_upper_bound=NEAR_M)
        return step, float(np.isfinite(distance).sum() / max(len(points), 1))


def _starts() -> list[np.ndarray]:
    """Steps (4,4) in four directions, as a sensor's x axis may point anywhere, and no step."""
    starts = [np.eye(4)]
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        for metres in _STARTS_M:
            starts.append(np.eye(4))
            starts[-1][:2, 3] = x * metres, y * metres
    return starts
