"""Calibration: compare a network's confidence with its accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np

from rangeseg.datasets.labels import IGNORE
from rangeseg.geometry.kernel import kernel

BINS = 15
_UNIT = 1 << 24
"""Confidences are summed as integer multiples of 1 / this, so order does not matter."""


class Calibration:
    """Confidence of the predicted class and its accuracy, in 15 equal bins.

    A point that was not projected has no confidence (0) and is left out.

    Attributes:
        counts: (3,15) int64: points, correct points, and summed confidence times 2**24.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Sec. 2.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((3, BINS), dtype=np.int64)

    def update(self, confidence: np.ndarray, prediction: np.ndarray, labels: np.ndarray) -> None:
        """Count points; those whose truth or prediction is IGNORE are left out.

        Args:
            confidence: (N,) float32 in [0,1]; 0 for none.
            prediction: (N,) uint8.
            labels: (N,) uint8.
        """
        _count(confidence, prediction, labels, self.counts)

    def ece(self) -> float:
        """Expected calibration error in [0,1]: mean of |accuracy - confidence| over the points.

        Both are means of the point's bin.
        """
        points, right, confidence = self.counts
        return float(np.abs(right - confidence / _UNIT).sum() / max(points.sum(), 1))

    def result(self) -> dict[str, Any]:
        """Entries of ``result.json``.

        Returns:
            ``ece`` and, per bin, mean ``confidence`` and ``accuracy`` in per cent (None if empty),
            and the number of ``points``.
        """
        points, right, confidence = self.counts.tolist()

        def per_cent(sums: list[float]) -> list[float | None]:
            return [100 * s / n if n else None for s, n in zip(sums, points, strict=True)]

        return {
            "ece": 100 * self.ece(),
            "confidence": per_cent([total / _UNIT for total in confidence]),
            "accuracy": per_cent(right),
            "points": points,
        }


@kernel
def _count(
    confidence: np.ndarray, prediction: np.ndarray, labels: np.ndarray, counts: np.ndarray
) -> None:
    for i in range(labels.shape[0]):
        if labels[i] == IGNORE or prediction[i] == IGNORE or not confidence[i] > 0.0:
            continue
        place = min(int(BINS * float(confidence[i])), BINS - 1)
        counts[0, place] += 1
        counts[1, place] += prediction[i] == labels[i]
        counts[2, place] += int(_UNIT * float(confidence[i]) + 0.5)
