"""Many results -> one table: mean ± standard deviation, and what a method gains."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rangeseg.errors import ConfigError

Row = tuple[str, str]
"""A method and its labelled branch, ``("cps", "strong")``."""

KINDS = ("point", "point_raw", "pixel")
CONTROLS: tuple[Row, ...] = (("supervised", "plain"), ("supervised", "strong"))


def row_name(row: Row) -> str:
    """``supervised, plain``; the strong branch is the rule and goes unnamed but for the control."""
    method, labelled = row
    return f"{method}, {labelled}" if method == "supervised" or labelled == "plain" else method


def mean_std(values: Sequence[float]) -> str:
    """``34.56 ± 1.20`` (sample standard deviation), or the one value."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def paired_gain(values: Mapping[int, float], control: Mapping[int, float]) -> str:
    """Mean of the differences seed by seed with its 95 % interval (Student's t).

    Args:
        values: seed -> mIoU of a method.
        control: seed -> mIoU of what it is compared with.

    Returns:
        ``+2.10 [+0.95, +3.25]``; a dash where no seed is common, no interval for a single one.
    """
    from scipy import stats

    differences = [values[seed] - control[seed] for seed in sorted(values.keys() & control.keys())]
    if not differences:
        return "–"
    mean = statistics.mean(differences)
    if len(differences) == 1:
        return f"{mean:+.2f}"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; all but the first are flush right."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = (
        "|"
        + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths))
        + "|"
    )
    return "\n".join([line(cells[0]), rule, *[line(row) for row in cells[1:]]])


def report(results: Iterable[Mapping[str, Any]]) -> str:
    """The comparison of runs as Markdown, one table per protocol and label ratio.

    Args:
        results: contents of ``result.json`` files. Only runs of one protocol, one label budget
            and one number of steps share a table.

    Raises:
        ConfigError: runs of one row differ in more than their seed.
    """
    groups: dict[str, dict[Row, dict[int, Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for result in results:
        run, protocol = result["run"], result["protocol"]
        title = (
            f"{protocol['dataset']}, {run['labels']} labels ({run['labelled_scans']} scans), "
            f"{run['steps']} steps, split {protocol['split']} ({result['scans']} scans), "
            f"{protocol['image'][0]}x{protocol['image'][1]}, rows by {protocol['rows']}, "
            f"{protocol['back_projection']} {protocol['window']}x{protocol['window']}, "
            f"absent classes by the {protocol['policy']} policy"
        )
        runs = groups[title][run["method"], run["labelled"]]
        alike = {other["run"]["fingerprint"] for other in runs.values()} | {run["fingerprint"]}
        if len(alike) > 1 or run["seed"] in runs:
            raise ConfigError(
                f"{run['method']}, {run['labels']} labels, seed {run['seed']}: two of these runs "
                "have one seed or differ in their settings, so they cannot share a row: name only "
                "the runs to compare"
            )
        runs[run["seed"]] = result
    return "\n\n".join(_group(title, rows) for title, rows in sorted(groups.items()))


def _group(title: str, rows: Mapping[Row, Mapping[int, Mapping[str, Any]]]) -> str:
    points = {row: {s: r["miou"]["point"] for s, r in runs.items()} for row, runs in rows.items()}
    controls = [c for c in CONTROLS if c in rows]
    ordered = [*controls, *[row for row in rows if row not in controls]]
    header = ["method", "seeds", "point", "raw point", "pixel"]
    header += [f"gain over {row_name(c)} [95 %]" for c in controls]
    table = []
    for row in ordered:
        runs = rows[row]
        cells = [row_name(row), str(len(runs))]
        cells += [mean_std([r["miou"][kind] for r in runs.values()]) for kind in KINDS]
        cells += ["–" if c == row else paired_gain(points[row], points[c]) for c in controls]
        table.append(cells)
    return f"{title}; mIoU in per cent, mean ± std over seeds:\n\n{markdown_table(header, table)}"
