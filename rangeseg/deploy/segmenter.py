"""A trained network as one object that labels clouds of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.scan_files import measured
from rangeseg.deploy.metadata import NetworkMetadata
from rangeseg.engine.inference import Prediction, Predictor
from rangeseg.errors import DataError
from rangeseg.geometry.sensor import Sensor

Labelled = tuple[np.ndarray, np.ndarray]
"""Labels (N,), and the probability of each (N,) float32."""


class Segmenter:
    """Labels clouds of points; the result of ``rangeseg.load``. Threads may share it.

    Example:
        >>> segmenter = rangeseg.load("runs/semantic_kitti/cps/10pct/seed0")
        >>> labels = segmenter.predict(points)
        >>> labels, probabilities = segmenter.predict(points, confidence=True)
        >>> segmenter.classes[labels[0]]
        'road'

    Args:
        metadata: metadata of the network.
        predictor: runs the network.
    """

    def __init__(self, metadata: NetworkMetadata, predictor: Predictor) -> None:
        self.metadata, self.predictor = metadata, predictor
        self._label_map = metadata.info().label_map

    @property
    def classes(self) -> dict[int, str]:
        """Raw id in labels -> name of the class."""
        return dict(zip(self.metadata.raw_ids, self.metadata.class_names, strict=True))

    @property
    def colours(self) -> dict[int, tuple[int, int, int]]:
        """Raw id -> red, green, blue in 0..255."""
        return dict(zip(self.metadata.raw_ids, self.metadata.colours, strict=True))

    @property
    def sensor(self) -> Sensor:
        """The training sensor, with the size of its range image."""
        return self.metadata.sensor

    @overload
    def predict(
        self, points: np.ndarray, *, confidence: Literal[False] = False,
        ring: np.ndarray | None = None,
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def predict(
        self, points: np.ndarray, *, confidence: Literal[True], ring: np.ndarray | None = None
    ) -> Labelled: ...

    @overload
    def predict(
        self, points: Sequence[np.ndarray], *, confidence: Literal[False] = False,
        ring: Sequence[np.ndarray | None] | None = None,
    ) -> list[np.ndarray]: ...  # fmt: skip

    @overload
    def predict(
        self, points: Sequence[np.ndarray], *, confidence: Literal[True],
        ring: Sequence[np.ndarray | None] | None = None,
    ) -> list[Labelled]: ...  # fmt: skip

    def predict(
        self,
        points: np.ndarray | Sequence[np.ndarray],
        *,
        confidence: bool = False,
        ring: np.ndarray | Sequence[np.ndarray | None] | None = None,
    ) -> np.ndarray | Labelled | list[np.ndarray] | list[Labelled]:
        """Label the points of one cloud, or of several.

        The first call takes longer: numba loads or compiles its kernels.

        Args:
            points: (N, 4 or more) numbers in the order of the sensor's file, or a list of such
                clouds. Columns are x, y, z in metres in the sensor's frame (x forward, z up), and
                intensity in 0..1. Intensity is the file's value divided by the data set's
                ``layout.intensity_max``. Further columns are ignored; a network without intensity
                takes (N, 3). N may be 0; NaN points get a label too.
            confidence: also return the probability of each label.
            ring: (N,) the beam of each point, numbered as in the data set's files; used only for
                rows by ring. A list for several clouds.

        Returns:
            Labels (N,) in the data set's raw ids, of its label files' type; with ``confidence`` a
            pair of these and their probabilities (N,) float32. A list for several clouds.

        Raises:
            DataError: a cloud has another shape or type, no intensity though the network needs it,
                or names a beam that the sensor does not have.
        """
        if isinstance(points, np.ndarray) and points.dtype != object:
            rings = [None if ring is None else np.asarray(ring)]
            return self._predict([points], rings, confidence)[0]
        clouds = [np.asarray(cloud) for cloud in points]
        rings = [None] * len(clouds) if ring is None else list(ring)
        if len(rings) != len(clouds):
            raise DataError(f"{len(clouds)} clouds, but {len(rings)} rings: give one for each")
        return self._predict(clouds, rings, confidence)  # type: ignore[return-value]

    def _predict(
        self, clouds: Sequence[np.ndarray], rings: Sequence[np.ndarray | None], confidence: bool
    ) -> list[np.ndarray | Labelled]:
        several = len(clouds) > 1
        scans = [
            self._scan(f"cloud {number}" if several else "the cloud", cloud, ring)
            for number, (cloud, ring) in enumerate(zip(clouds, rings, strict=True))
        ]
        seen = self.predictor.predict_scans([s for s in scans if len(s.points)], confidence)
        nothing = np.empty(0, np.uint8), np.empty(0, np.float32) if confidence else None
        return [self._result(*(_of(next(seen)) if len(s.points) else nothing)) for s in scans]

    def _result(self, classes: np.ndarray, confidence: np.ndarray | None) -> np.ndarray | Labelled:
        labels = self._label_map.to_raw(classes).astype(self.metadata.label_type)
        return labels if confidence is None else (labels, confidence)

    def _scan(self, name: str, points: np.ndarray, ring: np.ndarray | None) -> Scan:
        """Copy a cloud into a scan."""
        needed = 4 if "intensity" in self.metadata.channels else 3
        if points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind not in "fiu":
            raise DataError(
                f"{name} is {points.dtype} of shape {points.shape}: give numbers (N, {needed} or "
                f"more), x, y, z{', intensity' if needed == 4 else ''} of each point"
            )
        if points.shape[1] < needed:
            raise DataError(
                f"{name} has 3 columns, but this network reads {', '.join(self.metadata.channels)}:"
                " give (N, 4) with the intensity in 0..1 as the last, or train a network without "
                "it in range_image.channels"
            )
        own = np.zeros((len(points), 4), dtype=np.float32)
        columns = min(points.shape[1], 4)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32's range
            own[:, :columns] = points[:, :columns]
        return Scan(name, measured(own, 1.0), None, self._ring(name, len(points), ring))

    def _ring(self, name: str, count: int, ring: np.ndarray | None) -> np.ndarray | None:
        """The beams (N,) int32, 0 the highest; None if rows do not use them."""
        if ring is None or self.sensor.row_rule != "ring":
            return None
        ring, beams = np.asarray(ring), self.sensor.beams
        if ring.shape != (count,) or (count and (ring.min() < 0 or ring.max() >= beams)):
            raise DataError(
                f"{name} has {count} points and a ring of shape {ring.shape}"
                + (f", {ring.min()} to {ring.max()}" if ring.size else "")
                + f": give one beam for each point, 0 to {beams - 1}"
            )
        numbers = ring.astype(np.int32)
        lowest_first = self.metadata.layout.ring_zero == "lowest"
        return beams - 1 - numbers if lowest_first else numbers


def _of(prediction: Prediction) -> tuple[np.ndarray, np.ndarray | None]:
    return prediction.points, prediction.confidence
