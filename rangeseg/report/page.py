"""The comparison of runs as one HTML file without network access or scripts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rangeseg import __version__
from rangeseg.report.comparison import Budget, Comparison, Result, comparisons
from rangeseg.report.details import NOTE, details_table, reliability
from rangeseg.report.gains import Gain
from rangeseg.report.plots import DARK, LIGHT, NARROW, WIDE, Shape, Theme, miou_plot
from rangeseg.report.published import RATIOS
from rangeseg.report.rows import Row
from rangeseg.report.tables import (
    AS_PUBLISHED,
    BETWEEN,
    CORNER,
    between,
    class_table,
    difference,
    gain_header,
    main_table,
    notes_of,
    published_lines,
)

TEMPLATE = "page.html.j2"


def report_page(results: Iterable[Result]) -> str:
    """Make the comparison of runs as an HTML document.

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
    """The section of one protocol."""

    def plot(theme: Theme, shape: Shape) -> str:
        png = miou_plot(comparison, theme, shape)
        return "data:image/png;base64," + base64.b64encode(png).decode("ascii")

    return {
        "facts": comparison.facts(),
        "plots": {
            "wide": plot(LIGHT, WIDE), "wide_dark": plot(DARK, WIDE),
            "narrow": plot(LIGHT, NARROW), "narrow_dark": plot(DARK, NARROW),
        },
        "budgets": [_budget(comparison, budget) for budget in comparison.budgets],
        "published_header": ["method, network", *RATIOS],
        "published": published_lines(comparison),
        "published_note": AS_PUBLISHED,
    }  # fmt: skip


def _budget(comparison: Comparison, budget: Budget) -> dict[str, Any]:
    """The part of one label budget."""
    name = f"{budget.labels} labels ({budget.labelled_scans} scans)"
    header, lines = main_table(comparison, budget)
    rows: list[list[Any]] = [list(line) for line in lines]
    shown = [control for control in budget.controls if control.labelled != "plain"]
    columns = {c: [budget.gain_over(c, row) for row in budget.rows] for c in shown}
    drawn = [gain for column in columns.values() for gain in column if gain]
    reach, heat_maps = max([abs(g.mean) + (g.half or 0.0) for g in drawn], default=0.0), []
    for control, column in columns.items():
        place = 1 + header.index(gain_header(budget, control))
        header.insert(place, f"drawn, ±{reach:.1f}")
        for line, gain in zip(rows, column, strict=True):
            line.insert(place, gain)
        if judged := [row for row in budget.rows if row.has_control(control)]:
            heat_maps.append(_class_gains(budget, control, judged, name))
    if len(budget.methods) > 1:
        title = f"Gain of each method over each other one, {name}"
        gains_between = between(budget)
        heat_maps.append(_heat_map(title, BETWEEN, [CORNER, *gains_between], gains_between))
    more_header, more = details_table(budget)
    curves = [reliability(budget.runs[row].values()) for row in budget.rows]
    return {
        "name": name, "header": header, "rows": rows, "reach": reach,
        "notes": notes_of(comparison, budget),
        "more_header": [*more_header, "reliability"],
        "more": [[*line, curve] for line, curve in zip(more, curves, strict=True)],
        "more_note": NOTE, "classes": class_table(budget), "heat_maps": heat_maps,
    }  # fmt: skip


def _class_gains(budget: Budget, control: Row, rows: list[Row], name: str) -> dict[str, Any]:
    """Gains of rows over a control, class by class."""
    gains = {"mIoU": [budget.gain(row, control) for row in rows]}
    for class_ in budget.classes():
        gains[class_] = [budget.class_gain(row, control, class_) for row in rows]
    note = "Per point, mean over the common seeds; * where the 95 % interval does not hold 0"
    title = f"Gain over {budget.name(control)} in each class, {name}"
    return _heat_map(title, note, ["class", *map(budget.name, rows)], gains) | {"open": True}


def _heat_map(
    title: str, note: str, header: Sequence[str], gains: Mapping[str, Sequence[Gain | None]]
) -> dict[str, Any]:
    """A coloured table of gains that can be folded."""
    reach = max([abs(g.mean) for line in gains.values() for g in line if g], default=0.0) or 1.0
    rows = [[name, *line] for name, line in gains.items()]
    return {
        "title": title, "note": note, "header": header, "rows": rows, "reach": reach, "open": False,
    }  # fmt: skip
