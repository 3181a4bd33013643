"""Plots of a comparison as PNG, each for light and dark pages, for wide and narrow screens."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from rangeseg.methods import METHODS
from rangeseg.report.comparison import Comparison
from rangeseg.report.gains import mean_std
from rangeseg.report.rows import Row, in_order

PALETTE = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#2ca6a4", "#c9a227", "#d37295",
    "#9c755f", "#6a4c93", "#86bcb6",
)  # fmt: skip
MARKERS = "osD^vP*Xd<>"
LINES = {
    ("strong", False): "-", ("plain", False): "--", ("coin", False): (0, (8, 2)),
    ("strong", True): ":", ("plain", True): "-.", ("coin", True): (0, (4, 1, 1, 1, 1, 1)),
}  # fmt: skip
"""Labelled branch, and whether propagation or initial weights are used -> line style."""

PIXELS_PER_INCH = 180
LEAST_SPAN = 2.0
"""Least span of the axis in points of mIoU: smaller differences are noise."""


@dataclass(frozen=True)
class Theme:
    """Colours of text, axes and controls."""

    ink: str
    faint: str


LIGHT = Theme(ink="#1f2328", faint="#8a9099")
DARK = Theme(ink="#e6e8eb", faint="#7d848e")


@dataclass(frozen=True)
class Shape:
    """Size in inches, with text as large as the page's, and columns of the legend."""

    width: float
    height: float
    legend_columns: int


WIDE = Shape(10.5, 5.4, 5)
NARROW = Shape(3.8, 5.6, 2)


def miou_plot(comparison: Comparison, theme: Theme, shape: Shape) -> bytes:
    """Plot point mIoU against the labels, a line per method, with standard deviations over seeds.

    Lines are shifted sideways a little, so error bars do not cover each other.

    Returns:
        A PNG with a transparent background.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    budgets = comparison.budgets
    rows = in_order({row for budget in budgets for row in budget.rows})
    kinds = sorted({(row.propagation, row.init) for row in rows} | {("", "")})
    figure = Figure(figsize=(shape.width, shape.height), dpi=PIXELS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        shift = 0.6 * ((number + 0.5) / len(rows) - 0.5)
        marker = MARKERS.index("s") if row.is_control else _number(row)
        there = [(x, budget) for x, budget in enumerate(budgets) if row in budget.runs]
        spreads = [mean_std(list(budget.miou(row).values())) for _, budget in there]
        axes.errorbar(
            [x + shift for x, _ in there],
            [spread.mean for spread in spreads],
            yerr=[spread.std or 0.0 for spread in spreads],
            label=budgets[0].name(row),
            color=_colour(row, theme),
            linestyle=LINES[row.labelled, not row.is_usual],
            linewidth=2.0 if row.is_control and row.labelled == "strong" else 1.3,
            marker=MARKERS[(marker + kinds.index((row.propagation, row.init))) % len(MARKERS)],
            markersize=5,
            capsize=3,
            elinewidth=1,
        )
    # Drop the folder of a split file, which does not fit below a tick.
    names = [f"{Path(budget.labels).name}\n{budget.labelled_scans} scans" for budget in budgets]
    axes.set_xticks(range(len(budgets)), names, parse_math=False)
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    low, high = axes.get_ylim()
    if high - low < LEAST_SPAN:
        axes.set_ylim((low + high - LEAST_SPAN) / 2, (low + high + LEAST_SPAN) / 2)
    axes.set_ylabel("point mIoU, %", color=theme.ink)
    axes.tick_params(colors=theme.ink, labelsize=10)
    axes.grid(axis="y", color=theme.faint, alpha=0.3, linewidth=0.8)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(theme.faint)
    legend = figure.legend(
        loc="outside lower center", frameon=False, fontsize=9.5, labelcolor=theme.ink,
        ncols=shape.legend_columns // (2 if len(kinds) > 1 else 1),  # long names
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    png = io.BytesIO()
    figure.savefig(png, format="png", transparent=True)
    return png.getvalue()


def _number(row: Row) -> int:
    """The index of a method in METHODS, so that it has one colour in all plots."""
    return list(METHODS).index(row.method) if row.method in METHODS else len(METHODS)


def _colour(row: Row, theme: Theme) -> str:
    if row.is_control:
        return theme.ink if row.labelled == "strong" else theme.faint
    return PALETTE[_number(row) % len(PALETTE)]
