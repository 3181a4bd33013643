"""Draw a training batch: for each image of the student its input and targets."""

from __future__ import annotations

import colorsys

import numpy as np

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.drawing.colours import (
    EMPTY,
    RIGHT,
    UNSURE,
    Legend,
    class_legend,
    confidence_colours,
    confidence_legend,
    label_colours,
    range_colours,
)
from rangeseg.drawing.sheets import Panel, enlarge, sheet
from rangeseg.viewer.batch import Kind, StudentBatch

NARROW = 640
"""Images up to this width are drawn four per row, one row for each image of the batch."""


def batch_sheet(batch: StudentBatch, title: str, label_map: LabelMap) -> np.ndarray:
    """Draw the picture (H,W,3) uint8 of a batch.

    Args:
        batch: the student's batch.
        title: title of the picture.
        label_map: label map of the data set.
    """
    kinds = [kind for _, kind in batch.scans]
    colours = _scan_colours(kinds)
    labelled = np.array([False, *[kind != "unlabelled" for kind in kinds]])
    propagated = np.array([False, *[kind == "propagated" for kind in kinds]])
    panels = []
    for number in range(len(batch.origin)):
        origin = batch.origin[number]
        valid, truth = origin > 0, labelled[origin]
        taught = label_colours(batch.taught[number], valid, label_map.colours)
        unknown = propagated[origin] & (batch.taught[number] == IGNORE)
        unsure = valid & ~truth & (batch.confidence[number] < batch.threshold) | unknown
        sure = confidence_colours(batch.confidence[number], valid)
        pictures = {
            "sees (range)": range_colours(batch.depth[number], valid),
            "from which scan": colours[origin],
            "is taught": np.where(unsure[..., None], UNSURE, taught),
            "confidence": np.where(
                unknown[..., None], UNSURE, np.where((truth & valid)[..., None], RIGHT, sure)
            ),
        }
        panels += [Panel(f"{number + 1} · {what}", image) for what, image in pictures.items()]
    columns = 4 if panels[0].image.shape[1] <= NARROW else 1
    width = 400 if columns == 4 else 1280
    large = [Panel(panel.title, enlarge(panel.image, width)) for panel in panels]
    return sheet(title, large, _legend(batch, colours, label_map), columns)


def _legend(batch: StudentBatch, colours: np.ndarray, label_map: LabelMap) -> Legend:
    kinds = {kind for _, kind in batch.scans}
    scans: Legend = [
        (f"{kind} {scan_id}", colour)
        for (scan_id, kind), colour in zip(batch.scans, colours[1:], strict=True)
    ]
    dark = []
    if "unlabelled" in kinds and batch.threshold > 0:
        dark.append(f"prediction below confidence {batch.threshold:g}")
    if "propagated" in kinds:
        dark.append("no propagated label")
    marks = [("dropped / no echo / ignored", EMPTY)]
    marks += [(" / ".join(dark), UNSURE)] if dark else []
    known = "truth or propagated label" if "propagated" in kinds else "truth"
    marks.append((f"confidence: {known}", RIGHT))
    if "unlabelled" in kinds:
        marks += [(f"confidence {text}", colour) for text, colour in confidence_legend()]
    classes = np.unique(batch.taught[batch.taught != IGNORE])
    return [*scans, *class_legend(classes, label_map.names, label_map.colours), *marks]


_HUES: dict[Kind, tuple[float, float]] = {
    "labelled": (0.62, 0.40), "propagated": (0.86, 0.74), "unlabelled": (0.98, 1.14),
}  # fmt: skip
"""First and last hue of the scans of a kind: blue to green, magenta to violet, red to yellow."""


def _scan_colours(kinds: list[Kind]) -> np.ndarray:
    """(scans + 1, 3) uint8: EMPTY, then a colour for each scan by its kind."""
    colours = [EMPTY]
    for number, kind in enumerate(kinds):
        same = [i for i, other in enumerate(kinds) if other == kind]
        share = same.index(number) / max(1, len(same) - 1)
        first, last = _HUES[kind]
        rgb = colorsys.hsv_to_rgb((first + (last - first) * share) % 1.0, 0.75, 0.95)
        colours.append(np.array([round(255 * c) for c in rgb], dtype=np.uint8))
    return np.stack(colours)
