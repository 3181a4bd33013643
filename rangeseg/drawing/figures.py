"""Draw a result: confusion matrix, mIoU by distance, reliability curve."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.system.files import writable, write_file

_INK, _FAINT, _BARS = "#1f2328", "#8a9099", "#4e79a7"


def save_figures(path: Path, title: str, result: Mapping[str, Any]) -> None:
    """Write a PNG of a result; create folders, replace an existing file.

    Args:
        path: path of the picture.
        title: names the run.
        result: what ``evaluate`` or ``score`` of the engine returned.

    Raises:
        ConfigError: it cannot be written.
    """
    with writable(path, "choose another file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, draw_figures(title, result))


def draw_figures(title: str, result: Mapping[str, Any]) -> bytes:
    """Draw a result; without calibration there is no reliability curve.

    Args:
        title: names the run.
        result: what ``evaluate`` or ``score`` of the engine returned.

    Returns:
        A PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    calibration = result.get("calibration")
    figure = Figure(figsize=(15.0, 9.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.75, 1.0])
    _confusion(figure.add_subplot(grid[:, 0]), result)
    _distances(figure.add_subplot(grid[0, 1] if calibration else grid[:, 1]), result)
    if calibration:
        _reliability(figure.add_subplot(grid[1, 1]), calibration)
    figure.suptitle(title, parse_math=False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _confusion(axes: Any, result: Mapping[str, Any]) -> None:
    """Draw the matrix, each row in per cent of its class's points."""
    counts, columns = np.array(result["confusion"]), list(result["iou"])
    names = list(columns)
    if result.get("withheld_points"):
        counts = np.column_stack([counts, result["withheld"]])
        columns.append("none")
    points = counts.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * counts, points, out=np.full(counts.shape, np.nan), where=points > 0)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=100.0, aspect="auto")
    size = float(np.clip(170 / len(columns), 4.0, 10.0))
    for (row, col), value in np.ndenumerate(share):
        if value >= 0.5:
            colour = "white" if value > 55.0 else _INK
            axes.text(
                col, row, f"{value:.0f}", ha="center", va="center", size=size, color=colour,
                weight="bold" if row == col else "normal",
            )  # fmt: skip
    labels = [f"{name} ({_short(n)})" for name, n in zip(names, points[:, 0], strict=True)]
    style = {"parse_math": False, "size": max(size, 6.0)}
    axes.set_xticks(range(len(columns)), columns, rotation=90, **style)
    axes.set_yticks(range(len(names)), labels, **style)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth (points)")
    axes.set_title("Confusion matrix, % of the points of each true class", size=11)
    axes.set_xticks(np.arange(len(columns)) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color="#e3e6ea", linewidth=0.6)
    axes.tick_params(which="both", length=0)


def _distances(axes: Any, result: Mapping[str, Any]) -> None:
    found = result["distance"]
    bars = axes.bar(range(len(found)), [d["miou"] or 0.0 for d in found.values()], color=_BARS)
    shown = ["–" if d["miou"] is None else f"{d['miou']:.1f}" for d in found.values()]
    axes.bar_label(bars, shown, padding=2)
    names = [
        f"{name}\n{d['classes']} classes\n{_short(d['points'])} points"
        for name, d in found.items()
    ]  # fmt: skip
    axes.set_xticks(range(len(names)), names, size=9)
    axes.set_ylim(0.0, 100.0)
    axes.set_ylabel("mIoU, %")
    axes.set_title("Point mIoU by distance, over the classes that are there", size=11)
    _plain(axes)


def _reliability(axes: Any, calibration: Mapping[str, Any]) -> None:
    points = np.array(calibration["points"])
    edges = np.linspace(0.0, 100.0, len(points) + 1)
    share = 100.0 * points / max(points.sum(), 1)
    axes.bar(
        edges[:-1], share, np.diff(edges), align="edge", color=_FAINT, alpha=0.35,
        label="share of the points",
    )  # fmt: skip
    axes.plot([0, 100], [0, 100], "--", color=_FAINT, linewidth=1.2, label="calibrated")
    there = points > 0
    confidence, accuracy = (np.array(calibration[k], float)[there] for k in _CURVE)
    axes.plot(confidence, accuracy, "o-", color=_BARS, markersize=5, label="accuracy")
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"Reliability: expected calibration error {calibration['ece']:.1f} %", size=11)
    axes.legend(loc="upper left", fontsize=9)
    _plain(axes)


_CURVE = ("confidence", "accuracy")


def _plain(axes: Any) -> None:
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(count: int) -> str:
    """Shorten a number: ``1.2M`` for 1,234,567."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
