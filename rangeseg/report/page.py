"""The comparison of runs as one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rangeseg import __version__
from rangeseg.report.comparison import (
    STRONG,
    Budget,
    Comparison,
    Gain,
    Result,
    comparisons,
    row_name,
)
from rangeseg.report.plots import DARK, LIGHT, NARROW, WIDE, Shape, Theme, miou_plot
from rangeseg.report.published import RATIOS, published_table
from rangeseg.report.tables import BETWEEN, CORNER, between, class_table, difference, main_table

TEMPLATE = "page.html.j2"


def report_page(results: Iterable[Result]) -> str:
    """The comparison of runs as an HTML document.

    Args:
        results: contents of ``result.json`` files.

    Raises:
        ConfigError: runs of one row differ in more than their seed.
    """
    found = comparisons(results)
    names = dict.fromkeys(str(c.protocol["dataset"]) for c in found)
    environment = Environment(
        loader=PackageLoader("rangeseg.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=f"rangeseg report: {', '.join(names)}",
        sections=[_section(comparison) for comparison in found],
        version=__version__,
        difference=difference,
    )


def _section(comparison: Comparison) -> dict[str, Any]:
    """All of one protocol."""

    def plot(theme: Theme, shape: Shape) -> str:
        png = miou_plot(comparison, theme, shape)
        return "data:image/png;base64," + base64.b64encode(png).decode("ascii")

    protocol = comparison.protocol
    return {
        "facts": comparison.facts(),
        "plots": {
            "wide": plot(LIGHT, WIDE), "wide_dark": plot(DARK, WIDE),
            "narrow": plot(LIGHT, NARROW), "narrow_dark": plot(DARK, NARROW),
        },
        "budgets": [_budget(comparison, budget) for budget in comparison.budgets],
        "published_header": ["method, network", *RATIOS],
        "published": published_table(protocol["dataset"], protocol["split"], comparison.scans),
    }  # fmt: skip


def _budget(comparison: Comparison, budget: Budget) -> dict[str, Any]:
    """All of one label budget."""
    name = f"{budget.labels} labels ({budget.labelled_scans} scans)"
    header, cells = main_table(comparison, budget)
    rows: list[list[Any]] = [list(row) for row in cells]
    reach, heat_maps = 0.0, []
    if STRONG in budget.runs:
        gains = [budget.gain(row, STRONG) for row in budget.rows]
        reach = max([abs(g.mean) + (g.half or 0.0) for g in gains if g], default=0.0)
        place = 1 + header.index(f"gain over {row_name(STRONG)} [95 %]")
        header.insert(place, f"drawn, ±{reach:.1f}")
        for row, gain in zip(rows, gains, strict=True):
            row.insert(place, gain)
        if len(budget.runs) > 1:
            heat_maps.append(_class_gains(budget, name))
    if len(budget.methods) > 1:
        title = f"Gain of each method over each other one, {name}"
        gains_between = between(budget)
        heat_maps.append(_heat_map(title, BETWEEN, [CORNER, *gains_between], gains_between))
    return {
        "name": name, "header": header, "rows": rows, "reach": reach, "notes": budget.notes(),
        "classes": class_table(budget), "heat_maps": heat_maps,
    }  # fmt: skip


def _class_gains(budget: Budget, name: str) -> dict[str, Any]:
    """What each method gains over the strong control, class by class."""
    rows = [row for row in budget.rows if row != STRONG]
    gains = {"mIoU": [budget.gain(row, STRONG) for row in rows]}
    for class_ in budget.classes():
        gains[class_] = [budget.class_gain(row, STRONG, class_) for row in rows]
    note = "Per point, mean over the common seeds; * where the 95 % interval does not hold 0"
    title = f"Gain over {row_name(STRONG)} in each class, {name}"
    return _heat_map(title, note, ["class", *map(row_name, rows)], gains) | {"open": True}


def _heat_map(
    title: str, note: str, header: Sequence[str], gains: Mapping[str, Sequence[Gain | None]]
) -> dict[str, Any]:
    """A table of gains, coloured, that can be folded."""
    reach = max([abs(g.mean) for line in gains.values() for g in line if g], default=0.0) or 1.0
    rows = [[name, *line] for name, line in gains.items()]
    return {
        "title": title, "note": note, "header": header, "rows": rows, "reach": reach, "open": False,
    }  # fmt: skip
