"""Draw a run's curves: losses, mIoU and learning rate over the steps."""

from __future__ import annotations

import gc
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.engine.metrics_log import loss_terms, read_metrics
from rangeseg.errors import one_line
from rangeseg.system.files import write_file

_log = logging.getLogger(__name__)

CURVES = "curves.png"

_SMOOTHED_FROM = 60
"""Longer curves are drawn faintly, with their running mean on top."""


def draw_curves(run: Path, title: str, final: tuple[int, float] | None = None) -> None:
    """Write ``curves.png`` into a run's folder, from its ``metrics.jsonl``.

    A failure is only a warning: a picture must not end a training.

    Args:
        run: folder of the run.
        title: title with the run's name.
        final: number of steps, and the final mIoU on all validation scans in per cent.
    """
    try:
        lines = read_metrics(run)
        if lines:
            write_file(run / CURVES, _draw(lines, title, final))
            gc.collect()  # a figure is a reference cycle, so many would stay in memory
    except Exception as error:  # a broken installation or a full disk may raise anything
        reason = one_line(error)
        _log.warning("%s cannot be drawn (%s); the run goes on without", run / CURVES, reason)


def _draw(lines: list[dict[str, Any]], title: str, final: tuple[int, float] | None) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(9.0, 8.0), dpi=110)
    FigureCanvasAgg(figure)
    # Fixed margins: a layout engine would draw everything twice.
    margins = {"left": 0.09, "right": 0.97, "top": 0.94, "bottom": 0.07, "hspace": 0.12}
    losses, mious, rates = figure.subplots(
        3, 1, sharex=True, height_ratios=[3.0, 2.4, 1.3], gridspec_kw=margins
    )
    terms = list(loss_terms(lines[-1]))
    for name in ["loss", *terms] if len(terms) > 1 else ["loss"]:
        _curve(losses, steps, [line[name] for line in lines], name)
    losses.set_ylabel("loss of a step")
    validated = [(line["step"], line["val_miou"]) for line in lines if "val_miou" in line]
    if validated:
        mious.plot(*zip(*validated, strict=True), "o-", ms=4, label="some scans of val")
    if final is not None:
        label = f"all scans of val: {final[1]:.1f}"
        mious.plot(*final, "*", ms=13, color="tab:red", label=label, clip_on=False)
    mious.set_ylabel("point mIoU, %")
    mious.set_ylim(bottom=0)
    rates.plot(steps, [line["rate"] for line in lines], color="tab:gray")
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    rates.set_xlabel("step")
    rates.set_xlim(0, steps[-1])
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, mious, rates):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            for text in axes.legend(fontsize=9, framealpha=0.8).get_texts():
                text.set_parse_math(False)
    figure.suptitle(title, parse_math=False)
    figure.align_ylabels()
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _curve(axes: Any, steps: Sequence[int], values: Sequence[float], label: str) -> None:
    if len(values) < _SMOOTHED_FROM:
        axes.plot(steps, values, label=label)
        return
    (faint,) = axes.plot(steps, values, linewidth=0.8, alpha=0.25)
    width = len(values) // 30 | 1
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    middle = steps[width // 2 : len(steps) - width // 2]
    axes.plot(middle, means, label=label, color=faint.get_color())
