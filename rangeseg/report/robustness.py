"""Table of one run on corrupted scans."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rangeseg.report.comparison import KINDS, Result


def robustness_table(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row per corruption, then the mean over them.

    Args:
        results: results of one run; the first is on clean scans.

    Reference:
        Kong et al., Robo3D, ICCV 2023: ``kept`` is its resilience rate.
    """
    header = ["corruption", *KINDS.values(), "kept", "accuracy", "ECE"]
    lines = [_figures(result, results[0]) for result in results]
    means = [statistics.mean(column) for column in zip(*lines[1:], strict=True)]
    names = ["none", *(result["protocol"]["corruption"] for result in results[1:]), "mean of these"]
    cells = [[f"{value:.1f}" for value in line] for line in [*lines, means]]
    return header, [[name, *line] for name, line in zip(names, cells, strict=True)]


def _figures(result: Result, clean: Result) -> list[float]:
    miou = [float(result["miou"][kind]) for kind in KINDS]
    kept = 100.0 * miou[0] / max(float(clean["miou"]["point"]), 1e-9)
    return [*miou, kept, float(result["accuracy"]), float(result["calibration"]["ece"])]
