"""Inference: predict a class for every point, with any backend.

This module imports no torch: an exported network predicts without it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from pydantic import Field, field_validator

from rangeseg.datasets.bad_scans import BadScan, BadScans
from rangeseg.datasets.base import Scan, ScanReader
from rangeseg.datasets.range_images import RangeImages
from rangeseg.errors import DataError
from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection
from rangeseg.geometry.sensor import RowRule
from rangeseg.geometry.views import View, make_views
from rangeseg.settings import Settings
from rangeseg.system.prefetch import map_ahead, threads

Item = TypeVar("Item")
BackProjection = Literal["none", "nearest_label", "nearest_point", "knn_vote"]


class EvaluateSettings(Settings):
    """The back-projection, and the evaluation after training."""

    split: str = "val"
    back_projection: BackProjection = "nearest_point"
    window: int = Field(default=5, ge=1, le=15)  # odd; pixels
    neighbours: int = Field(default=5, ge=1)  # knn_vote
    sigma: float = Field(default=1.0, gt=0)  # knn_vote
    cutoff: float = Field(default=1.0, gt=0)  # knn_vote, metres
    # Test-time augmentation: number of views, mirrored and rotated, to average; 1: the scan alone.
    # N views are N times slower. On the simulated street 2 gain half a point of mIoU, more gain
    # nothing: networks hardly react to rotation.
    tta: int = Field(default=1, ge=1)
    batch_size: int = Field(default=1, ge=1)
    threads: int = Field(default=2, ge=0)  # threads that read, project and write; 0: none

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
        scan: the scan as read.
        projection: projection of its points.
        rows: the row rule used.
        image: (C,H,W) float32, the network's input; with k layers (C,k,H,W).
        pixels: (H,W) or (k,H,W) uint8 class of every pixel, even empty ones.
        raw: (N,) uint8 class of every point's own pixel.
        points: (N,) uint8 class of every point after back-projection.
        confidence: (N,) float32 probability of the class in ``points``, 0 for unprojected points;
            None if not requested.
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
    """A scan prepared for the network; see ``Prediction``."""

    scan: Scan
    projection: Projection
    rows: RowRule
    image: np.ndarray


@dataclass(frozen=True)
class PixelClasses:
    """A network's classes for the pixels of one image, perhaps still being copied from a GPU.

    Attributes:
        classes: (H,W) or (k,H,W) uint8 in the host's memory.
        confidence: likewise, float32 probability of that class, or None.
        wait: blocks until both have arrived, in any thread; None if they have.
    """

    classes: np.ndarray
    confidence: np.ndarray | None
    wait: Callable[[], object] | None = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Wait for classes and confidence, and return them."""
        if self.wait is not None:
            self.wait()
        return self.classes, self.confidence


class Backend(Protocol):
    """Runs a network.

    Attributes:
        name: name in protocols, such as ``torch``.
        device: device in results: ``cpu``, or the GPU's model.
    """

    name: str
    device: str

    def classify(self, images: Sequence[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        """Classify the pixels of several images at once.

        Args:
            images: B arrays (C,H,W) or (C,k,H,W) float32.
            with_confidence: also return probabilities.
        """


def prepare(
    images: RangeImages,
    source: ScanReader,
    with_labels: bool,
    scan_id: str,
    views: Sequence[View] = (View(),),
) -> Prepared | BadScan:
    """Read and project a scan, with the image of all views; return its error if it fails."""
    try:
        return prepare_scan(images, views, source.read_scan(scan_id, with_labels))
    except DataError as error:
        return BadScan(scan_id, error)


def prepare_scan(images: RangeImages, views: Sequence[View], scan: Scan) -> Prepared:
    """Project a scan; its image holds all views.

    Raises:
        DataError: it names a beam that the sensor does not have.
    """
    projection, rows = images.project(scan)
    image = images.images_of_views(scan.points, projection, views)
    return Prepared(scan, projection, rows, image)


class Predictor:
    """Predicts a class for every point of a scan: projection, network, back-projection.

    Args:
        backend: runs the network; with several views it averages them, see ``Averaged``.
        images: makes the range images.
        settings: the back-projection.
        num_classes: K.
    """

    def __init__(
        self, backend: Backend, images: RangeImages, settings: EvaluateSettings, num_classes: int
    ) -> None:
        self.backend, self.images = backend, images
        self.settings, self.num_classes = settings, num_classes
        self.views = make_views(settings.tta, images.sensor)

    def predict(
        self,
        source: ScanReader,
        scan_ids: list[str],
        with_labels: bool = True,
        with_confidence: bool = False,
        bad_scans: BadScans | None = None,
    ) -> Generator[Prediction, None, None]:
        """Predict scans, in order.

        While the network runs, threads read and project the next batch and back-project the
        previous one. They end when the iterator is closed or exhausted.

        Scans that cannot be read or projected go to ``bad_scans``, in order and in the caller's
        thread. They are left out if that does not raise.

        The confidence is back-projected like the labels. After ``knn_vote``, which blends pixels,
        it is the own pixel's.

        Raises:
            DataError: a scan cannot be read or projected and may not be skipped.
        """
        read = partial(prepare, self.images, source, with_labels, views=self.views)
        bad_scans = bad_scans or BadScans("fail", len(scan_ids))
        yield from self._predict(read, scan_ids, with_confidence, bad_scans, self.settings.threads)

    def predict_scans(
        self, scans: Sequence[Scan], with_confidence: bool = False
    ) -> Generator[Prediction, None, None]:
        """Predict scans in memory, in order; see ``predict``.

        Raises:
            DataError: a scan names a beam that the sensor does not have.
        """
        read = partial(prepare_scan, self.images, self.views)
        # A single scan leaves no work for other threads.
        count = self.settings.threads if len(scans) > 1 else 0
        bad_scans = BadScans("fail", len(scans))
        yield from self._predict(read, scans, with_confidence, bad_scans, count)

    def _predict(
        self,
        read: Callable[[Item], Prepared | BadScan],
        scans: Sequence[Item],
        with_confidence: bool,
        bad_scans: BadScans,
        count: int,
    ) -> Generator[Prediction, None, None]:
        """Read, classify and back-project, with ``count`` additional threads."""
        size = self.settings.batch_size
        with threads(count) as pool:
            prepared = map_ahead(pool, read, scans, ahead=size + count)
            seen = self._see(prepared, with_confidence)
            # One batch later, so that the network already runs on the next one.
            for result in map_ahead(pool, self._finish, seen, ahead=size):
                if isinstance(result, BadScan):
                    bad_scans.add(result.scan_id, result.error)
                else:
                    yield result

    def _see(
        self, scans: Iterator[Prepared | BadScan], with_confidence: bool
    ) -> Iterator[tuple[Prepared, PixelClasses] | BadScan]:
        """Run scans through the network in batches."""
        while batch := list(islice(scans, self.settings.batch_size)):
            images = [scan.image for scan in batch if isinstance(scan, Prepared)]
            seen: list[PixelClasses] = []
            if images:
                seen = self.backend.classify(images, with_confidence)
            pixels = iter(seen)
            for scan in batch:
                yield scan if isinstance(scan, BadScan) else (scan, next(pixels))

    def _finish(self, seen: tuple[Prepared, PixelClasses] | BadScan) -> Prediction | BadScan:
        if isinstance(seen, BadScan):
            return seen
        (scan, projection, rows, image), pixels = seen
        classes, confidences = pixels.arrays()
        # The imaginary part carries the confidence, so pixels are searched once.
        seen_pixels = classes if confidences is None else classes + 1j * confidences
        raw = own_pixel(seen_pixels, projection)
        points = self._back_project(seen_pixels, projection, scan.points, raw)
        confidence = None if confidences is None else np.ascontiguousarray(points.imag)
        raw, points = (values.real.astype(np.uint8, copy=False) for values in (raw, points))
        own_image = image[: len(self.images.settings.channels)]  # the first view's
        return Prediction(scan, projection, rows, own_image, classes, raw, points, confidence)

    def _back_project(
        self, pixels: np.ndarray, projection: Projection, points: np.ndarray, raw: np.ndarray
    ) -> np.ndarray:
        """Back-project the classes of pixels (H,W), and of own pixels (N,), to points (N,)."""
        s = self.settings
        if s.back_projection == "nearest_point":
            return nearest_point(pixels, projection, points, s.window)
        if s.back_projection == "nearest_label":
            return nearest_label(pixels, projection, s.window)
        if s.back_projection == "knn_vote":
            classes = pixels.real.astype(np.uint8, copy=False)
            voted = knn_vote(
                classes, projection, self.num_classes, s.neighbours, s.window, s.sigma, s.cutoff
            )
            return voted if pixels is classes else voted + 1j * raw.imag
        return raw
