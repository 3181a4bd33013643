"""Results grouped for comparison, with means, spreads and gains paired by seed."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rangeseg.errors import ConfigError
from rangeseg.methods import METHODS

Result = Mapping[str, Any]
"""What ``read_result`` returned."""

Row = tuple[str, str]
"""A method and its labelled branch, ``("cps", "strong")``."""

KINDS = {"point": "point", "point_raw": "raw point", "pixel": "pixel"}
"""The three kinds of mIoU -> their names in tables."""

STRONG: Row = ("supervised", "strong")
CONTROLS: tuple[Row, ...] = (("supervised", "plain"), STRONG)


def row_name(row: Row) -> str:
    """``supervised, plain``; for methods the strong branch is the rule and goes unnamed."""
    method, labelled = row
    return f"{method}, {labelled}" if method == "supervised" or labelled == "plain" else method


@dataclass(frozen=True)
class Spread:
    """A mean with its sample standard deviation, None for a single value."""

    mean: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


def mean_std(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Gain:
    """A mean difference with its 95 % interval.

    Attributes:
        mean: of the differences seed by seed.
        half: half the width of the interval; None for a single difference.
        pairs: number of common seeds.
    """

    mean: float
    half: float | None
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether there is an interval that does not contain 0."""
        return self.half is not None and abs(self.mean) > self.half

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:+.2f}"
        low, high = self.mean - self.half, self.mean + self.half
        return f"{self.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def paired_gain(values: Mapping[int, float], control: Mapping[int, float]) -> Gain | None:
    """Mean of the differences seed by seed with its 95 % interval (Student's t).

    Args:
        values: seed -> mIoU of a method.
        control: seed -> mIoU of the control.

    Returns:
        The gain; None without a common seed.
    """
    from scipy import stats

    differences = [values[seed] - control[seed] for seed in sorted(values.keys() & control.keys())]
    if not differences:
        return None
    half, pairs = None, len(differences)
    if pairs > 1:
        error = statistics.stdev(differences) / math.sqrt(pairs)
        half = float(stats.t.ppf(0.975, pairs - 1)) * error
    return Gain(statistics.mean(differences), half, pairs)


@dataclass
class Budget:
    """The runs of one comparison with the same labels; they share a table.

    Attributes:
        labels: as given to ``--labels``.
        labelled_scans: number of labelled scans.
        runs: row -> seed -> result.
    """

    labels: str
    labelled_scans: int
    runs: dict[Row, dict[int, Result]] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """The controls, then the methods."""
        return [*self.controls, *self.methods]

    @property
    def controls(self) -> list[Row]:
        """The supervised rows."""
        return [row for row in CONTROLS if row in self.runs]

    @property
    def methods(self) -> list[Row]:
        """All rows but the controls, in the order of METHODS."""
        order = [*METHODS, *(method for method, _ in self.runs)]
        rest = [row for row in self.runs if row not in CONTROLS]
        return sorted(rest, key=lambda row: (order.index(row[0]), row[1]))

    def miou(self, row: Row, kind: str = "point") -> dict[int, float]:
        """Seed -> mIoU of a row; ``kind`` is one of KINDS."""
        return {seed: float(r["miou"][kind]) for seed, r in self.runs[row].items()}

    def gain(self, row: Row, control: Row) -> Gain | None:
        """The gain in point mIoU; None without a common seed, or over the row itself."""
        return None if row == control else paired_gain(self.miou(row), self.miou(control))

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
        """Mean duration of a row's trainings; None if no run knows it."""
        seconds = [r["run"]["train_seconds"] for r in self.runs[row].values()]
        known = [value for value in seconds if value is not None]
        return statistics.mean(known) if known else None

    def notes(self) -> list[str]:
        """Caveats for a reader of the table."""
        notes = []
        single = [row_name(row) for row in self.rows if len(self.runs[row]) == 1]
        if single:
            notes.append(
                f"Fewer than 2 seeds, so neither a spread nor an interval: {'; '.join(single)}."
            )
        if STRONG not in self.runs:
            notes.append(f"Without {row_name(STRONG)} nobody can say what a method gained.")
        for row in self.rows:
            for seed, result in sorted(self.runs[row].items()):
                if skipped := len(result["run"]["skipped_scans"]):
                    notes.append(
                        f"{row_name(row)}, seed {seed}: learnt without {skipped} of its scans, "
                        "which could not be read."
                    )
        for control in self.controls:
            for row in self.rows:
                gain, seeds = self.gain(row, control), len(self.runs[row])
                pairs = gain.pairs if gain else 0
                if row != control and pairs < seeds:
                    notes.append(
                        f"{row_name(row)}: only {pairs} of {seeds} seeds are common with "
                        f"{row_name(control)}, and its gain is over these."
                    )
        return notes


@dataclass
class Comparison:
    """Runs with the same number of steps and the same protocol.

    Attributes:
        protocol: of the results.
        scans: number of evaluated scans.
        skipped: ids of scans that could not be read.
        steps: of each training.
        common: hash of the settings besides the methods' own.
        budgets: by number of labelled scans.
    """

    protocol: Mapping[str, Any]
    scans: int
    skipped: Sequence[str]
    steps: int
    common: str
    budgets: list[Budget]

    def facts(self) -> dict[str, str]:
        """The protocol in words: name -> value."""
        protocol = self.protocol
        back_projection = str(protocol["back_projection"])
        if back_projection != "none":
            back_projection += f" {protocol['window']}x{protocol['window']}"
        for name in ("neighbours", "sigma", "cutoff"):
            if name in protocol:
                back_projection += f", {name} {protocol[name]}"
        absent = {"semantickitti": "count as 0", "nuscenes": "left out of the mean"}
        policy = str(protocol["policy"])
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        rows = [row for budget in self.budgets for row in budget.runs.values()]
        runs = [result["run"] for row in rows for result in row.values()]
        changed = _all_of(_call(run["method"], run["settings"]) for run in runs)
        return {
            "data set": str(protocol["dataset"]),
            "split": f"{protocol['split']} ({self.scans} scans{skipped})",
            "image": f"{protocol['image'][0]}x{protocol['image'][1]}",
            "rows": str(protocol["rows"]),
            "back-projection": back_projection,
            "absent classes": f"{absent.get(policy, '')} ({policy} policy)".strip(),
            "steps": str(self.steps),
            "precision": _all_of(run["precision"] for run in runs),
            "labelled crops a step": _all_of(str(run["batch_size"]) for run in runs),
            "device": _all_of(run["device"] for run in runs),
            "methods' settings": changed or "their defaults",
            "other settings": f"{self.common} (their hash, the same in every row)",
        }


def _all_of(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words) - {""}))


def _call(method: str, settings: Mapping[str, Any]) -> str:
    """``cps(weight=0.3)``; empty if all settings are the defaults."""
    words = ", ".join(f"{name}={value}" for name, value in settings.items())
    return words and f"{method}({words})"


def comparisons(results: Iterable[Result]) -> list[Comparison]:
    """Group the results that may be compared.

    Args:
        results: what ``read_result`` returned.

    Returns:
        Comparisons sorted by data set. The runs of each have one protocol, one number of scans and
        of steps, and the same settings besides the methods' own: a wider network is no gain of a
        method.

    Raises:
        ConfigError: runs of one row differ in more than their seed, or runs of one seed in their
            labelled scans.
    """
    found: dict[str, Comparison] = {}
    for result in results:
        run, protocol, scans = result["run"], result["protocol"], result["scans"]
        skipped = sorted(result["skipped_scans"])
        judged = protocol["dataset"], protocol, scans, skipped
        key = json.dumps([*judged, run["steps"], run["common"]], sort_keys=True)
        new = Comparison(protocol, scans, skipped, run["steps"], run["common"], [])
        comparison = found.setdefault(key, new)
        _add(_budget(comparison, run["labels"], run["labelled_scans"]), result)
    for comparison in found.values():
        comparison.budgets.sort(key=lambda b: (b.labelled_scans, b.labels))
    return [found[key] for key in sorted(found)]


def _budget(comparison: Comparison, labels: str, labelled_scans: int) -> Budget:
    for budget in comparison.budgets:
        if (budget.labels, budget.labelled_scans) == (labels, labelled_scans):
            return budget
    comparison.budgets.append(Budget(labels, labelled_scans))
    return comparison.budgets[-1]


def _add(budget: Budget, result: Result) -> None:
    run = result["run"]
    runs = budget.runs.setdefault((run["method"], run["labelled"]), {})
    for other in runs.values():
        if other["run"]["seed"] == run["seed"]:
            raise _unlike(result, other, "have one seed")
        if other["run"]["fingerprint"] != run["fingerprint"]:
            raise _unlike(result, other, "differ in their settings")
    for same in [row[run["seed"]] for row in budget.runs.values() if run["seed"] in row]:
        if same["run"]["labelled_list"] != run["labelled_list"]:
            raise _unlike(result, same, "learnt from different labelled scans")
    runs[run["seed"]] = result


def _unlike(result: Result, other: Result, reason: str) -> ConfigError:
    return ConfigError(
        f"{other['file']} and {result['file']} {reason}, so they cannot share a table: name only "
        "the runs to compare"
    )
