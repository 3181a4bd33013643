"""Metrics of a result from the confusion of its points."""

from __future__ import annotations

from typing import Any

import numpy as np

from rangeseg.datasets.labels import LabelMap
from rangeseg.engine.distance import ConfusionByDistance


def point_figures(confusion: ConfusionByDistance, label_map: LabelMap) -> dict[str, Any]:
    """The point metrics of ``result.json`` apart from the mIoU.

    Args:
        confusion: confusion of all points.
        label_map: names of the classes.

    Returns:
        ``iou``: per cent for each class, None if absent.
        ``fwiou``, ``accuracy``: per cent; frequency-weighted IoU, share of correct points.
        ``distance``: per interval the ``miou`` in per cent over the classes of the truth (None
        without any), the number of ``classes``, and the number of ``points``.
        ``confusion``: (K,K) numbers of points, truth in the rows, prediction in the columns.
    """
    total = confusion.total()
    return {
        "iou": {
            name: None if np.isnan(value) else 100 * float(value)
            for name, value in zip(label_map.names, total.iou(), strict=True)
        },
        "fwiou": 100 * total.frequency_weighted_iou(),
        "accuracy": 100 * total.accuracy(),
        "distance": {
            name: {
                "miou": None if (miou := matrix.miou_of_present()) is None else 100 * miou,
                "classes": int((matrix.points > 0).sum()),
                "points": int(matrix.points.sum()),
            }
            for name, matrix in confusion.matrices().items()
        },
        "confusion": total.counts.tolist(),
    }
