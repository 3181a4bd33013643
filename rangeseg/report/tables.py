"""The comparison of runs as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from rangeseg.errors import ConfigError
from rangeseg.report.comparison import (
    KINDS,
    Budget,
    Comparison,
    Result,
    comparisons,
    row_of,
)
from rangeseg.report.details import NOTE, details, details_table
from rangeseg.report.gains import Gain, mean_std
from rangeseg.report.published import (
    RATIOS,
    distance_note,
    published_figure,
    published_table,
)
from rangeseg.report.rows import Row
from rangeseg.system.files import writable, write_file

PUBLISHED = "published (FIDNet, pixel metric)"
AS_PUBLISHED = "As published: validation split, pixel metric unless said, in per cent"
MISSING = "–"
CORNER = "row less column"
BETWEEN = (
    "Point mIoU of the row less that of the column, mean over the common seeds; * where Student’s "
    "95 % interval does not hold 0, as chance alone makes one pair in twenty"
)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; the first is flush left, the others right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    dashes = ["-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(header), f"|{'|'.join(dashes)}|", *[line(row) for row in cells[1:]]])


def report(results: Iterable[Result]) -> str:
    """The comparison of runs as Markdown: one part per protocol, one table per label budget.

    Args:
        results: contents of ``result.json`` files.

    Raises:
        ConfigError: runs of one row differ in more than their seed.
    """
    return "\n\n".join(_part(comparison) for comparison in comparisons(results))


def _part(comparison: Comparison) -> str:
    parts = ["; ".join(f"{what}: {how}" for what, how in comparison.facts().items())]
    for budget in comparison.budgets:
        parts.append(
            f"{budget.labels} labels ({budget.labelled_scans} scans); mIoU in per cent, mean ± std "
            "over seeds; gains in point mIoU, paired by seed:"
        )
        parts.append(markdown_table(*main_table(comparison, budget)))
        if notes := notes_of(comparison, budget):
            parts.append("\n".join(f"Note: {note}" for note in notes))
        if len(budget.methods) > 1:
            parts.append(f"{BETWEEN}:")
            gains = between(budget)
            rows = [[name, *map(difference, line)] for name, line in gains.items()]
            parts.append(markdown_table([CORNER, *gains], rows))
        header, rows = details_table(budget)
        if len(header) > 1:
            parts += [f"{NOTE}:", markdown_table(header, rows)]
        parts.append("IoU of each class in per cent, per point, mean over seeds:")
        parts.append(markdown_table(*class_table(budget)))
    if published := published_lines(comparison):
        parts.append(f"{AS_PUBLISHED}:")
        parts.append(markdown_table(["method, network", *RATIOS], published))
    return "\n\n".join(parts)


def main_table(comparison: Comparison, budget: Budget) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a budget: mIoU, gains, cost, published counterparts."""
    controls = budget.controls
    header = ["method", "seeds", *KINDS.values()]
    header += [gain_header(budget, control) for control in controls]
    header.append("train s")
    rows = []
    for row in budget.rows:
        cells = [budget.name(row), str(len(budget.runs[row]))]
        cells += [str(mean_std(list(budget.miou(row, kind).values()))) for kind in KINDS]
        cells += [str(budget.gain_over(control, row) or MISSING) for control in controls]
        seconds = budget.train_seconds(row)
        cells.append(MISSING if seconds is None else f"{seconds:.0f}")
        rows.append(cells)
    published = _published(comparison, budget)
    if any(published):
        header.append(PUBLISHED)
        rows = [[*cells, figure or MISSING] for cells, figure in zip(rows, published, strict=True)]
    return header, rows


def _published(comparison: Comparison, budget: Budget) -> list[str | None]:
    """The published figure of each row; None if no comparable one exists."""
    judged = _judged(comparison, budget)
    return [
        published_figure(*judged, (row.method, row.labelled), _differs(comparison, budget, row))
        for row in budget.rows
    ]


def published_lines(comparison: Comparison) -> list[list[str]]:
    """All published figures, if one is comparable with a run."""
    if not any(any(_published(comparison, budget)) for budget in comparison.budgets):
        return []
    protocol = comparison.protocol
    return published_table(protocol["dataset"], protocol["split"], comparison.scans)


def notes_of(comparison: Comparison, budget: Budget) -> list[str]:
    """Caveats for a reader of a budget's table, and differences from published settings."""
    rows = {
        (budget.name(row), row.method): _differs(comparison, budget, row) for row in budget.rows
    }
    note = distance_note(*_judged(comparison, budget), rows)
    return [*budget.notes(), *([note] if note else [])]


def _judged(comparison: Comparison, budget: Budget) -> tuple[str, str, int, int]:
    protocol = comparison.protocol
    return protocol["dataset"], protocol["split"], comparison.scans, budget.labelled_scans


def _differs(comparison: Comparison, budget: Budget, row: Row) -> list[str] | None:
    """A row's differences from published settings, the same for all its runs; None if unknown."""
    settings = next(iter(budget.runs[row].values()))["run"].get("published")
    if settings is None:
        return None
    more = {"begun from": row.init, "corruption": comparison.protocol.get("corruption")}
    return [*settings, *[f"{name} {what} (published: none)" for name, what in more.items() if what]]


def gain_header(budget: Budget, control: Row) -> str:
    """Name of the column of gains over a control."""
    return f"gain over {budget.name(control)} [95 %]"


def between(budget: Budget) -> dict[str, list[Gain | None]]:
    """Name of a method -> its gains over each method, in order."""
    rows = budget.methods
    return {budget.name(a): [budget.gain(a, b) for b in rows] for a in rows}


def difference(gain: Gain | None) -> str:
    """``+1.2*``; the star means that the interval does not contain 0."""
    return MISSING if gain is None else f"{gain.mean:+.1f}" + "*" * gain.sure


def class_table(budget: Budget) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the per-class IoU: one row per class, one column per method."""

    def cell(row: Row, name: str) -> str:
        values = list(budget.class_iou(row, name).values())
        return f"{statistics.mean(values):.1f}" if values else MISSING

    header = ["class", *[budget.name(row) for row in budget.rows]]
    return header, [[name, *[cell(row, name) for row in budget.rows]] for name in budget.classes()]


def results_csv(results: Sequence[Result]) -> str:
    """All results as CSV (RFC 4180), one row per run; the IoU of absent classes is empty."""
    names = dict.fromkeys(name for result in results for name in result["iou"])
    more = dict.fromkeys(name for result in results for name in details(result))
    run_keys = ("labels", "labelled_scans", "seed", "steps", "train_seconds", "precision")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    header = ["dataset", "split", "scans", *Row._fields, *run_keys]
    header += [*[f"miou_{kind}" for kind in KINDS], *more, *[f"iou_{name}" for name in names]]
    writer.writerow([*header, "fingerprint"])
    for result in results:
        run, protocol = result["run"], result["protocol"]
        cells = [protocol["dataset"], protocol["split"], result["scans"], *row_of(result)]
        cells += [*[run[key] for key in run_keys], *[result["miou"][kind] for kind in KINDS]]
        cells += [details(result).get(name) for name in more]
        cells += [*[result["iou"].get(name) for name in names], run["fingerprint"]]
        writer.writerow(cells)
    return text.getvalue()


def check_report_files(paths: Iterable[Path | None]) -> None:
    """Create the folders of reports in advance; None means no report.

    Raises:
        ConfigError: a path is a folder, or its folder cannot be made.
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name the file to write")
        with writable(path, _REMEDY):
            path.parent.mkdir(parents=True, exist_ok=True)


def write_report(path: Path, content: str) -> None:
    """Write a report atomically; create folders.

    Raises:
        ConfigError: it cannot be written.
    """
    with writable(path, _REMEDY):
        write_file(path, content)


_REMEDY = "choose another place"
