"""Metrics apart from the mIoU: distances, calibration, frequency-weighted IoU."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from rangeseg.report.comparison import Budget, Result
from rangeseg.report.rows import Row

NOTE = (
    "All points, in per cent, mean over seeds. fwIoU: IoU weighted with the points of each class. "
    "ECE: expected calibration error. Distances: mIoU over the classes that are there"
)


def details(result: Result) -> dict[str, float | None]:
    """Name of a metric -> its value in per cent; None if undefined.

    A CSV of an older version has none.
    """
    if "fwiou" not in result:
        return {}
    return {
        "fwIoU": result["fwiou"],
        "accuracy": result["accuracy"],
        "ECE": result["calibration"]["ece"],
        **{name: interval["miou"] for name, interval in result["distance"].items()},
    }


def details_table(budget: Budget) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a budget: means over the seeds with a value."""
    found = {row: [details(r) for r in runs.values()] for row, runs in budget.runs.items()}
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run))

    def cell(row: Row, name: str) -> str:
        values = [value for run in found[row] if (value := run.get(name)) is not None]
        return f"{statistics.mean(values):.1f}" if values else "–"

    rows = [[budget.name(row), *[cell(row, name) for name in names]] for row in budget.rows]
    return ["method", *names], rows


def reliability(results: Iterable[Result]) -> list[tuple[float, float]]:
    """The joint reliability curve of runs: (confidence, accuracy) of each bin in per cent.

    Args:
        results: results of the runs; bins without points are left out.
    """
    bins: dict[int, list[float]] = {}
    for result in results:
        if (found := result.get("calibration")) is None:
            continue
        columns = zip(found["points"], found["confidence"], found["accuracy"], strict=True)
        for number, (points, confidence, accuracy) in enumerate(columns):
            if points:
                total = bins.setdefault(number, [0.0, 0.0, 0.0])
                for k, value in enumerate((1.0, confidence, accuracy)):
                    total[k] += points * value
    return [(c / n, a / n) for _, (n, c, a) in sorted(bins.items())]
