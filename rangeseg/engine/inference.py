"""Inference: a trained network's class for every point."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from rangeseg.datasets.bad_scans import BadScan, BadScans
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.range_images import RangeImages
from rangeseg.errors import DataError
from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection
from rangeseg.geometry.sensor import RowRule
from rangeseg.settings import Settings
from rangeseg.system.device import Precision, autocast, to_device
from rangeseg.system.prefetch import map_ahead, threads

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
    threads: int = Field(default=2, ge=0)  # read, project and write beside the network; 0: none

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("window must be odd, so that it has a centre")
        return window


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for one scan.

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


class Prepared(NamedTuple):
    """A scan up to what the network reads of it; see ``Prediction``."""

    scan: Scan
    projection: Projection
    rows: RowRule
    image: np.ndarray


@dataclass(frozen=True)
class PixelClasses:
    """A network's classes for the pixels of one image, perhaps still being copied from a GPU.

    Attributes:
        classes: (H,W) uint8 in the host's memory.
        confidence: (H,W) float32 probability of that class, or None.
        arrival: of the copy of both; None on a CPU.
    """

    classes: torch.Tensor
    confidence: torch.Tensor | None
    arrival: torch.cuda.Event | None

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Wait for the copy, in any thread; returns classes and confidence."""
        if self.arrival is not None:
            self.arrival.synchronize()
        confidence = None if self.confidence is None else self.confidence.numpy()
        return self.classes.numpy(), confidence


class Predictor:
    """Predicts a class for every point of a scan: projection, network, back-projection.

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
    ) -> Generator[Prediction, None, None]:
        """Predictions of scans, in their order.

        While the network runs on a batch, threads read and project the next one and back-project
        the one before. They end when the iterator is closed or exhausted.

        Scans that cannot be read or projected are passed to ``bad_scans`` in their turn, in the
        caller's thread, and left out if that does not raise.

        The confidence is back-projected like the labels; after ``knn_vote``, which blends pixels,
        it is that of the point's own pixel.

        Raises:
            DataError: a scan cannot be read or projected and is not to be skipped.
        """
        bad_scans = bad_scans or BadScans("fail", len(scan_ids))
        size, count = self.settings.batch_size, self.settings.threads
        with threads(count) as pool:
            prepare = partial(self.prepare, source, with_labels)
            prepared = map_ahead(pool, prepare, scan_ids, ahead=size + count)
            seen = self._see(prepared, with_confidence)
            # A batch later, so that the network already works on the next one.
            for result in map_ahead(pool, self._finish, seen, ahead=size):
                if isinstance(result, BadScan):
                    bad_scans.add(result.scan_id, result.error)
                else:
                    yield result

    def prepare(self, source: ScanSource, with_labels: bool, scan_id: str) -> Prepared | BadScan:
        """A scan read and projected, or what is wrong with it."""
        try:
            scan = source.read_scan(scan_id, with_labels)
            projection, rows = self.images.project(scan)
        except DataError as error:
            return BadScan(scan_id, error)
        return Prepared(scan, projection, rows, self.images.image(scan.points, projection))

    def _see(
        self, scans: Iterator[Prepared | BadScan], with_confidence: bool
    ) -> Iterator[tuple[Prepared, PixelClasses] | BadScan]:
        """The scans in batches through the network."""
        while batch := list(islice(scans, self.settings.batch_size)):
            images = [scan.image for scan in batch if isinstance(scan, Prepared)]
            seen: list[PixelClasses] = []
            if images:
                seen = classify(self.network, images, self.device, self.precision, with_confidence)
            pixels = iter(seen)
            for scan in batch:
                yield scan if isinstance(scan, BadScan) else (scan, next(pixels))

    def _finish(self, seen: tuple[Prepared, PixelClasses] | BadScan) -> Prediction | BadScan:
        if isinstance(seen, BadScan):
            return seen
        (scan, projection, rows, image), pixels = seen
        classes, confidences = pixels.arrays()
        raw = own_pixel(classes, projection)
        points = self._back_project(classes, projection, scan.points, raw)
        confidence = None
        if confidences is not None:
            own = own_pixel(confidences, projection)
            confidence = self._back_project(confidences, projection, scan.points, own)
        return Prediction(scan, projection, rows, image, classes, raw, points, confidence)

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


@torch.inference_mode()
def classify(
    network: nn.Module,
    images: Sequence[np.ndarray],
    device: torch.device,
    precision: Precision,
    with_confidence: bool,
) -> list[PixelClasses]:
    """Classes of the pixels of several images at once.

    On a GPU this returns at once: the copy arrives while the caller goes on.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W); on the device.
        images: B arrays (C,H,W) float32.
        device: where the network runs.
        precision: of the forward.
        with_confidence: whether probabilities are wanted too.
    """
    on_gpu = device.type == "cuda"
    batch = torch.empty((len(images), *images[0].shape), pin_memory=on_gpu)
    np.stack(images, out=batch.numpy())
    batch = batch.to(device, memory_format=torch.channels_last, non_blocking=True)
    with autocast(device, precision):
        logits = network(batch)
    confidence = None
    if with_confidence:
        confidence, classes = logits.float().softmax(dim=1).max(dim=1)
        confidence = confidence.to("cpu", non_blocking=True)  # (B, H, W)
    else:
        classes = logits.argmax(dim=1)
    # One byte a pixel is copied instead of eight, or of K floats.
    classes = classes.to(torch.uint8).to("cpu", non_blocking=True)  # (B, H, W)
    arrival = None
    if on_gpu:
        arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrival.record(torch.cuda.current_stream(device))
    return [
        PixelClasses(classes[i], None if confidence is None else confidence[i], arrival)
        for i in range(len(images))
    ]
