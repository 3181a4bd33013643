"""The confusion matrix and its metrics."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.base import MiouPolicy
from rangeseg.datasets.labels import IGNORE
from rangeseg.geometry.kernel import kernel


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs.

    Args:
        num_classes: K.

    Attributes:
        counts: (K,K) int64, truth in the rows, prediction in the columns.
        withheld: (K,) int64, points of each class predicted as IGNORE, which count as missed.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.withheld = np.zeros(num_classes, dtype=np.int64)

    def update(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """Count points or pixels; those whose truth is IGNORE are left out.

        Args:
            prediction: any shape, uint8 in 0..K-1 or IGNORE.
            labels: the same shape, uint8 in 0..K-1 or IGNORE.
        """
        prediction, labels = (a.astype(np.uint8, copy=False).ravel() for a in (prediction, labels))
        tables = np.zeros((2, 256, 256), dtype=np.uint32)
        _count(prediction, labels, tables)
        pairs = tables.sum(axis=0, dtype=np.int64)
        counts = pairs[: self.num_classes, : self.num_classes]
        withheld = pairs[: self.num_classes, IGNORE]
        known = counts.sum() + withheld.sum() + pairs[IGNORE].sum()
        assert known == labels.size, "a truth or a prediction outside the classes"
        self.counts += counts
        self.withheld += withheld

    def iou(self) -> np.ndarray:
        """(K,) float64 IoU in [0,1]; NaN for a class absent from truth and prediction."""
        hits = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) + self.withheld - hits
        return np.where(union > 0, hits / np.maximum(union, 1), np.nan)

    def miou(self, policy: MiouPolicy) -> float:
        """Mean IoU in [0,1].

        Args:
            policy: treatment of a class absent from truth and prediction. ``semantickitti`` counts
                it as 0, like the benchmark; ``nuscenes`` leaves it out, like the devkit.
        """
        iou = self.iou()
        if policy == "semantickitti":
            return float(np.nan_to_num(iou).mean())
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else 0.0

    @property
    def points(self) -> np.ndarray:
        """(K,) int64, points of each class in the truth."""
        points: np.ndarray = self.counts.sum(axis=1) + self.withheld
        return points

    def miou_of_present(self) -> float | None:
        """Mean IoU in [0,1] over the classes in the truth; None without any."""
        present = self.points > 0
        return float(self.iou()[present].mean()) if present.any() else None

    def frequency_weighted_iou(self) -> float:
        """Mean IoU in [0,1], weighted by each class's points in the truth."""
        return float(np.nan_to_num(self.iou()) @ self.points / max(self.points.sum(), 1))

    def accuracy(self) -> float:
        """The share [0,1] of correct points."""
        return float(np.trace(self.counts) / max(self.points.sum(), 1))


@kernel
def _count(prediction: np.ndarray, labels: np.ndarray, tables: np.ndarray) -> None:
    """Add pairs to two tables in turn, so that equal successive pairs need not wait."""
    for i in range(labels.shape[0]):
        tables[i % 2, labels[i], prediction[i]] += np.uint32(1)
