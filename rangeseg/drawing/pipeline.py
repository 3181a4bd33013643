"""Draw the pipeline: one scan, its range image, its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.drawing.colours import (
    EMPTY,
    class_legend,
    intensity_colours,
    label_colours,
    missed_colours,
    range_colours,
)
from rangeseg.drawing.sheets import Panel, enlarge, save_picture, sheet
from rangeseg.engine.inference import Prediction
from rangeseg.geometry.channels import to_image

WIDTH, HEIGHT = 1024, 280
PIXELS_PER_M = 11
"""Scale of the top views: they show 93 m along the driving direction."""


def draw_pipeline(path: Path, prediction: Prediction, label_map: LabelMap) -> None:
    """Draw a labelled scan as points, as an image, as classes of pixels, and as points again.

    Args:
        path: a PNG.
        prediction: prediction of a labelled scan.
        label_map: names and colours of the classes.

    Raises:
        ConfigError: the file cannot be written.
    """
    scan, projection = prediction.scan, prediction.projection.front
    pixels = to_image(prediction.raw, projection.point_index, IGNORE)
    assert scan.labels is not None
    colours = label_map.colours
    everywhere = np.ones(len(scan.points), dtype=bool)
    depth = to_image(projection.depth, projection.point_index, 0.0)

    def above(point_colours: np.ndarray) -> np.ndarray:
        return from_above(scan.points, point_colours, HEIGHT, WIDTH)

    def unrolled(pixel_colours: np.ndarray) -> np.ndarray:
        return enlarge(pixel_colours, WIDTH)

    measured = intensity_colours(scan.points[:, 3], everywhere)
    missed = missed_colours(prediction.points, scan.labels, everywhere, colours)
    rows, columns = projection.valid.shape
    right = (prediction.points == scan.labels)[scan.labels != IGNORE].mean()
    panels = [
        Panel(f"1  a scan from above: {len(scan.points):,} points (intensity)", above(measured)),
        Panel(f"2  unrolled to {rows} x {columns} pixels, the nearest point of each (range)",
              unrolled(range_colours(depth, projection.valid))),
        Panel("3  the network's class for every pixel",
              unrolled(label_colours(pixels, projection.valid, colours))),
        Panel("4  projected back onto every point: its class",
              above(label_colours(prediction.points, everywhere, colours))),
        Panel(f"5  against the truth: {100 * right:.0f} % of the points right (grey); where wrong, "
              "the true class", above(missed)),
    ]  # fmt: skip
    shown = np.union1d(prediction.points, scan.labels)
    legend = class_legend(shown, label_map.names, colours)
    save_picture(path, sheet(f"The way of a scan: {scan.scan_id}", panels, legend))


def from_above(points: np.ndarray, colours: np.ndarray, height: int, width: int) -> np.ndarray:
    """Draw points from above; the sensor is in the middle and drives to the right.

    Args:
        points: (N,4).
        colours: (N,3) uint8.
        height: height of the picture in pixels; PIXELS_PER_M are a metre.
        width: width of the picture in pixels.

    Returns:
        (height,width,3) uint8; the highest of points above each other is visible.
    """
    picture = np.tile(EMPTY, (height, width, 1))
    upward = np.argsort(points[:, 2], kind="stable")  # NaN comes last and falls outside the picture
    with np.errstate(invalid="ignore"):
        column = np.floor(width / 2 + PIXELS_PER_M * points[upward, 0])
        row = np.floor(height / 2 - PIXELS_PER_M * points[upward, 1])
        inside = (column >= 0) & (column < width - 1) & (row >= 0) & (row < height - 1)
    column, row = column[inside].astype(np.int64), row[inside].astype(np.int64)
    for down in (0, 1):
        for across in (0, 1):
            picture[row + down, column + across] = colours[upward][inside]
    return picture
