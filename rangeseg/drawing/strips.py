"""Draw a scan and its predictions as range images below each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.drawing.colours import (
    EMPTY,
    RIGHT,
    UNSURE,
    class_legend,
    confidence_colours,
    intensity_colours,
    label_colours,
    missed_colours,
    range_colours,
)
from rangeseg.drawing.sheets import Panel, enlarge, sheet
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.projection import Projection

_WIDTH = 1280  # pixels


def range_panels(
    title: str,
    scan: Scan,
    projection: Projection,
    label_map: LabelMap,
    predictions: Mapping[str, np.ndarray],
    confidence: np.ndarray | None = None,
    propagated: tuple[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Draw range and intensity, and if known truth, labels, predictions with errors, confidence.

    Layers each show their ranges; everything else shows each pixel's nearest point.

    Args:
        title: title of the picture.
        scan: scan with its labels, if any.
        projection: projection of its points.
        label_map: names and colours of the classes.
        predictions: title of a strip -> (N,) uint8 classes of the points, IGNORE where withheld.
        confidence: (N,) float32 probabilities of the prediction.
        propagated: title of a strip, and (N,) uint8 labels from other scans, IGNORE where unknown.

    Returns:
        (H,W,3) uint8.
    """
    behind = _layer_panels(projection)
    projection = projection.front
    index, valid, colours = projection.point_index, projection.valid, label_map.colours
    depth, intensity = (to_image(v, index, 0.0) for v in (projection.depth, scan.points[:, 3]))
    truth = None if scan.labels is None else to_image(scan.labels, index, IGNORE)
    found = {name: to_image(points, index, IGNORE) for name, points in predictions.items()}
    panels = [
        Panel("range (bright is near; the scan unrolled, +x in the middle)",
              range_colours(depth, valid)),
        *behind,
        Panel("intensity", intensity_colours(intensity, valid)),
    ]  # fmt: skip
    if truth is not None:
        panels.append(Panel("truth", label_colours(truth, valid, colours)))
    given = None
    if propagated is not None:
        given = to_image(propagated[1], index, IGNORE)
        panels += _given_panels(propagated[0], given, truth, valid, colours)
    for name, image in found.items():
        panels.append(Panel(name, label_colours(image, valid, colours)))
        if truth is not None:
            wrong = missed_colours(image, truth, valid & (image != IGNORE), colours)
            panels.append(Panel("error: wrong pixels in the colour of their true class", wrong))
    if confidence is not None:
        certain = confidence_colours(to_image(confidence, index, 0.0), valid)
        panels.append(Panel("confidence (dark blue is a guess, yellow is certain)", certain))
    images = [image for image in (truth, given, *found.values()) if image is not None]
    withheld = any((image[valid] == IGNORE).any() for image in found.values())
    marks = [("no echo / ignored / no prediction" if withheld else "no echo / ignored", EMPTY)]
    if given is not None:
        marks.insert(0, ("no propagated label", UNSURE))
    if (found or given is not None) and truth is not None:
        marks.insert(0, ("right", RIGHT))
    classes = {int(c) for image in images for c in np.unique(image[valid])}
    legend = [*class_legend(classes, label_map.names, colours), *marks]
    return sheet(title, [Panel(p.title, enlarge(p.image, _WIDTH)) for p in panels], legend)


def _layer_panels(projection: Projection) -> list[Panel]:
    """Draw the ranges of each layer after the first, up to the last with a point."""
    if projection.point_index.ndim == 2:
        return []
    return [
        Panel(
            f"range of layer {number}: a further point of {100 * (index >= 0).mean():.0f} % of the "
            "pixels, behind those above",
            range_colours(to_image(projection.depth, index, 0.0), index >= 0),
        )
        for number, index in enumerate(projection.point_index[1:], 2)
        if (index >= 0).any()
    ]


def _given_panels(
    title: str,
    labels: np.ndarray,
    truth: np.ndarray | None,
    valid: np.ndarray,
    colours: np.ndarray,
) -> list[Panel]:
    """Draw propagated labels (H,W) and, with truth (H,W), their errors."""
    unknown = (valid & (labels == IGNORE))[..., None]
    panels = [Panel(title, np.where(unknown, UNSURE, label_colours(labels, valid, colours)))]
    if truth is not None:
        wrong = np.where(unknown, UNSURE, missed_colours(labels, truth, valid, colours))
        panels.append(
            Panel("error of the propagated labels, in the colour of the true class", wrong)
        )
    return panels
