"""One picture of a prediction beside the truth, as range images."""

from __future__ import annotations

import numpy as np

from rangeseg.colours import (
    EMPTY,
    RIGHT,
    class_legend,
    label_colours,
    missed_colours,
    range_colours,
)
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.engine.inference import Prediction
from rangeseg.geometry.channels import to_image
from rangeseg.pictures import Panel, enlarge, sheet

_WIDTH = 1280  # pixels


def prediction_panel(prediction: Prediction, label_map: LabelMap) -> np.ndarray:
    """Range, truth, prediction and error of a scan below each other.

    Args:
        prediction: of a scan that was read with its labels.
        label_map: names and colours of the classes.

    Returns:
        (H,W,3) uint8.
    """
    scan, projection = prediction.scan, prediction.projection
    assert scan.labels is not None
    index, valid = projection.point_index, projection.valid
    depth = to_image(projection.depth, index, 0.0)
    truth, found = (to_image(each, index, IGNORE) for each in (scan.labels, prediction.points))
    panels = [
        Panel("range (bright is near)", range_colours(depth, valid)),
        Panel("truth", label_colours(truth, valid, label_map.colours)),
        Panel("prediction", label_colours(found, valid, label_map.colours)),
        Panel("error: wrong pixels in the colour of their true class",
              missed_colours(found, truth, valid, label_map.colours)),
    ]  # fmt: skip
    shown = np.union1d(truth[valid], found[valid])
    legend = [
        *class_legend(shown, label_map.names, label_map.colours),
        ("right", RIGHT),
        ("no echo / ignored", EMPTY),
    ]
    large = [Panel(panel.title, enlarge(panel.image, _WIDTH)) for panel in panels]
    return sheet(scan.scan_id, large, legend)
