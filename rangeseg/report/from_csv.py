"""Read results from a CSV of ``rangeseg report --csv``, to compare them again."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rangeseg.errors import DataError
from rangeseg.report.comparison import KINDS
from rangeseg.report.rows import Row

_FIGURES = ("fwIoU", "accuracy", "ECE")


def read_results_csv(path: Path) -> list[dict[str, Any]]:
    """Read the runs of a CSV, as far as it describes them.

    It holds the metrics of each run, but neither the whole protocol nor the settings, which the
    report leaves out. Files with fewer columns, from older versions, are read too.

    Args:
        path: path of the file.

    Returns:
        A result per line, see ``read_result``; ``row`` is its row.

    Raises:
        DataError: the file is missing, or a line is not of such a CSV.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from None
    if not lines:
        raise DataError(f"{path} holds no runs: give a file of `rangeseg report --csv`")
    results = []
    for number, line in enumerate(lines, start=2):
        try:
            results.append(_result(line, f"{path}, line {number}"))
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}, line {number} is no run of `rangeseg report --csv` ({error!r})"
            ) from None
    return results


def _result(line: Mapping[str, str], file: str) -> dict[str, Any]:
    def number(name: str) -> float | None:
        return float(line[name]) if line[name] else None

    distances = [name for name in line if name.endswith(" m")]
    found: dict[str, Any] = {
        "file": file,
        "protocol": {"dataset": line["dataset"], "split": line["split"]},
        "row": Row(*(line.get(name, "") for name in Row._fields)),
        "scans": int(line["scans"]),
        "skipped_scans": [],
        "miou": {kind: float(line[f"miou_{kind}"]) for kind in KINDS},
        "iou": {  # a file of several data sets has columns for the classes of all
            name.removeprefix("iou_"): number(name)
            for name in line
            if name.startswith("iou_") and line[name]
        },
        "run": {
            "method": line["method"], "labelled": line["labelled"], "labels": line["labels"],
            "labelled_scans": int(line["labelled_scans"]), "seed": int(line["seed"]),
            "steps": int(line["steps"]), "train_seconds": number("train_seconds"),
            "precision": line.get("precision", ""), "fingerprint": line["fingerprint"],
            "skipped_scans": [],
        },
    }  # fmt: skip
    if all(name in line for name in _FIGURES):
        weighted, accuracy, error = map(number, _FIGURES)
        bins: dict[str, list[float]] = {"points": [], "confidence": [], "accuracy": []}
        found |= {
            "fwiou": weighted, "accuracy": accuracy, "calibration": {"ece": error, **bins},
            "distance": {name: {"miou": number(name)} for name in distances},
        }  # fmt: skip
    return found
