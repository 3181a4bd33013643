"""Training crops: windows of columns of a range image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rangeseg.datasets.labels import IGNORE
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.projection import Projection


def first_column(projection: Projection, width: int, window: float) -> int:
    """First column of a crop: any column of a full turn, else one that keeps it within the image.

    Args:
        projection: of the whole image.
        width: of the crop, in columns.
        window: position as a share [0,1) of the possible columns.
    """
    columns = projection.point_index.shape[-1]
    return int(window * (columns if projection.full_turn else columns - width + 1))


def labelled_column(
    projection: Projection, labels: np.ndarray, width: int, first: int, rng: np.random.Generator
) -> int:
    """First column of a crop with a labelled pixel, so that a step learns from it.

    Args:
        projection: of the whole image.
        labels: (N,) uint8 labels of the points.
        width: of the crop, in columns.
        first: first column before the move.
        rng: draws a labelled pixel and its place in the crop.

    Returns:
        ``first`` if the crop already holds a label, or the image holds none. A full turn may
        begin left of its column 0.
    """
    if _labelled(labels, _columns(projection, first, width)).any():
        return first
    places = np.nonzero(_labelled(labels, projection.point_index))[-1]
    if not len(places):
        return first
    moved = int(rng.choice(places)) - int(rng.integers(width))
    if projection.full_turn:
        return moved
    return min(max(moved, 0), projection.point_index.shape[-1] - width)


def crop(projection: Projection, width: int, first: int) -> Projection:
    """Cut the columns of a crop, and one more on the left, the neighbour of the first.

    Args:
        projection: of the whole image; rows, columns and distances stay those of its points.
        width: of the crop, in columns.
        first: first column.
    """
    shown = _columns(projection, first - 1, width + 1)
    if first == 0 and not projection.full_turn:
        shown[..., 0] = -1
    return replace(projection, point_index=shown)


def _columns(projection: Projection, first: int, width: int) -> np.ndarray:
    return projection.point_index.take(first + np.arange(width), axis=-1, mode="wrap")


def _labelled(labels: np.ndarray, point_index: np.ndarray) -> np.ndarray:
    """(H,W) or (k,H,W) bool: pixels whose point has a label."""
    labelled: np.ndarray = to_image(labels, point_index, IGNORE) != IGNORE
    return labelled
