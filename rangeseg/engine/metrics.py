"""The confusion matrix and the mean IoU."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.base import MiouPolicy
from rangeseg.datasets.labels import IGNORE


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs.

    Args:
        num_classes: K.

    Attributes:
        counts: (K,K) int64, truth in the rows, prediction in the columns.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """Count points or pixels; those whose truth is IGNORE are left out.

        Args:
            prediction: any shape, uint8 in 0..K-1.
            labels: the same shape, uint8 in 0..K-1 or IGNORE.
        """
        # Truth in the high byte: one bincount of 256·(K or 256) cells counts IGNORE too, and
        # slicing it away is cheaper than compressing both arrays first.
        pairs = labels.astype(np.uint16).ravel() << 8 | prediction.ravel()
        counts = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
        k = self.num_classes
        assert counts[:k, k:].sum() == 0, "a prediction outside the classes"
        assert counts[k:IGNORE].sum() == 0, "a truth outside the classes"
        self.counts += counts[:k, :k]

    def iou(self) -> np.ndarray:
        """(K,) float64 IoU in [0,1]; NaN for a class absent from truth and prediction."""
        hits = np.diag(self.counts)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - hits
        return np.where(union > 0, hits / np.maximum(union, 1), np.nan)

    def miou(self, policy: MiouPolicy) -> float:
        """Mean IoU in [0,1].

        Args:
            policy: what a class absent from truth and prediction does: it counts as 0
                (``semantickitti``, as the benchmark's evaluation) or is left out (``nuscenes``, as
                the devkit's).
        """
        iou = self.iou()
        if policy == "semantickitti":
            return float(np.nan_to_num(iou).mean())
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else 0.0
