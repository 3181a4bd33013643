"""Values as colours, and what the colours mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rangeseg.datasets.labels import IGNORE

EMPTY = np.array([20, 20, 24], dtype=np.uint8)
"""Colour of pixels without an echo, of ignored ones, and of the space around a point cloud."""

WRONG = np.array([230, 60, 50], dtype=np.uint8)
RIGHT = np.array([96, 93, 90], dtype=np.uint8)  # not slate, which is nuScenes' barrier
UNSURE = np.array([84, 66, 60], dtype=np.uint8)
"""Colour of predictions below a threshold."""

NEAREST_M, FARTHEST_M = 2.5, 60.0
"""Ends of the scale of ranges."""

Legend = Sequence[tuple[str, np.ndarray]]
"""What each colour (3,) uint8 means."""


def range_colours(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Ranges in metres as colours on a log scale: bright is near.

    Args:
        depth: any shape.
        valid: the same shape, bool; elsewhere the colour is EMPTY.

    Returns:
        One more axis of 3, uint8.
    """
    reach = np.log(np.clip(depth, NEAREST_M, FARTHEST_M) / NEAREST_M)
    # Not the darkest colours, which could not be told from EMPTY.
    return _scale("viridis", 1.0 - 0.9 * reach / np.log(FARTHEST_M / NEAREST_M), valid)


def intensity_colours(intensity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Intensities in [0,1] as colours; their root, since most echoes are weak."""
    return _scale("bone", 0.15 + 0.85 * np.sqrt(np.clip(intensity, 0.0, 1.0)), valid)


def confidence_colours(confidence: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Probabilities as colours: dark blue is a guess, yellow is certain."""
    return _scale("plasma", confidence, valid)


def label_colours(labels: np.ndarray, valid: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Train ids as colours of their classes.

    Args:
        labels: any shape, uint8; IGNORE becomes EMPTY.
        valid: the same shape, bool; elsewhere the colour is EMPTY.
        colours: (K,3) uint8.
    """
    found: np.ndarray = _table(colours)[np.where(valid, labels, IGNORE)]
    return found


def error_colours(prediction: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where a prediction is wrong (red), right (grey), or the truth is ignored (dark)."""
    colours = np.where((prediction != labels)[..., None], WRONG, RIGHT)
    known = valid & (labels != IGNORE)
    return np.where(known[..., None], colours, EMPTY).astype(np.uint8)


def missed_colours(
    prediction: np.ndarray, labels: np.ndarray, valid: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Grey where a prediction is right; elsewhere the colour of the class that was missed."""
    right = (prediction == labels) & (labels != IGNORE)
    table = _table(colours)
    table[_IS_RIGHT] = RIGHT
    found: np.ndarray = table[np.where(valid, np.where(right, _IS_RIGHT, labels), IGNORE)]
    return found


_IS_RIGHT = np.uint8(IGNORE - 1)  # no class: there are fewer


def _table(colours: np.ndarray) -> np.ndarray:
    """(256,3) uint8 by train id: a single look is three times as fast as choices by pixel."""
    table = np.tile(EMPTY, (256, 1))
    table[: len(colours)] = colours
    return table


def range_legend() -> Legend:
    """Some ranges and their colours."""
    metres = np.array([2.5, 5, 10, 20, 40, 60])
    colours = range_colours(metres, np.ones(len(metres), dtype=bool))
    return [(f"{m:g} m", c) for m, c in zip(metres, colours, strict=True)]


def intensity_legend() -> Legend:
    """Some intensities and their colours."""
    values = np.array([0.0, 0.1, 0.25, 0.5, 1.0])
    colours = intensity_colours(values, np.ones(len(values), dtype=bool))
    return [(f"{v:g}", c) for v, c in zip(values, colours, strict=True)]


def confidence_legend() -> Legend:
    """Some confidences and their colours."""
    values = np.array([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
    colours = confidence_colours(values, np.ones(len(values), dtype=bool))
    return [(f"{v:.0%}".replace("%", " %"), c) for v, c in zip(values, colours, strict=True)]


def class_legend(classes: Iterable[int], names: Sequence[str], colours: np.ndarray) -> Legend:
    """Names and colours of the given classes, IGNORE left out."""
    return [(names[c], colours[c]) for c in sorted(set(map(int, classes)) - {IGNORE})]


def _scale(name: str, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Values in [0,1] in the colours of one of matplotlib's maps; EMPTY where not valid."""
    import matplotlib

    colours = (matplotlib.colormaps[name](values)[..., :3] * 255).astype(np.uint8)
    return np.where(valid[..., None], colours, EMPTY)
