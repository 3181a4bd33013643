"""Pictures for people: range images with their labels, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rangeseg.datasets.labels import IGNORE

EMPTY = np.array([20, 20, 24], dtype=np.uint8)
"""Colour of pixels without an echo, and of ignored ones."""


WRONG = np.array([230, 60, 50], dtype=np.uint8)
RIGHT = np.array([120, 125, 130], dtype=np.uint8)


@dataclass(frozen=True)
class Panel:
    """One row of an overview.

    Attributes:
        title: stands above it.
        image: (H,W,3) uint8.
    """

    title: str
    image: np.ndarray


def range_colours(depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Range in metres (H,W) as colours (H,W,3) uint8 on a log scale: bright is near."""
    import matplotlib

    nearest, farthest = 2.5, 60.0
    reach = np.log(np.clip(depth, nearest, farthest) / nearest) / np.log(farthest / nearest)
    colours = (matplotlib.colormaps["viridis"](1.0 - reach)[..., :3] * 255).astype(np.uint8)
    return np.where(valid[..., None], colours, EMPTY)


def label_colours(labels: np.ndarray, valid: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Train ids (H,W) as colours (H,W,3) uint8; ``colours`` is (K,3) uint8."""
    table = np.tile(EMPTY, (256, 1))
    table[: len(colours)] = colours
    return np.where(valid[..., None], table[labels], EMPTY)


def error_colours(prediction: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Where (H,W) a prediction is wrong (red), right (grey), or the truth is ignored (dark)."""
    colours = np.where((prediction != labels)[..., None], WRONG, RIGHT)
    known = valid & (labels != IGNORE)
    return np.where(known[..., None], colours, EMPTY).astype(np.uint8)


def save_overview(
    path: Path,
    title: str,
    panels: Sequence[Panel],
    classes: Sequence[tuple[str, np.ndarray]],
) -> None:
    """Write panels below each other with a legend of classes.

    Args:
        path: a PNG.
        title: above all.
        panels: range images of one size.
        classes: (name, (3,) uint8 colour) of the classes to explain.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = panels[0].image.shape[:2]
    # Beams are farther apart than columns: taller pixels are nearer to what the sensor sees.
    panel_inches = 13.0 * height / width * 1.6
    legend_inches = 0.8
    total = len(panels) * (panel_inches + 0.38) + legend_inches + 0.6
    figure = Figure(figsize=(13.6, total), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, y=1 - 0.12 / total, va="top")
    top = total - 0.75
    for panel in panels:
        axes = figure.add_axes(
            (0.3 / 13.6, (top - panel_inches) / total, 13 / 13.6, panel_inches / total)
        )
        axes.imshow(panel.image, aspect="auto", interpolation="nearest")
        axes.set_title(panel.title, loc="left", fontsize=11, pad=3)
        axes.set_axis_off()
        top -= panel_inches + 0.38
    marks = [("wrong", WRONG), ("right", RIGHT), ("no echo / ignored", EMPTY)]
    handles = [
        Patch(facecolor="#" + bytes(colour.tolist()).hex(), label=name)
        for name, colour in [*classes, *marks]
    ]
    figure.legend(handles=handles, loc="lower center", ncol=8, fontsize=10, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
