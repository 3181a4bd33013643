"""Group results for comparison: protocols, label budgets, rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rangeseg.errors import ConfigError
from rangeseg.report.gains import Gain, paired_gain
from rangeseg.report.rows import STRONG, Row, in_order, init_text, propagation_text, row_name

Result = Mapping[str, Any]
"""A result of ``read_result`` or ``read_results_csv``; the latter holds less."""

KINDS = {"point": "point", "point_raw": "raw point", "pixel": "pixel"}
"""The three kinds of mIoU -> their names in tables."""


@dataclass
class Budget:
    """The runs of one comparison with the same labels; they share a table.

    Attributes:
        labels: value of ``--labels``.
        labelled_scans: number of labelled scans.
        runs: row -> seed -> result.
        one_propagation: whether all propagation of the comparison has the same settings.
    """

    labels: str
    labelled_scans: int
    runs: dict[Row, dict[int, Result]] = field(default_factory=dict)
    one_propagation: bool = False

    @property
    def rows(self) -> list[Row]:
        """The controls, then the methods."""
        return in_order(self.runs)

    @property
    def controls(self) -> list[Row]:
        """The supervised rows."""
        return [row for row in self.rows if row.is_control]

    def name(self, row: Row) -> str:
        """Name of a row; of settings that the header states for all rows only the reach."""
        if self.one_propagation:
            row = row._replace(propagation=row.propagation.partition(",")[0])
        return row_name(row)

    @property
    def methods(self) -> list[Row]:
        """All rows except the controls."""
        return [row for row in self.rows if not row.is_control]

    def miou(self, row: Row, kind: str = "point") -> dict[int, float]:
        """Seed -> mIoU of a row; ``kind`` is one of KINDS."""
        return {seed: float(r["miou"][kind]) for seed, r in self.runs[row].items()}

    def gain(self, row: Row, other: Row) -> Gain | None:
        """The gain in point mIoU; None without a common seed, or over the row itself."""
        return None if row == other else paired_gain(self.miou(row), self.miou(other))

    def gain_over(self, control: Row, row: Row) -> Gain | None:
        """The gain over a control; None also if it is not a control of the row."""
        return self.gain(row, control) if row.has_control(control) else None

    def classes(self) -> list[str]:
        """Names of the classes, in the order of the results."""
        results = [result for runs in self.runs.values() for result in runs.values()]
        return list(dict.fromkeys(name for result in results for name in result["iou"]))

    def class_iou(self, row: Row, name: str) -> dict[int, float]:
        """Seed -> IoU of a class; seeds without the class are left out."""
        found = {seed: r["iou"].get(name) for seed, r in self.runs[row].items()}
        return {seed: float(iou) for seed, iou in found.items() if iou is not None}

    def class_gain(self, row: Row, control: Row, name: str) -> Gain | None:
        """The gain in the IoU of a class; None without a common seed."""
        return paired_gain(self.class_iou(row, name), self.class_iou(control, name))

    def train_seconds(self, row: Row) -> float | None:
        """Mean training time of a row; None if unknown for all runs."""
        seconds = [r["run"]["train_seconds"] for r in self.runs[row].values()]
        known = [value for value in seconds if value is not None]
        return statistics.mean(known) if known else None

    def notes(self) -> list[str]:
        """Caveats for a reader of the table."""
        notes = []
        single = [self.name(row) for row in self.rows if len(self.runs[row]) == 1]
        if single:
            notes.append(
                f"Fewer than 2 seeds, so neither a spread nor an interval: {'; '.join(single)}."
            )
        kinds = {(p, row.init) for row in self.rows for p in ("", row.propagation)}
        for propagation, init in sorted(kinds):
            strong = STRONG._replace(propagation=propagation, init=init)
            if strong not in self.runs:
                notes.append(f"Without {self.name(strong)} the gain of a method is unknown.")
        for row in self.rows:
            for seed, result in sorted(self.runs[row].items()):
                if skipped := len(result["run"]["skipped_scans"]):
                    notes.append(
                        f"{self.name(row)}, seed {seed}: learnt without {skipped} of its scans, "
                        "which could not be read."
                    )
        for control in self.controls:
            for row in self.rows:
                gain, seeds = self.gain_over(control, row), len(self.runs[row])
                pairs = gain.pairs if gain else 0
                if row.has_control(control) and pairs < seeds:
                    notes.append(
                        f"{self.name(row)}: only {pairs} of {seeds} seeds are common with "
                        f"{self.name(control)}, and its gain is over these."
                    )
        return notes


@dataclass
class Comparison:
    """Runs with the same number of steps and the same protocol.

    Attributes:
        protocol: protocol of the results, without propagation and initial weights, which may differ
            between rows.
        scans: number of evaluated scans.
        skipped: ids of scans that could not be read.
        steps: training steps per run.
        common: hash of the settings outside the methods; empty for results of a CSV.
        budgets: label budgets by number of labelled scans.
    """

    protocol: Mapping[str, Any]
    scans: int
    skipped: Sequence[str]
    steps: int
    common: str
    budgets: list[Budget]

    def facts(self) -> dict[str, str]:
        """The protocol in words: name -> value."""
        rows = [item for budget in self.budgets for item in budget.runs.items()]
        runs = [result["run"] for _, results in rows for result in results.values()]
        propagation = _all_of((row.propagation for row, _ in rows), " and ")
        init = _all_of((row.init for row, _ in rows), " and ")
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return {
            "data set": str(self.protocol["dataset"]),
            "split": f"{self.protocol['split']} ({self.scans} scans{skipped})",
            **(self._judgement() if "backend" in self.protocol else {}),
            **({"propagation": propagation} if propagation else {}),
            **({"begun from": init} if init else {}),
            "steps": str(self.steps),
            "precision": _all_of(run["precision"] for run in runs),
            **self._settings(runs),
        }

    def _judgement(self) -> dict[str, str]:
        """Describe prediction and evaluation."""
        protocol = self.protocol
        back_projection = str(protocol["back_projection"])
        if back_projection != "none":
            back_projection += f" {protocol['window']}x{protocol['window']}"
        for name in ("neighbours", "sigma", "cutoff"):
            if name in protocol:
                back_projection += f", {name} {protocol[name]}"
        absent = {"semantickitti": "count as 0", "nuscenes": "left out of the mean"}
        policy, views = str(protocol["policy"]), int(protocol.get("tta", 1))
        size = "x".join(map(str, protocol["image"]))
        return {
            "image": size + (f", {protocol['layers']} layers" if "layers" in protocol else ""),
            "rows": str(protocol["rows"]),
            "back-projection": back_projection,
            **({"test-time augmentation": f"{views} views"} if views > 1 else {}),
            **({"corruption": protocol["corruption"]} if "corruption" in protocol else {}),
            "backend": str(protocol["backend"]),
            "absent classes": f"{absent.get(policy, '')} ({policy} policy)".strip(),
        }

    def _settings(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Describe the training."""
        if any("common" not in run for run in runs):
            return {"source": "a CSV, which holds neither the protocol nor the settings"}
        changed = _all_of(_call(run["method"], run["settings"]) for run in runs)
        return {
            "labelled crops a step": _all_of(str(run["batch_size"]) for run in runs),
            "device": _all_of(run["device"] for run in runs),
            "methods' settings": changed or "their defaults",
            "other settings": f"{self.common} (their hash, the same in every row)",
        }


def _all_of(words: Iterable[str], separator: str = ", ") -> str:
    return separator.join(sorted(set(words) - {""}))


def _call(method: str, settings: Mapping[str, Any]) -> str:
    """``cps(weight=0.3)``; empty if all settings are the defaults."""
    words = ", ".join(f"{name}={value}" for name, value in settings.items())
    return words and f"{method}({words})"


def comparisons(results: Iterable[Result]) -> list[Comparison]:
    """Group comparable results.

    Args:
        results: results of ``read_result``.

    Returns:
        Comparisons sorted by data set. The runs of each share protocol, numbers of scans and steps,
        and all settings outside the methods. A wider network is no gain of a method. Propagation
        and initial weights may differ; they form separate rows.

    Raises:
        ConfigError: runs of one row differ in more than their seed, or runs of one seed in their
            labelled scans.
    """
    found: dict[str, Comparison] = {}
    for result in results:
        run, scans = result["run"], result["scans"]
        own = ("propagation", "init")
        protocol = {k: v for k, v in result["protocol"].items() if k not in own}
        skipped = sorted(result["skipped_scans"])
        judged = protocol["dataset"], protocol, scans, skipped
        common = run.get("common", "")
        key = json.dumps([*judged, run["steps"], common], sort_keys=True)
        new = Comparison(protocol, scans, skipped, run["steps"], common, [])
        comparison = found.setdefault(key, new)
        _add(_budget(comparison, run["labels"], run["labelled_scans"]), result)
    for comparison in found.values():
        comparison.budgets.sort(key=lambda b: (b.labelled_scans, b.labels))
        kinds = {row.propagation for b in comparison.budgets for row in b.runs if row.propagation}
        for budget in comparison.budgets:
            budget.one_propagation = len(kinds) == 1
    return [found[key] for key in sorted(found)]


def row_of(result: Result) -> Row:
    """The row that a result belongs to."""
    if "row" in result:
        row: Row = result["row"]
        return row
    run, protocol = result["run"], result["protocol"]
    propagation = propagation_text(protocol.get("propagation"))
    return Row(run["method"], run["labelled"], propagation, init_text(protocol.get("init")))


def _budget(comparison: Comparison, labels: str, labelled_scans: int) -> Budget:
    for budget in comparison.budgets:
        if (budget.labels, budget.labelled_scans) == (labels, labelled_scans):
            return budget
    comparison.budgets.append(Budget(labels, labelled_scans))
    return comparison.budgets[-1]


def _add(budget: Budget, result: Result) -> None:
    run = result["run"]
    runs = budget.runs.setdefault(row_of(result), {})
    for other in runs.values():
        if other["run"]["seed"] == run["seed"]:
            raise _unlike(result, other, "have one seed")
        if other["run"]["fingerprint"] != run["fingerprint"]:
            raise _unlike(result, other, "differ in their settings")
    for same in [row[run["seed"]] for row in budget.runs.values() if run["seed"] in row]:
        if same["run"].get("labelled_list") != run.get("labelled_list"):
            raise _unlike(result, same, "learnt from different labelled scans")
    runs[run["seed"]] = result


def _unlike(result: Result, other: Result, reason: str) -> ConfigError:
    return ConfigError(
        f"{other['file']} and {result['file']} {reason}, so they cannot share a table: name only "
        "the runs to compare"
    )
