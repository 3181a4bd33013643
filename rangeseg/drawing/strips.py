"""Everything known of a scan as range images below each other."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.drawing.colours import (
    EMPTY,
    RIGHT,
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
    prediction: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    judgement: str = "",
) -> np.ndarray:
    """Range, intensity and, as far as they are known, truth, prediction, error and confidence.

    Args:
        title: of the picture.
        scan: with its labels, if it has any.
        projection: of its points.
        label_map: names and colours of the classes.
        prediction: (N,) uint8 classes of the points, IGNORE where withheld.
        confidence: (N,) float32 probabilities of these.
        judgement: of the prediction, e.g. its mIoU; stands in the title of its strip.

    Returns:
        (H,W,3) uint8.
    """
    index, valid = projection.point_index, projection.valid
    depth, intensity = (to_image(v, index, 0.0) for v in (projection.depth, scan.points[:, 3]))
    panels = [
        Panel("range (bright is near; the scan unrolled, +x in the middle)",
              range_colours(depth, valid)),
        Panel("intensity", intensity_colours(intensity, valid)),
    ]  # fmt: skip
    shown, marks = np.empty(0, dtype=np.uint8), [("no echo / ignored", EMPTY)]
    truth = found = None
    if scan.labels is not None:
        truth = to_image(scan.labels, index, IGNORE)
        panels.append(Panel("truth", label_colours(truth, valid, label_map.colours)))
        shown = np.append(shown, truth[valid])
    if prediction is not None:
        found = to_image(prediction, index, IGNORE)
        known = f" ({judgement})" if judgement else ""
        panels.append(Panel(f"prediction{known}", label_colours(found, valid, label_map.colours)))
        shown = np.append(shown, found[valid])
        if (found[valid] == IGNORE).any():
            marks = [("no echo / ignored / no prediction", EMPTY)]
    if truth is not None and found is not None:
        wrong = missed_colours(found, truth, valid & (found != IGNORE), label_map.colours)
        panels.append(Panel("error: wrong pixels in the colour of their true class", wrong))
        marks.insert(0, ("right", RIGHT))
    if confidence is not None:
        colours = confidence_colours(to_image(confidence, index, 0.0), valid)
        panels.append(Panel("confidence (dark blue is a guess, yellow is certain)", colours))
    legend = [*class_legend(np.unique(shown), label_map.names, label_map.colours), *marks]
    large = [Panel(panel.title, enlarge(panel.image, _WIDTH)) for panel in panels]
    return sheet(title, large, legend)
