"""A training batch as one picture: for each image of the student, what it sees and is taught."""

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
from rangeseg.viewer.batch import StudentBatch

NARROW = 640
"""Images up to this width stand four in a row: what is known of one image is one row."""


def batch_sheet(batch: StudentBatch, title: str, label_map: LabelMap) -> np.ndarray:
    """The picture (H,W,3) uint8 of a batch.

    Args:
        batch: what the student got.
        title: of the picture.
        label_map: of the data set.
    """
    colours = _scan_colours([labelled for _, labelled in batch.scans])
    labelled = np.array([False, *[labelled for _, labelled in batch.scans]])
    panels = []
    for number in range(len(batch.origin)):
        origin = batch.origin[number]
        valid, truth = origin > 0, labelled[origin]
        taught = label_colours(batch.taught[number], valid, label_map.colours)
        unsure = valid & ~truth & (batch.confidence[number] < batch.threshold)
        sure = confidence_colours(batch.confidence[number], valid)
        pictures = {
            "sees (range)": range_colours(batch.depth[number], valid),
            "from which scan": colours[origin],
            "is taught": np.where(unsure[..., None], UNSURE, taught),
            "confidence": np.where((truth & valid)[..., None], RIGHT, sure),
        }
        panels += [Panel(f"{number + 1} · {what}", image) for what, image in pictures.items()]
    columns = 4 if panels[0].image.shape[1] <= NARROW else 1
    width = 400 if columns == 4 else 1280
    large = [Panel(panel.title, enlarge(panel.image, width)) for panel in panels]
    return sheet(title, large, _legend(batch, colours, label_map), columns)


def _legend(batch: StudentBatch, colours: np.ndarray, label_map: LabelMap) -> Legend:
    scans: Legend = [
        (f"{'labelled' if labelled else 'unlabelled'} {scan_id}", colour)
        for (scan_id, labelled), colour in zip(batch.scans, colours[1:], strict=True)
    ]
    marks = [("dropped / no echo / ignored", EMPTY)]
    if all(labelled for _, labelled in batch.scans):
        marks.append(("confidence: truth", RIGHT))
    else:
        if batch.threshold > 0:
            marks.append((f"prediction below confidence {batch.threshold:g}", UNSURE))
        marks.append(("confidence: truth", RIGHT))
        marks += [(f"confidence {text}", colour) for text, colour in confidence_legend()]
    classes = np.unique(batch.taught[batch.taught != IGNORE])
    return [*scans, *class_legend(classes, label_map.names, label_map.colours), *marks]


def _scan_colours(labelled: list[bool]) -> np.ndarray:
    """(scans + 1, 3) uint8: EMPTY, then blues to greens if labelled, reds to yellows if not."""
    colours = [EMPTY]
    for number, kind in enumerate(labelled):
        same = [i for i, other in enumerate(labelled) if other is kind]
        share = same.index(number) / max(1, len(same) - 1)
        hue = 0.62 - 0.22 * share if kind else 0.98 + 0.16 * share
        rgb = colorsys.hsv_to_rgb(hue % 1.0, 0.75, 0.95)
        colours.append(np.array([round(255 * c) for c in rgb], dtype=np.uint8))
    return np.stack(colours)
