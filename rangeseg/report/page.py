"""The comparison of runs as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from rangeseg import __version__
from rangeseg.report.comparison import (
    STRONG,
    Budget,
    Comparison,
    Gain,
    Result,
    Row,
    comparisons,
    paired_gain,
    row_name,
)
from rangeseg.report.plots import DARK, LIGHT, NARROW, WIDE, Shape, Theme, miou_plot
from rangeseg.report.published import RATIOS, published_table
from rangeseg.report.style import NARROW_SCREEN, STYLE
from rangeseg.report.tables import (
    BETWEEN,
    CORNER,
    MISSING,
    between,
    class_table,
    difference,
    main_table,
)

BRANCH = (
    "“strong” perturbs and mixes the labelled scans too, “plain” does not. A method stands on the "
    "strong branch where its name does not say plain, so its gain is its difference to supervised, "
    "strong. Not all of it need come from unlabelled scans: who mixes labelled scans into them "
    "(lasermix, exchange_mix, cutmix_seg with partner: labelled) learns labels there once more, "
    "ael pastes into labelled scans, and cps is two networks."
)
METRICS = (
    "point: all points of the original scans, after back-projection, the headline; raw point: "
    "every point takes its own pixel’s class; pixel: the range image, as range-view papers report. "
    "mIoU in per cent, mean ± standard deviation over seeds; gains are in point mIoU, paired by "
    "seed, with Student’s 95 % interval; train s: mean duration of a training in seconds."
)


class Html(str):
    """Text that is HTML already; any other text is escaped."""


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """An element with its children; ``class_`` and ``aria_label`` lose or change underscores."""
    inner = "".join(c if isinstance(c, Html) else escape(c) for c in children)
    return Html(f"{_start(name, attributes)}{inner}</{name}>")


def void(name: str, /, **attributes: str) -> Html:
    """An element without children, such as ``img``."""
    return Html(_start(name, attributes))


def _start(name: str, attributes: dict[str, str]) -> str:
    words = [f'{k.rstrip("_").replace("_", "-")}="{escape(v)}"' for k, v in attributes.items()]
    return f"<{' '.join([name, *words])}>"


def report_page(results: Iterable[Result]) -> str:
    """The comparison of runs as an HTML document.

    Args:
        results: contents of ``result.json`` files.

    Raises:
        ConfigError: runs of one row differ in more than their seed.
    """
    found = comparisons(results)
    names = dict.fromkeys(str(c.protocol["dataset"]) for c in found)
    title = f"rangeseg report: {', '.join(names)}"
    head = element(
        "head",
        void("meta", charset="utf-8"),
        void("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    body = element(
        "body",
        element("main", element("h1", title), *[_section(comparison) for comparison in found]),
        element("footer", f"Written by rangeseg {__version__}."),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _section(comparison: Comparison) -> Html:
    """All of one protocol."""
    facts = comparison.facts() | {"labelled branch": BRANCH, "figures": METRICS}
    pairs = [element("div", element("dt", what), element("dd", how)) for what, how in facts.items()]
    parts = [
        element("h2", f"{facts['data set']}, {facts['split']}"),
        element("dl", *pairs, class_="facts"),
        element("h3", "mIoU against the labels"),
        _plot(comparison),
    ]
    for budget in comparison.budgets:
        parts += _budget(comparison, budget)
    protocol = comparison.protocol
    if rows := published_table(protocol["dataset"], protocol["split"], comparison.scans):
        note = (
            "Pixel metric, validation split, as published: to be compared with the column “pixel” "
            "only. Above, those of FIDNet stand beside rows that had as many labelled scans, "
            "whatever their network."
        )
        header = ["method, network", *RATIOS]
        parts += [element("h3", "As published"), _table(header, rows, "Published figures")]
        parts.append(element("p", note, class_="note"))
    return element("section", *parts)


def _plot(comparison: Comparison) -> Html:
    """One picture of four, as the screen wants it."""

    def source(theme: Theme, shape: Shape, media: str) -> Html:
        return void("source", srcset=_data(miou_plot(comparison, theme, shape)), media=media)

    dark = "(prefers-color-scheme: dark)"
    picture = element(
        "picture",
        source(DARK, NARROW, f"{NARROW_SCREEN} and {dark}"),
        source(LIGHT, NARROW, NARROW_SCREEN),
        source(DARK, WIDE, dark),
        void(
            "img",
            src=_data(miou_plot(comparison, LIGHT, WIDE)),
            alt="Point mIoU of every method against the labels; the tables below hold the figures.",
        ),
    )
    caption = "Point mIoU, mean and standard deviation over seeds; dashed: plain labelled branch."
    return element("figure", picture, element("figcaption", caption))


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _budget(comparison: Comparison, budget: Budget) -> list[Html]:
    """All of one label budget."""
    name = f"{budget.labels} labels ({budget.labelled_scans} scans)"
    header, rows = main_table(comparison, budget)
    cells: list[list[str]] = [list(row) for row in rows]
    if STRONG in budget.runs:
        gains = [budget.gain(row, STRONG) for row in budget.rows]
        reach = max([abs(g.mean) + (g.half or 0.0) for g in gains if g], default=0.0)
        place = 1 + header.index(f"gain over {row_name(STRONG)} [95 %]")
        header = [*header[:place], f"drawn, ±{reach:.1f}", *header[place:]]
        for row, gain in zip(cells, gains, strict=True):
            row.insert(place, _interval(gain, reach))
    parts = [element("h3", name), _table(header, cells, f"mIoU, {name}")]
    parts += [element("p", note, class_="note warning") for note in budget.notes()]
    parts.append(
        element(
            "details",
            element("summary", f"IoU of each class, {name}"),
            element("p", "In per cent, per point, mean over seeds.", class_="note"),
            _table(*class_table(budget), f"IoU of each class, {name}"),
        )
    )
    if STRONG in budget.runs and len(budget.runs) > 1:
        parts.append(_class_gains(budget, name))
    if len(budget.methods) > 1:
        parts.append(_between(budget, name))
    return parts


def _interval(gain: Gain | None, reach: float) -> Html:
    """A gain and its interval drawn around a line at zero; ``reach`` is the scale's end."""
    if gain is None or reach == 0:
        return Html("")
    mean, half = (100 * value / reach for value in (gain.mean, gain.half or 0.0))
    colour = "unsure" if not gain.sure else "better" if gain.mean > 0 else "worse"
    return element(
        "svg",
        element("path", d="M0 -15V15", class_="zero"),
        element("path", d=f"M{mean - half:.1f} 0H{mean + half:.1f}", class_="range"),
        element("circle", cx=f"{mean:.1f}", cy="0", r="8"),
        viewBox="-108 -17 216 34",
        class_=f"interval {colour}",
        role="img",
        aria_label=str(gain),
    )


def _class_gains(budget: Budget, name: str) -> Html:
    """What each method gains over the control, class by class."""
    rows = [row for row in budget.rows if row != STRONG]
    gains: dict[str, list[Gain | None]] = {"mIoU": [budget.gain(row, STRONG) for row in rows]}
    for class_ in budget.classes():
        gains[class_] = [_class_gain(budget, row, class_) for row in rows]
    note = "Per point, mean over the common seeds; * where the 95 % interval does not hold 0"
    title = f"Gain over {row_name(STRONG)} in each class, {name}"
    return _heat_map(title, note, ["class", *map(row_name, rows)], gains, open="")


def _between(budget: Budget, name: str) -> Html:
    """What each method gains over each other one."""
    gains = between(budget)
    title = f"Gain of each method over each other one, {name}"
    return _heat_map(title, BETWEEN, [CORNER, *gains], gains)


def _heat_map(
    title: str,
    note: str,
    header: Sequence[str],
    gains: Mapping[str, Sequence[Gain | None]],
    **attributes: str,
) -> Html:
    """A table of gains, coloured, that can be folded."""
    reach = max([abs(g.mean) for line in gains.values() for g in line if g], default=0.0) or 1.0
    return element(
        "details",
        element("summary", title),
        element("p", f"{note}; the strongest colour is ±{reach:.1f}.", class_="note"),
        _table(
            header, [[row, *[_heat(g, reach) for g in line]] for row, line in gains.items()], title
        ),
        **attributes,
    )


def _class_gain(budget: Budget, row: Row, name: str) -> Gain | None:
    return paired_gain(budget.class_iou(row, name), budget.class_iou(STRONG, name))


def _heat(gain: Gain | None, reach: float) -> Html:
    if gain is None:
        return Html(MISSING)
    sign = "up" if gain.mean >= 0 else "down"
    style = f"--strength: {100 * abs(gain.mean) / reach:.0f}%"
    return element("span", difference(gain), class_=f"heat {sign}", style=style, title=str(gain))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> Html:
    """A table that scrolls inside its own frame; the first column stays in view."""
    top = element("tr", *[element("th", name, scope="col") for name in header])
    lines = [
        element(
            "tr", element("th", row[0], scope="row"), *[element("td", cell) for cell in row[1:]]
        )
        for row in rows
    ]
    table = element("table", element("thead", top), element("tbody", *lines))
    return element("div", table, class_="scroll", role="region", aria_label=label, tabindex="0")
