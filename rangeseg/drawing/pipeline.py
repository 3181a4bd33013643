"""The way of one scan through the toolkit, as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.base import DatasetInfo
from rangeseg.datasets.labels import IGNORE
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
"""Of the views from above: 93 m along the way that the sensor looks."""


def draw_journey(path: Path, prediction: Prediction, info: DatasetInfo) -> None:
    """Draw a labelled scan as points, as an image, as the network sees it, and as points again.

    Args:
        path: a PNG.
        prediction: of the scan, which has labels.
        info: the data set.

    Raises:
        ConfigError: the file cannot be written.
    """
    scan, projection = prediction.scan, prediction.projection
    assert scan.labels is not None
    colours = info.label_map.colours
    everywhere = np.ones(len(scan.points), dtype=bool)
    depth = to_image(projection.depth, projection.point_index, 0.0)
    image = range_colours(depth, projection.valid)
    pixels = label_colours(prediction.pixels, projection.valid, colours)

    def above(point_colours: np.ndarray) -> np.ndarray:
        return from_above(scan.points, point_colours, HEIGHT, WIDTH)

    measured = intensity_colours(scan.points[:, 3], everywhere)
    predicted = label_colours(prediction.points, everywhere, colours)
    missed = missed_colours(prediction.points, scan.labels, everywhere, colours)
    rows, columns = projection.valid.shape
    right = (prediction.points == scan.labels)[scan.labels != IGNORE].mean()
    panels = [
        Panel(f"1  a scan from above: {len(scan.points):,} points (intensity)", above(measured)),
        Panel(f"2  unrolled to {rows} x {columns} pixels, the nearest point of each (range)",
              enlarge(image, WIDTH)),
        Panel("3  the network's class for every pixel", enlarge(pixels, WIDTH)),
        Panel("4  taken back to every point: its class", above(predicted)),
        Panel(f"5  against the truth: {100 * right:.0f} % of the points right (grey); where wrong, "
              "the true class", above(missed)),
    ]  # fmt: skip
    shown = np.union1d(prediction.points, scan.labels)
    legend = class_legend(shown, info.label_map.names, np.asarray(colours))
    save_picture(path, sheet(f"The way of a scan: {scan.scan_id}", panels, legend))


def from_above(points: np.ndarray, colours: np.ndarray, height: int, width: int) -> np.ndarray:
    """Points seen from above, the sensor in the middle, looking to the right.

    Args:
        points: (N,4).
        colours: (N,3) uint8.
        height: pixels; PIXELS_PER_M are a metre.
        width: pixels.

    Returns:
        (height,width,3) uint8; where points lie above each other the highest is seen.
    """
    picture = np.tile(EMPTY, (height, width, 1))
    upward = np.argsort(points[:, 2], kind="stable")  # NaN comes last, and is out of the picture
    with np.errstate(invalid="ignore"):
        column = np.floor(width / 2 + PIXELS_PER_M * points[upward, 0])
        row = np.floor(height / 2 - PIXELS_PER_M * points[upward, 1])
        inside = (column >= 0) & (column < width - 1) & (row >= 0) & (row < height - 1)
    column, row = column[inside].astype(np.int64), row[inside].astype(np.int64)
    for down in (0, 1):
        for across in (0, 1):
            picture[row + down, column + across] = colours[upward][inside]
    return picture
