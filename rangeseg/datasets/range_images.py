"""Turn scans into range images."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from rangeseg.datasets.added_points import (
    AddedPoints,
    ProjectedScan,
    add,
    gap_points,
    objects_of,
)
from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import DatasetInfo, Scan, ScanSource
from rangeseg.datasets.crops import crop, first_column, labelled_column
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.augmentation import AugmentationSettings, augment_points, rotate_points
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import ALL_CHANNELS, CHANNELS, make_range_image, to_image
from rangeseg.geometry.normals import NORMALS
from rangeseg.geometry.projection import MOST_LAYERS, Projection, project_points
from rangeseg.geometry.sensor import RowRule
from rangeseg.geometry.views import View
from rangeseg.settings import Settings
from rangeseg.system.progress import Progress

_log = logging.getLogger(__name__)

Sample = dict[str, np.ndarray]
"""``image`` (C,H,W) float32, ``valid`` (H,W) bool, and ``labels`` (H,W) uint8 if labelled.

With k layers ``image`` (C,k,H,W), ``valid`` and ``labels`` (k,H,W).
"""

STRIDE = 8
"""The networks halve an image three times."""


class RangeImageSettings(Settings):
    """The size and the content of a range image."""

    height: int = Field(ge=STRIDE, multiple_of=STRIDE)
    width: int = Field(ge=STRIDE, multiple_of=STRIDE)
    rows: Literal["auto"] | RowRule = "auto"  # auto: the sensor's
    channels: tuple[Literal[ALL_CHANNELS], ...] = CHANNELS  # type: ignore[valid-type]
    # Number of nearest points that a pixel keeps; 1 for networks of pixels.
    layers: int = Field(default=1, ge=1, le=MOST_LAYERS)
    # Training only. With a full turn the networks also pad a crop circularly.
    crop_width: int | None = Field(default=None, ge=STRIDE, multiple_of=STRIDE)

    @model_validator(mode="after")
    def _fits(self) -> RangeImageSettings:
        if self.crop_width is not None and self.crop_width > self.width:
            raise ValueError(f"crop_width {self.crop_width} exceeds width {self.width}")
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError("channels must name each channel once, and at least one")
        return self


class RangeImages:
    """Turns a data set's scans into range images, with its sensor and statistics.

    Raises:
        ConfigError: normals with crops, several layers, or rows other than by inclination.
    """

    def __init__(self, info: DatasetInfo, settings: RangeImageSettings) -> None:
        self.settings = settings
        rule = None if settings.rows == "auto" else settings.rows
        self.sensor = info.sensor.resized(settings.height, settings.width, rule)
        self.statistics = info.statistics
        if set(NORMALS) & set(settings.channels):
            self._check_normals()

    def _check_normals(self) -> None:
        """Normals are read off whole images, whose rows and columns are evenly spaced."""
        found, rule = self.settings, self.sensor.row_rule
        if rule != "inclination" or found.layers > 1 or found.crop_width is not None:
            raise ConfigError(
                "range_image.channels: normals need rows: inclination, layers: 1 and no "
                f"crop_width; found {rule}, {found.layers} and {found.crop_width or 'none'}"
            )

    def shape(self, views: int = 1) -> tuple[int, ...]:
        """(C,H,W) or (C,k,H,W) of an image; with several views (V*C,...)."""
        settings = self.settings
        size = settings.height, settings.width
        channels = views * len(settings.channels)
        return (channels, *size) if settings.layers == 1 else (channels, settings.layers, *size)

    @property
    def channel_statistics(self) -> tuple[tuple[float, float], ...]:
        """(mean, std) of each channel, in the order of the channels."""
        return tuple(self.statistics.get(c, (0.0, 1.0)) for c in self.settings.channels)

    def project(self, scan: Scan) -> tuple[Projection, RowRule]:
        """Project a scan; return the projection and the row rule used.

        Raises:
            DataError: the scan names a beam that the sensor does not have.
        """
        beams = scan.beams
        if beams is None:
            beams = beam_rows(scan.points, self.sensor, scan.ring)
        rule = "inclination" if beams is None else self.sensor.row_rule
        return self._project(scan, scan.points, beams), rule

    def image(self, points: np.ndarray, projection: Projection) -> np.ndarray:
        """Make the normalised range image (C,H,W) or (C,k,H,W) float32 of points (N,4)."""
        channels = self.settings.channels
        return make_range_image(points, projection, channels, self.statistics, self.sensor)

    def images_of_views(
        self, points: np.ndarray, projection: Projection, views: Sequence[View]
    ) -> np.ndarray:
        """Stack the images of V views of a scan to (V*C,H,W) or (V*C,k,H,W) float32.

        Args:
            points: (N,4) float32.
            projection: projection of these points.
            views: the V views.
        """
        images = [
            self.image(view.points(points, self.sensor), view.projection(projection))
            for view in views
        ]
        return images[0] if len(images) == 1 else np.concatenate(images)

    def training_sample(
        self,
        scan: Scan,
        rng: np.random.Generator,
        augmentation: AugmentationSettings,
        window: float,
        objects: AddedPoints | None = None,
    ) -> Sample:
        """Make an augmented and, if set, cropped range image.

        Args:
            scan: labelled or not.
            rng: generator of the augmentation.
            augmentation: strengths of the augmentation.
            window: start of a crop as a share [0,1) of its possible places. A crop of a labelled
                scan without a labelled pixel is moved to one, if the scan has any.
            objects: objects of another labelled scan to add to a labelled one; see ``objects``.

        Returns:
            See ``Sample``.

        Raises:
            DataError: the scan names a beam that the sensor does not have.
        """
        seen = self._see(scan, rng, augmentation)
        points, labels, projection = seen if objects is None else add(seen, objects)
        crop_width = self.settings.crop_width
        if crop_width is not None:
            first = first_column(projection, crop_width, window)
            if labels is not None:
                moved = labelled_column(projection, labels, crop_width, first, rng)
                if moved != first and self.sensor.full_turn and augmentation.rotate:
                    turns = (moved - first) / self.sensor.width  # keep the rays of the window
                    points = rotate_points(points, 2.0 * math.pi * turns)
                first = moved
            projection = crop(projection, crop_width, first)
        sample = {"image": self.image(points, projection), "valid": projection.valid}
        if labels is not None:
            sample["labels"] = to_image(labels, projection.point_index, IGNORE)
        if crop_width is not None:
            sample = {name: field[..., 1:] for name, field in sample.items()}
        return sample

    def objects(
        self,
        scan: Scan,
        classes: list[int],
        rng: np.random.Generator,
        augmentation: AugmentationSettings,
    ) -> AddedPoints:
        """Cut out objects of some classes from a labelled scan, to add to another.

        Args:
            scan: a labelled one.
            classes: train ids.
            rng: of the augmentation.
            augmentation: settings of the scan; without ``rotate`` objects keep their place.

        Raises:
            DataError: the scan names a beam that the sensor does not have.
        """
        seen = self._see(scan, rng, augmentation)
        turns = rng if augmentation.rotate else None
        return objects_of(seen, classes, self.sensor.view_deg, turns)

    def _see(
        self, scan: Scan, rng: np.random.Generator, augmentation: AugmentationSettings
    ) -> ProjectedScan:
        """Augment and project a scan, and fill its gaps if requested."""
        # Before the augmentation: rotation moves the azimuth wraps that define rows.
        beams = beam_rows(scan.points, self.sensor, scan.ring)
        middle = None if self.sensor.full_turn else math.radians(self.sensor.middle_deg)
        points = augment_points(scan.points, rng, augmentation, middle)
        seen = ProjectedScan(points, scan.labels, self._project(scan, points, beams))
        if augmentation.range_interpolation:
            sensor, fine = self.sensor, seen.projection.front
            if augmentation.range_interpolation > 1:
                width = augmentation.range_interpolation * sensor.width
                fine = project_points(points, sensor.resized(sensor.height, width), beams)
            seen = add(seen, gap_points(seen, fine))
        return seen

    def _project(self, scan: Scan, points: np.ndarray, beams: np.ndarray | None) -> Projection:
        """Project a scan's points, augmented or not; an error names the scan."""
        try:
            return project_points(points, self.sensor, beams, self.settings.layers)
        except DataError as error:
            raise DataError(f"scan {scan.scan_id}: {error}", error.kind) from None


def class_frequencies(
    source: ScanSource,
    scan_ids: list[str],
    most: int = 500,
    bad_scans: BadScans | None = None,
) -> np.ndarray:
    """Measure the frequency of each class among the points of labelled scans.

    A warning names absent classes.

    Args:
        source: where the scans are.
        scan_ids: labelled scans.
        most: largest number of scans to read, evenly spaced.
        bad_scans: policy for unreadable scans; None fails.

    Returns:
        (K,) float64 that sum to 1.

    Raises:
        ConfigError: no point of these scans carries a class.
        DataError: a scan cannot be read and may not be skipped.
    """
    bad_scans = bad_scans or BadScans("fail", len(scan_ids))
    num_classes = source.info.label_map.num_classes
    counts = np.zeros(256, dtype=np.int64)
    chosen = scan_ids[:: -(-len(scan_ids) // most)]
    with Progress("counting classes", len(chosen), "scan") as progress:
        for scan_id in chosen:
            scan = bad_scans.read(source, scan_id)
            if scan is not None:
                assert scan.labels is not None
                counts += np.bincount(scan.labels, minlength=256)
            progress.update()
    counts = counts[:num_classes]
    if counts.sum() == 0:
        raise ConfigError(
            f"none of the {len(scan_ids)} labelled scans has a labelled point; "
            "choose other scans to label"
        )
    names = source.info.label_map.names
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        _log.warning(
            "none of the %d labelled scans that were read holds a point of %s: the network cannot "
            "learn what it looks like; label more scans, or others (--labels, --seed)",
            len(chosen),
            ", ".join(absent),
        )
    frequencies: np.ndarray = counts / counts.sum()
    return frequencies
