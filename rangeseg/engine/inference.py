"""Inference: a trained network's class for every point, whatever runs the network.

Nothing here imports torch: an exported network predicts without it.
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
    """How predictions return to the points, and on which scans they are judged after training."""

    split: str = "val"
    back_projection: BackProjection = "nearest_point"
    window: int = Field(default=5, ge=1, le=15)  # odd; pixels
    neighbours: int = Field(default=5, ge=1)  # knn_vote
    sigma: float = Field(default=1.0, gt=0)  # knn_vote
    cutoff: float = Field(default=1.0, gt=0)  # knn_vote, metres
    # Test-time augmentation: views of each scan, mirrored and turned, whose probabilities are
    # averaged; 1: the scan alone. As many times slower; on the simulated street 2 gains half a
    # point of mIoU, and more of them nothing: networks hardly notice a turn.
    tta: int = Field(default=1, ge=1)
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
        image: (C,H,W) float32, what the network saw; with k layers (C,k,H,W).
        pixels: (H,W) or (k,H,W) uint8 class of every pixel, the empty ones too.
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
        classes: (H,W) or (k,H,W) uint8 in the host's memory.
        confidence: likewise, float32 probability of that class, or None.
        wait: returns once both have arrived, in any thread; None where they are there.
    """

    classes: np.ndarray
    confidence: np.ndarray | None
    wait: Callable[[], object] | None = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Classes and confidence, once they have arrived."""
        if self.wait is not None:
            self.wait()
        return self.classes, self.confidence


class Backend(Protocol):
    """What runs a network.

    Attributes:
        name: in protocols, such as ``torch``.
        device: in results: ``cpu``, or the GPU's model.
    """

    name: str
    device: str

    def classify(self, images: Sequence[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        """Classes of the pixels of several images at once.

        Args:
            images: B arrays (C,H,W) or (C,k,H,W) float32.
            with_confidence: whether probabilities are wanted too.
        """


def prepare(
    images: RangeImages,
    source: ScanReader,
    with_labels: bool,
    scan_id: str,
    views: Sequence[View] = (View(),),
) -> Prepared | BadScan:
    """A scan read and projected, or what is wrong with it; its image is that of all views."""
    try:
        return prepare_scan(images, views, source.read_scan(scan_id, with_labels))
    except DataError as error:
        return BadScan(scan_id, error)


def prepare_scan(images: RangeImages, views: Sequence[View], scan: Scan) -> Prepared:
    """A scan projected; its image is that of all views.

    Raises:
        DataError: it names a beam that the sensor does not have.
    """
    projection, rows = images.project(scan)
    image = images.images_of_views(scan.points, projection, views)
    return Prepared(scan, projection, rows, image)


class Predictor:
    """Predicts a class for every point of a scan: projection, network, back-projection.

    Args:
        backend: runs the network; with several views one that averages them, see ``Averaged``.
        images: the projection.
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
        read = partial(prepare, self.images, source, with_labels, views=self.views)
        bad_scans = bad_scans or BadScans("fail", len(scan_ids))
        yield from self._predict(read, scan_ids, with_confidence, bad_scans, self.settings.threads)

    def predict_scans(
        self, scans: Sequence[Scan], with_confidence: bool = False
    ) -> Generator[Prediction, None, None]:
        """Predictions of scans that are in memory, in their order; see ``predict``.

        Raises:
            DataError: a scan names a beam that the sensor does not have.
        """
        read = partial(prepare_scan, self.images, self.views)
        # Of one scan nothing can be done beside the network.
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
        """Read, see and back-project, with as many threads beside the network as ``count``."""
        size = self.settings.batch_size
        with threads(count) as pool:
            prepared = map_ahead(pool, read, scans, ahead=size + count)
            seen = self._see(prepared, with_confidence)
            # A batch later, so that the network already works on the next one.
            for result in map_ahead(pool, self._finish, seen, ahead=size):
                if isinstance(result, BadScan):
                    bad_scans.add(result.scan_id, result.error)
                else:
                    yield result

    def _see(
        self, scans: Iterator[Prepared | BadScan], with_confidence: bool
    ) -> Iterator[tuple[Prepared, PixelClasses] | BadScan]:
        """The scans in batches through the network."""
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
        # The confidence goes along as the imaginary part: pixels are searched once.
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
        """Classes of pixels (H,W), and of the points' own ones (N,), to points (N,)."""
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
