"""From a trained network to a class for every point, and to the mIoU."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from rangeseg.datasets.bad_scans import BadScans, OnBadScan
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages
from rangeseg.engine.device import Precision, autocast, to_device
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.engine.processes import gather, share
from rangeseg.errors import DataError
from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection
from rangeseg.geometry.sensor import RowRule
from rangeseg.methods.distributed import num_processes
from rangeseg.progress import Progress
from rangeseg.settings import Settings

BackProjection = Literal["none", "nearest_label", "nearest_point", "knn_vote"]


class EvaluateSettings(Settings):
    """How predictions return to the points, and on which scans they are judged after training."""

    split: str = "val"
    back_projection: BackProjection = "nearest_point"
    window: int = Field(default=5, ge=1, le=15)  # odd; pixels
    neighbours: int = Field(default=5, ge=1)  # knn_vote
    sigma: float = Field(default=1.0, gt=0)  # knn_vote
    cutoff: float = Field(default=1.0, gt=0)  # knn_vote, metres
    batch_size: int = Field(default=1, ge=1)

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("window must be odd, so that it has a centre")
        return window


@dataclass(frozen=True)
class Prediction:
    """What a network says of one scan.

    Attributes:
        scan: the scan as it was read.
        projection: where its points fell.
        rows: the row rule that the scan allowed.
        image: (C,H,W) float32, what the network saw.
        pixels: (H,W) uint8 class of every pixel, the empty ones too.
        raw: (N,) uint8 class of every point, that of its own pixel.
        points: (N,) uint8 class of every point after back-projection.
        confidence: (N,) float32 probability that the network gave to the class in ``points``, 0
            where a point was not projected; None where it was not asked for.
    """

    scan: Scan
    projection: Projection
    rows: RowRule
    image: np.ndarray
    pixels: np.ndarray
    raw: np.ndarray
    points: np.ndarray
    confidence: np.ndarray | None


class Predictor:
    """A network with all that lies between a scan and a class for every point.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W).
        images: the projection.
        settings: the back-projection.
        num_classes: K.
        device: where the network runs.
        precision: of the forward.
    """

    def __init__(
        self,
        network: nn.Module,
        images: RangeImages,
        settings: EvaluateSettings,
        num_classes: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.network = to_device(network, device).eval()
        self.images, self.settings, self.num_classes = images, settings, num_classes
        self.device, self.precision = device, precision

    def predict(
        self,
        source: ScanSource,
        scan_ids: list[str],
        with_labels: bool = True,
        with_confidence: bool = False,
        bad_scans: BadScans | None = None,
    ) -> Iterator[Prediction]:
        """Predictions of scans, in their order.

        Those that cannot be read go to ``bad_scans``, and are left out if that does not raise.

        The confidence is back-projected like the labels; after ``knn_vote``, which blends pixels,
        it is that of the point's own pixel.

        Raises:
            DataError: a scan cannot be read and is not to be skipped.
        """
        bad_scans = bad_scans or BadScans("fail", len(scan_ids))
        size = self.settings.batch_size
        for start in range(0, len(scan_ids), size):
            read = [bad_scans.read(source, i, with_labels) for i in scan_ids[start : start + size]]
            scans = [scan for scan in read if scan is not None]
            if not scans:
                continue
            projected = [self.images.project(scan) for scan in scans]
            images = [
                self.images.image(scan.points, projection)
                for scan, (projection, _) in zip(scans, projected, strict=True)
            ]
            classes, confidences = self._classes(np.stack(images), with_confidence)
            for i, (scan, (projection, rows)) in enumerate(zip(scans, projected, strict=True)):
                raw = own_pixel(classes[i], projection)
                points = self._back_project(classes[i], projection, scan.points, raw)
                confidence = None
                if confidences is not None:
                    own = own_pixel(confidences[i], projection)
                    confidence = self._back_project(confidences[i], projection, scan.points, own)
                yield Prediction(
                    scan, projection, rows, images[i], classes[i], raw, points, confidence
                )

    @torch.inference_mode()
    def _classes(
        self, images: np.ndarray, with_confidence: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Classes (B,H,W) uint8 and, if wanted, their probabilities (B,H,W) float32."""
        batch = torch.from_numpy(images).to(self.device, memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            logits = self.network(batch)
        if not with_confidence:
            return logits.argmax(dim=1).to(torch.uint8).cpu().numpy(), None
        confidence, classes = logits.float().softmax(dim=1).max(dim=1)
        return classes.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy()

    def _back_project(
        self, pixels: np.ndarray, projection: Projection, points: np.ndarray, raw: np.ndarray
    ) -> np.ndarray:
        """Classes or confidences of pixels (H,W), and of the points' own ones (N,), to points."""
        s = self.settings
        if s.back_projection == "nearest_point":
            return nearest_point(pixels, projection, points, s.window)
        if s.back_projection == "nearest_label":
            return nearest_label(pixels, projection, s.window)
        if s.back_projection == "knn_vote" and pixels.dtype == np.uint8:
            return knn_vote(
                pixels, projection, self.num_classes, s.neighbours, s.window, s.sigma, s.cutoff
            )
        return raw


def scans_to_evaluate(source: ScanSource, split: str) -> list[str]:
    """The scans of a split that should have labels.

    Raises:
        DataError: none has, or the split cannot be listed.
        ConfigError: no such split.
    """
    scan_ids = source.labelled_ids(split)
    if not any(source.has_labels(scan_id) for scan_id in scan_ids):
        raise DataError(
            f"no scan of the split {split} of {source.root} has labels, so there is nothing to "
            "evaluate against: copy the labels there, or write predictions with `rangeseg predict`"
        )
    return scan_ids


def skipped_by_all(bad_scans: BadScans) -> dict[str, str]:
    """The scans that any process skipped, with what is wrong with each.

    Raises:
        DataError: together they are too many.
    """
    if num_processes() > 1:
        for skipped in gather(bad_scans.report()):
            for scan_id, fault in skipped.items():
                bad_scans.add(scan_id, DataError(fault))
    return bad_scans.report()


def evaluate(
    predictor: Predictor, source: ScanSource, split: str, on_bad_scan: OnBadScan = "fail"
) -> dict[str, Any]:
    """Evaluate on all scans of a split, with a progress bar; processes share the scans.

    Args:
        predictor: what predicts.
        source: the data set.
        split: which scans.
        on_bad_scan: whether a scan that cannot be read ends the evaluation, or is left out of the
            figures and named in the result.

    Returns:
        What ``result.json`` holds: ``protocol``, ``miou`` (per cent: ``point``, ``point_raw``,
        ``pixel``), ``iou`` (per cent of each class, per point; null where absent),
        ``scans`` that were evaluated, ``skipped_scans`` with what is wrong with each,
        ``seconds``.

    Raises:
        DataError: a scan or its labels cannot be read and is not to be skipped, or the split has
            no labels.
    """
    info = source.info
    scan_ids = scans_to_evaluate(source, split)
    kinds = ("point", "point_raw", "pixel")
    matrices = {kind: ConfusionMatrix(info.label_map.num_classes) for kind in kinds}
    rows: Counter[str] = Counter()
    bad_scans = BadScans(on_bad_scan, len(scan_ids))
    own = share(scan_ids)
    started = time.monotonic()
    with Progress(f"evaluate {split}", len(own), "scan") as progress:
        for prediction in predictor.predict(source, own, bad_scans=bad_scans):
            labels = prediction.scan.labels
            assert labels is not None
            rows[prediction.rows] += 1
            truth_image = to_image(labels, prediction.projection.point_index, IGNORE)
            matrices["point"].update(prediction.points, labels)
            matrices["point_raw"].update(prediction.raw, labels)
            matrices["pixel"].update(prediction.pixels, truth_image)
            progress.update(note=f"mIoU {100 * matrices['point'].miou(info.policy):.1f}")
    for matrix in matrices.values():
        matrix.counts = np.sum(gather(matrix.counts), axis=0)
    rows = sum(gather(rows), Counter())
    skipped = skipped_by_all(bad_scans)
    sensor, settings = predictor.images.sensor, predictor.settings
    back_projection = settings.model_dump(include={"back_projection", "window"})
    if settings.back_projection == "knn_vote":
        back_projection |= settings.model_dump(include={"neighbours", "sigma", "cutoff"})
    return {
        "protocol": {
            "dataset": info.name,
            "split": split,
            "policy": info.policy,
            "image": [sensor.height, sensor.width],
            # Scans that do not allow the sensor's rule fall back, each for itself.
            "rows": " + ".join(
                rule if len(rows) == 1 else f"{rule} ({n})" for rule, n in sorted(rows.items())
            ),
            **back_projection,
        },
        "miou": {kind: 100 * m.miou(info.policy) for kind, m in matrices.items()},
        "iou": {
            name: None if np.isnan(value) else 100 * float(value)
            for name, value in zip(info.label_map.names, matrices["point"].iou(), strict=True)
        },
        "scans": sum(rows.values()),
        "skipped_scans": skipped,
        "seconds": round(time.monotonic() - started, 1),
    }
