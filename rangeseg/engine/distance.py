"""Confusion counts of points by their distance from the sensor."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.labels import IGNORE
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.geometry.kernel import as_points, kernel

EDGES_M = (10.0, 20.0, 30.0, 50.0)
DISTANCES = ("0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m")
"""Names of the intervals; each includes its lower end."""

_SQUARED_EDGES = np.array(EDGES_M) ** 2
_IGNORED = np.uint64(IGNORE)


class ConfusionByDistance:
    """Counts of (distance, truth, prediction) triples of points.

    Args:
        num_classes: K.

    Attributes:
        counts: (5,K+1,K+1) int64: interval of DISTANCES, truth, prediction. The last row and column
            are IGNORE.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        size = num_classes + 1
        self.counts = np.zeros((len(DISTANCES), size, size), dtype=np.int64)

    def update(self, prediction: np.ndarray, labels: np.ndarray, points: np.ndarray) -> None:
        """Count the points of a scan.

        Args:
            prediction: (N,) uint8 in 0..K-1 or IGNORE.
            labels: (N,) uint8 in 0..K-1 or IGNORE.
            points: (N,4) float32. A distance that is not finite counts as the farthest.
        """
        assert len(prediction) == len(labels) == len(points)
        unknown = _count(prediction, labels, as_points(points), _SQUARED_EDGES, self.counts)
        assert unknown == 0, "a truth or a prediction outside the classes"

    def total(self) -> ConfusionMatrix:
        """The counts summed over all distances."""
        return _matrix(self.counts.sum(axis=0))

    def matrices(self) -> dict[str, ConfusionMatrix]:
        """Interval -> its counts."""
        return {name: _matrix(table) for name, table in zip(DISTANCES, self.counts, strict=True)}


def _matrix(table: np.ndarray) -> ConfusionMatrix:
    """The matrix of counts (K+1,K+1), without the points whose truth is IGNORE."""
    matrix = ConfusionMatrix(len(table) - 1)
    matrix.counts, matrix.withheld = table[:-1, :-1], table[:-1, -1]
    return matrix


@kernel
def _count(
    prediction: np.ndarray,
    labels: np.ndarray,
    points: np.ndarray,
    squared_edges: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Add the points to the counts; return the number of invalid classes."""
    unknown, last = 0, np.uint64(counts.shape[1] - 1)
    for i in range(labels.shape[0]):
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        squared = x * x + y * y + z * z
        interval = squared_edges.shape[0]
        for k in range(squared_edges.shape[0]):
            if squared < squared_edges[k]:  # false for NaN
                interval -= 1
        truth, found = np.uint64(labels[i]), np.uint64(prediction[i])
        known = truth < last or truth == _IGNORED
        if known and (found < last or found == _IGNORED):
            counts[interval, min(truth, last), min(found, last)] += 1
        else:
            unknown += 1
    return unknown
