"""Validation during training: the mIoU on a few scans, without changing the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.engine.evaluation import scans_to_evaluate
from rangeseg.engine.inference import Prediction, Predictor
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.errors import DataError
from rangeseg.methods.base import Method
from rangeseg.system.distributed import gather, rank, shard

SPLIT = "val"
"""Never ``test``, whatever split is evaluated after the training."""


@dataclass(frozen=True)
class Validated:
    """The result of a validation.

    Attributes:
        miou: point mIoU in per cent, with the data set's policy.
        iou: point IoU of each class in per cent; None if absent.
        picture: (H,W,3) uint8 of the first scan, or None if not requested.
    """

    miou: float
    iou: dict[str, float | None]
    picture: np.ndarray | None


class Validation:
    """Evaluates a method in training; processes share the scans.

    It only informs: it selects no weights and stops nothing. Weights are bit for bit the same
    without it. The final evaluation names skipped scans.

    Args:
        source: the data set.
        scan_ids: result of ``scans_to_validate``.
        bad_scans: policy for unreadable scans.
        make_predictor: wraps the network that the method evaluates.
        draw: draws the first scan; None for no picture.
        show: the first process calls it after recording a validation.
    """

    def __init__(
        self,
        source: ScanSource,
        scan_ids: list[str],
        bad_scans: BadScans,
        make_predictor: Callable[[], Predictor],
        draw: Callable[[Prediction], np.ndarray] | None,
        show: Callable[[], None],
    ) -> None:
        self.source, self.scan_ids, self.bad_scans = source, scan_ids, bad_scans
        self.make_predictor, self.draw, self.show = make_predictor, draw, show

    def run(self, method: Method[Any]) -> Validated:
        """Evaluate once; every process must call it.

        Args:
            method: method to evaluate; unchanged.

        Raises:
            DataError: a scan cannot be read and is not to be skipped.
        """
        info = self.source.info
        matrix = ConfusionMatrix(info.label_map.num_classes)
        picture: np.ndarray | None = None
        with _undisturbed(method):
            predictor, own = self.make_predictor(), shard(self.scan_ids)
            predicted = predictor.predict(self.source, own, bad_scans=self.bad_scans)
            with closing(predicted) as predictions:
                for prediction in predictions:
                    assert prediction.scan.labels is not None
                    matrix.update(prediction.points, prediction.scan.labels)
                    if self.draw is not None and picture is None and rank() == 0:
                        picture = self.draw(prediction)
        matrix.counts = np.sum(gather(matrix.counts), axis=0)
        iou = {
            name: None if np.isnan(value) else 100 * float(value)
            for name, value in zip(info.label_map.names, matrix.iou(), strict=True)
        }
        return Validated(100 * matrix.miou(info.policy), iou, picture)


def scans_to_validate(source: ScanSource, count: int) -> list[str]:
    """Scans of the split ``val``, evenly spaced.

    Args:
        source: the data set.
        count: largest number of scans.

    Returns:
        Their ids; empty if the split has no labels.
    """
    try:
        scan_ids = scans_to_evaluate(source, SPLIT)
    except DataError:
        return []
    return evenly_spaced(scan_ids, count)


@contextmanager
def _undisturbed(method: nn.Module) -> Iterator[None]:
    """Restore the random generators afterwards; a predictor has a copy of the network."""
    device = next(method.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
