"""Colour the points of a scan by a mode, and explain the colours."""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.drawing.colours import (
    RIGHT,
    UNSURE,
    Legend,
    class_legend,
    confidence_colours,
    confidence_legend,
    intensity_colours,
    intensity_legend,
    label_colours,
    missed_colours,
    range_colours,
    range_legend,
)
from rangeseg.errors import ConfigError, unknown_name
from rangeseg.viewer.scans import ScanView, ScanViews

PROPAGATED_MODES = ("propagated", "propagated_error")
MODES = (
    "truth", "prediction", "error", "intensity", "range", "confidence", "coverage",
    *PROPAGATED_MODES,
)  # fmt: skip
"""The modes, in the order of the keys 1 to 9."""

IGNORED = np.array([54, 50, 48], dtype=np.uint8)
"""Colour of points of ignored classes: darker than RIGHT, brighter than the background."""


def check_mode(mode: str, views: ScanViews) -> str:
    """Check that these scans have the data of a mode, and return it.

    Raises:
        ConfigError: an unknown mode, or one that needs predictions, confidences or propagated
            labels.
    """
    if mode not in MODES:
        raise unknown_name("colour mode", mode, MODES)
    if mode in PROPAGATED_MODES and not views.given:
        raise ConfigError(
            f"mode '{mode}' needs propagated labels, and {views.title} has none for these scans: "
            "give a folder from `rangeseg-data propagate`, or a run with "
            "train.propagation.reach and --split train"
        )
    if mode in ("prediction", "error", "confidence", "coverage") and not views.predicted:
        other = "; of propagated labels it is 'propagated_error'" if views.given else ""
        raise ConfigError(
            f"mode '{mode}' needs predictions, and {views.title} has none: give a run, a folder "
            f"of predictions, or --predictions DIR{other if mode == 'error' else ''}"
        )
    if mode == "confidence" and not views.confident:
        raise ConfigError(
            f"mode 'confidence' needs {views.title}/confidence: predict with --confidence, or "
            "give the run itself"
        )
    return mode


def first_mode(views: ScanViews) -> str:
    """The initial mode: predictions if any, then propagated labels, then truth."""
    if views.predicted:
        return "prediction"
    return "propagated" if views.given else "truth"


def side_modes(mode: str, views: ScanViews) -> list[str]:
    """Truth, and the mode shown next to it.

    Raises:
        ConfigError: the scans have neither predictions nor propagated labels.
    """
    first = first_mode(views)
    if first == "truth":
        check_mode("prediction", views)
    return ["truth", first if mode == "truth" else mode]


def shown_mode(mode: str, view: ScanView) -> str:
    """The mode, or ``range`` if this scan lacks the mode's data."""
    return "range" if _missing(mode, view) else mode


def _missing(mode: str, view: ScanView) -> str | None:
    """The missing data of this scan for a mode, in words; None if complete."""
    if mode in PROPAGATED_MODES and view.propagated is None:
        return "no propagated labels"
    if mode in ("truth", "error", "propagated_error") and view.scan.labels is None:
        return "no labels"
    if mode in ("prediction", "error") and view.prediction is None:
        return "no predictions"
    if mode == "confidence" and view.confidence is None:
        return "no confidences"
    if mode == "coverage" and view.covered is None:
        return "no confidences or pseudo-labels"
    return None


def point_colours(mode: str, view: ScanView, label_map: LabelMap) -> np.ndarray:
    """Colours (N,3) uint8 of the points; class colours are exactly the data set's.

    Args:
        mode: result of ``shown_mode`` for this scan.
        view: the scan.
        label_map: of the data set.
    """
    points, labels, prediction = view.scan.points, view.scan.labels, view.prediction
    everywhere = np.ones(len(points), dtype=bool)
    if mode == "intensity":
        return intensity_colours(points[:, 3], everywhere)
    if mode == "range":
        return range_colours(np.linalg.norm(points[:, :3], axis=1), everywhere)
    if mode == "confidence":
        assert view.confidence is not None
        return confidence_colours(view.confidence, everywhere)
    classes = label_map.colours
    if mode == "truth":
        assert labels is not None
        colours, ignored = label_colours(labels, everywhere, classes), labels == IGNORE
    elif mode == "prediction":
        assert prediction is not None
        colours, ignored = label_colours(prediction, everywhere, classes), prediction == IGNORE
    elif mode in ("error", "propagated_error"):
        compared = prediction if mode == "error" else view.propagated
        assert labels is not None
        assert compared is not None
        colours = missed_colours(compared, labels, everywhere, classes)
        ignored = (labels == IGNORE) | (compared == IGNORE)
    elif mode == "propagated":
        assert view.propagated is not None
        colours = label_colours(view.propagated, everywhere, classes)
        return np.where((view.propagated == IGNORE)[:, None], UNSURE, colours)
    else:
        assert prediction is not None
        assert view.covered is not None
        colours = label_colours(prediction, everywhere, classes)
        return np.where(view.covered[:, None], colours, UNSURE)
    return np.where(ignored[:, None], IGNORED, colours)


def visible_points(view: ScanView, hide_ignored: bool) -> np.ndarray:
    """(N,) bool: points with a position and, if requested, without an ignored true class."""
    x, y, z = view.scan.points[:, :3].T  # column by column: ten times as fast as along the rows
    visible: np.ndarray = np.isfinite(x + y + z) & ((x != 0) | (y != 0) | (z != 0))
    if hide_ignored and view.scan.labels is not None:
        visible &= view.scan.labels != IGNORE
    return visible


def mode_legend(
    mode: str, view: ScanView, label_map: LabelMap, all_classes: bool = False
) -> Legend:
    """Legend of ``point_colours``, with the present classes or all."""
    if mode == "intensity":
        return intensity_legend()
    if mode == "range":
        return range_legend()
    if mode == "confidence":
        return confidence_legend()
    labels, prediction, covered = view.scan.labels, view.prediction, view.covered
    shown, marks, ignored = np.empty(0, dtype=np.uint8), [], ("ignored", IGNORED)
    if mode == "truth" and labels is not None:
        shown, marks = labels, [ignored] if all_classes or (labels == IGNORE).any() else []
    elif mode == "prediction" and prediction is not None:
        withheld = all_classes or (prediction == IGNORE).any()
        shown, marks = prediction, [("no prediction", IGNORED)] if withheld else []
    elif mode == "error" and labels is not None and prediction is not None:
        withheld = prediction == IGNORE
        shown = labels[(labels != prediction) & ~withheld]
        dark = "ignored / no prediction" if withheld.any() else "ignored"
        marks = [("right", RIGHT), (dark, IGNORED)]
    elif mode == "coverage" and prediction is not None and covered is not None:
        shown, marks = prediction[covered], [("not covered", UNSURE)]
    elif mode == "propagated" and view.propagated is not None:
        shown, marks = view.propagated, [("not covered", UNSURE)]
    elif mode == "propagated_error" and view.propagated is not None and labels is not None:
        shown = labels[(labels != view.propagated) & (view.propagated != IGNORE)]
        marks = [("right", RIGHT), ("ignored / not covered", IGNORED)]
    if all_classes:
        shown = np.arange(label_map.num_classes, dtype=np.uint8)
    there = np.flatnonzero(np.bincount(shown))  # ten times as fast as unique()
    return [*class_legend(there, label_map.names, label_map.colours), *marks]


def describe(mode: str, view: ScanView) -> str:
    """Describe the scan, the mode and their metrics in one line.

    Args:
        mode: one of MODES, not necessarily shown.
        view: the scan.
    """
    lacks = _missing(mode, view)
    if lacks:
        return f"{view.scan.scan_id} · range ({mode}: {lacks})"
    parts = [view.scan.scan_id, mode]
    if mode in PROPAGATED_MODES:
        parts += [sources_text(view), propagated_shares(view)]
    elif view.miou is not None:
        parts.append(judgement(view))
    if mode == "coverage" and view.covered is not None:
        parts.append(_coverage(view))
    if mode == "error":
        parts.append("wrong points in the colour of their true class")
    return " · ".join(parts)


def judgement(view: ScanView) -> str:
    """Describe the mIoU of a scan, if any, and the points it counts."""
    assert view.miou is not None
    part = "this scan" if view.judged == 1 else f"the {100 * view.judged:.0f} % with a prediction"
    return f"mIoU {view.miou:.1f} of {part}"


def _coverage(view: ScanView) -> str:
    assert view.covered is not None
    text = f"{100 * view.covered.mean():.0f} % covered"
    labels = view.scan.labels
    if labels is not None:
        known = view.covered & (labels != IGNORE)
        if known.any():
            text += f", {100 * (labels == view.prediction)[known].mean():.0f} % of it right"
    return text


def sources_text(view: ScanView, longest: int = 20) -> str:
    """The labelled scans that propagated labels come from, the nearest first.

    Args:
        view: a scan with propagated labels.
        longest: largest number of characters for the ids; at least one id is named.
    """
    count = len(view.sources)
    while count > 1 and len(", ".join(view.sources[:count])) > longest:
        count -= 1
    more = len(view.sources) - count
    return f"labels from {', '.join(view.sources[:count])}" + (f" and {more} more" if more else "")


def propagated_shares(view: ScanView) -> str:
    """Describe the share of points with a propagated label, and its accuracy.

    If truth exists, only points of a known class count, as in `rangeseg-data propagate --verify`.
    """
    assert view.propagated is not None
    labels, covered = view.scan.labels, view.propagated != IGNORE
    counted = visible_points(view, hide_ignored=True)
    if not counted.any():
        return "0 % covered"
    text = f"{100 * covered[counted].mean():.0f} % covered"
    covered &= counted
    if labels is not None and covered.any():
        text += f", {100 * (labels == view.propagated)[covered].mean():.1f} % of it right"
    return text
