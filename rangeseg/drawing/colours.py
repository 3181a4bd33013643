"""Map values to colours, and make legends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rangeseg.datasets.labels import IGNORE

EMPTY = np.array([20, 20, 24], dtype=np.uint8)
"""Colour of pixels without an echo, of ignored ones, and of the background of a point cloud."""

RIGHT = np.array([96, 93, 90], dtype=np.uint8)  # not slate, which is nuScenes' barrier
UNSURE = np.array([84, 66, 60], dtype=np.uint8)
"""Colour of predictions below a threshold."""

NEAREST_M, FARTHEST_M = 2.5, 60.0
"""Ends of the colour scale of ranges."""

Legend = Sequence[tuple[str, np.ndarray]]
"""Pairs of a meaning and its colour (3,) uint8."""


def range_colours(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Colour ranges in metres on a log scale: bright is near.

    Args:
        depth: any shape.
        valid: the same shape, bool; elsewhere the colour is EMPTY.

    Returns:
        (..., 3) uint8.
    """
    reach = np.log(np.clip(depth, NEAREST_M, FARTHEST_M) / NEAREST_M)
    # Skip the darkest colours, which look like EMPTY.
    return _scale("viridis", 1.0 - 0.9 * reach / np.log(FARTHEST_M / NEAREST_M), valid)


def intensity_colours(intensity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Colour intensities in [0,1] by their root, since most echoes are weak."""
    return _scale("bone", 0.15 + 0.85 * np.sqrt(np.clip(intensity, 0.0, 1.0)), valid)


def confidence_colours(confidence: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Colour probabilities: dark blue is a guess, yellow is certain."""
    return _scale("plasma", confidence, valid)


def label_colours(labels: np.ndarray, valid: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colour train ids by their classes.

    Args:
        labels: any shape, uint8; IGNORE becomes EMPTY.
        valid: the same shape, bool; elsewhere the colour is EMPTY.
        colours: (K,3) uint8.
    """
    found: np.ndarray = _table(colours)[np.where(valid, labels, IGNORE)]
    return found


def missed_colours(
    prediction: np.ndarray, labels: np.ndarray, valid: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """RIGHT for a correct prediction, elsewhere the colour of the missed class."""
    right = (prediction == labels) & (labels != IGNORE)
    table = _table(colours)
    table[_IS_RIGHT] = RIGHT
    found: np.ndarray = table[np.where(valid, np.where(right, _IS_RIGHT, labels), IGNORE)]
    return found


_IS_RIGHT = np.uint8(IGNORE - 1)  # beyond the number of classes


def _table(colours: np.ndarray) -> np.ndarray:
    """(256,3) uint8 by train id: one look-up is three times as fast as ``np.where`` per class."""
    table = np.tile(EMPTY, (256, 1))
    table[: len(colours)] = colours
    return table


def range_legend() -> Legend:
    """Some ranges and their colours."""
    return _samples([2.5, 5, 10, 20, 40, 60], range_colours, "{:g} m")


def intensity_legend() -> Legend:
    """Some intensities and their colours."""
    return _samples([0.0, 0.1, 0.25, 0.5, 1.0], intensity_colours, "{:g}")


def confidence_legend() -> Legend:
    """Some confidences and their colours."""
    samples = _samples([0.0, 0.25, 0.5, 0.75, 0.9, 1.0], confidence_colours, "{:.0%}")
    return [(text.replace("%", " %"), colour) for text, colour in samples]


def _samples(
    values: Sequence[float], colour: Callable[[np.ndarray, np.ndarray], np.ndarray], text: str
) -> Legend:
    colours = colour(np.array(values), np.ones(len(values), dtype=bool))
    return [(text.format(v), c) for v, c in zip(values, colours, strict=True)]


def class_legend(classes: Iterable[int], names: Sequence[str], colours: np.ndarray) -> Legend:
    """Names and colours of the classes, without IGNORE."""
    return [(names[c], colours[c]) for c in sorted(set(map(int, classes)) - {IGNORE})]


def _scale(name: str, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Colour values in [0,1] with a map of matplotlib; EMPTY where not valid."""
    import matplotlib

    colours = (matplotlib.colormaps[name](values)[..., :3] * 255).astype(np.uint8)
    return np.where(valid[..., None], colours, EMPTY)
