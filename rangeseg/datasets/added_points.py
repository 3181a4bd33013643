"""Points added to a training scan: in gaps of its rows, or objects from another scan.

Reference:
    Xu et al. 2025, "FRNet: Frustum-Range Networks for Scalable LiDAR Segmentation": its official
    code's RangeInterpolation and InstanceCopy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import unknown_name
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.projection import Projection, add_points
from rangeseg.geometry.regions import connected_regions


class ProjectedScan(NamedTuple):
    """A scan and its projection in training.

    Attributes:
        points: (N,4) float32.
        labels: (N,) uint8, or None for an unlabelled scan.
        projection: where the points fall.
    """

    points: np.ndarray
    labels: np.ndarray | None
    projection: Projection


class AddedPoints(NamedTuple):
    """Points and the pixels they fall on.

    Attributes:
        points: (M,4) float32.
        labels: (M,) uint8, or None for those of an unlabelled scan.
        row: (M,) int32.
        col: (M,) int32.
    """

    points: np.ndarray
    labels: np.ndarray | None
    row: np.ndarray
    col: np.ndarray


def add(scan: ProjectedScan, added: AddedPoints) -> ProjectedScan:
    """Add points to a scan; each pixel shows its nearest point."""
    depth = np.linalg.norm(added.points[:, :3], axis=1)
    labels = scan.labels
    if labels is not None:
        assert added.labels is not None
        labels = np.concatenate([labels, added.labels])
    return ProjectedScan(
        np.concatenate([scan.points, added.points]),
        labels,
        add_points(scan.projection, added.row, added.col, depth),
    )


def gap_points(scan: ProjectedScan, fine: Projection) -> AddedPoints:
    """Make a point for each empty pixel between two filled ones: their mean.

    Its label is theirs where they agree, else IGNORE.

    Args:
        scan: the points of the projection.
        fine: projection of the same points to an image wider by a whole factor.

    Reference:
        RangeInterpolation. Departures:

        1. Place. Official: the mean is projected like any point, perhaps onto one of the two
           pixels. Ours: it falls into the gap. Why: rows may be beams, and the gap must be filled.
        2. Seam. Official: the first and the last column are no neighbours. Ours: in a full turn
           they are. Why: they are on the sensor.
        3. Testing. Official: also before testing. Ours: in training alone. Why: exported networks
           and other predictors would have to fill gaps alike.
        4. Order. Official: after mixing and copying. Ours: before, in each scan. Why: a mean of two
           scans belongs to neither.
    """
    owners = fine.point_index
    left, right = np.roll(owners, 1, axis=1), np.roll(owners, -1, axis=1)
    gaps = (owners < 0) & (left >= 0) & (right >= 0)
    if not fine.full_turn:
        gaps[:, [0, -1]] = False
    places = np.flatnonzero(gaps)
    row, col = np.divmod(places, owners.shape[1])
    one, other = left.take(places), right.take(places)
    labels = scan.labels
    if labels is not None:
        labels = np.where(labels[one] == labels[other], labels[one], np.uint8(IGNORE))
    widths = scan.projection.point_index.shape[-1], owners.shape[-1]
    return AddedPoints(
        (scan.points[one] + scan.points[other]) / np.float32(2.0),
        labels,
        row.astype(np.int32),
        (col * widths[0] // widths[1]).astype(np.int32),
    )


def copied_classes(augmentation: AugmentationSettings, names: tuple[str, ...]) -> list[int]:
    """The train ids of the classes whose objects are copied.

    Args:
        augmentation: settings that name the classes.
        names: names of all classes, in the order of the train ids.

    Raises:
        ConfigError: it names another class.
    """
    for name in augmentation.instance_copy:
        if name not in names:
            raise unknown_name("class in train.augmentation.instance_copy:", name, names)
    return [names.index(name) for name in augmentation.instance_copy]


def objects_of(
    scan: ProjectedScan, classes: list[int], view_deg: float, rng: np.random.Generator | None
) -> AddedPoints:
    """Cut out the objects of some classes, each rotated about the vertical by a random angle.

    An angle is a whole number of columns: an object keeps its distance, beams and pixel pattern. In
    a view of less than a turn it leaves on one side and enters on the other.

    Args:
        scan: a labelled one.
        classes: train ids.
        view_deg: horizontal view of the image.
        rng: draws the angles; None leaves objects where they are.

    Reference:
        InstanceCopy. Departures:

        1. Objects. Official: all points of the classes in another scan turn together. Ours: each
           connected region of a class turns by itself. Why: more arrangements of few objects.
        2. Depth. Official: all points stay. Ours: the nearest of a pixel show. Why: hidden points
           return no echo.
    """
    assert scan.labels is not None
    row, col = scan.projection.row, scan.projection.col
    shown = to_image(scan.labels, scan.projection.front.point_index, IGNORE)
    wanted = np.zeros(256, dtype=bool)
    wanted[classes] = True
    regions = connected_regions(
        np.where(wanted[shown], shown.astype(np.int16), -1), scan.projection.full_turn
    )
    chosen = np.flatnonzero(wanted[scan.labels] & (row >= 0))
    # A point behind one of another class has no region.
    chosen = chosen[scan.labels[chosen] == shown[row[chosen], col[chosen]]]
    row, col = row[chosen], col[chosen]
    points = scan.points[chosen]
    if rng is not None:
        width = shown.shape[1]
        steps = rng.integers(width, size=regions.max() + 1)[regions[row, col]]
        turned = ((col + steps) % width).astype(np.int32)
        angle = math.radians(view_deg) * (col - turned) / width  # azimuth falls to the right
        place = (points[:, 0] + 1j * points[:, 1]) * np.exp(1j * angle)
        points[:, 0], points[:, 1] = place.real, place.imag
        col = turned
    return AddedPoints(points, scan.labels[chosen], row, col)
