"""Many results -> what may be compared, with means, spreads and gains paired by seed."""

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
"""What ``read_result`` returned; ``run`` may also name ``batch_size`` and ``device``."""

Row = tuple[str, str]
"""A method and its labelled branch, ``("cps", "strong")``."""

KINDS = {"point": "point", "point_raw": "raw point", "pixel": "pixel"}
"""The three mIoU figures, and what tables call them."""

STRONG: Row = ("supervised", "strong")
CONTROLS: tuple[Row, ...] = (("supervised", "plain"), STRONG)


def row_name(row: Row) -> str:
    """``supervised, plain``; the strong branch is the rule and goes unnamed but for the control."""
    method, labelled = row
    return f"{method}, {labelled}" if method == "supervised" or labelled == "plain" else method


@dataclass(frozen=True)
class Spread:
    """A mean with its sample standard deviation, which one value has not."""

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
        half: half the width of the interval; None for a single difference, which has none.
        pairs: how many seeds were common.
    """

    mean: float
    half: float | None
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether there is an interval, and it does not hold 0."""
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
        control: seed -> mIoU of what it is compared with.

    Returns:
        The gain; None where no seed is common.
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
    """The runs of one comparison that had the same labels: what may stand in one table.

    Attributes:
        labels: as given to ``--labels``.
        labelled_scans: how many scans that were.
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
        """Those of the supervised rows that are there."""
        return [row for row in CONTROLS if row in self.runs]

    @property
    def methods(self) -> list[Row]:
        """All but the controls, in the order they are registered in."""
        order = [*METHODS, *(method for method, _ in self.runs)]
        rest = [row for row in self.runs if row not in CONTROLS]
        return sorted(rest, key=lambda row: (order.index(row[0]), row[1]))

    def miou(self, row: Row, kind: str = "point") -> dict[int, float]:
        """Seed -> mIoU of a row; ``kind`` is one of KINDS."""
        return {seed: float(r["miou"][kind]) for seed, r in self.runs[row].items()}

    def gain(self, row: Row, control: Row) -> Gain | None:
        """What a row gains in point mIoU; None where no seed is common, or for a row itself."""
        return None if row == control else paired_gain(self.miou(row), self.miou(control))

    def classes(self) -> list[str]:
        """Names of the classes, in the order of the results."""
        names: dict[str, None] = {}
        for runs in self.runs.values():
            for result in runs.values():
                names |= dict.fromkeys(result["iou"])
        return list(names)

    def class_iou(self, row: Row, name: str) -> dict[int, float]:
        """Seed -> IoU of a class; seeds where it is absent are left out."""
        found = {seed: r["iou"].get(name) for seed, r in self.runs[row].items()}
        return {seed: float(iou) for seed, iou in found.items() if iou is not None}

    def class_gain(self, row: Row, control: Row, name: str) -> Gain | None:
        """What a row gains in the IoU of a class; None where no seed is common."""
        return paired_gain(self.class_iou(row, name), self.class_iou(control, name))

    def train_seconds(self, row: Row) -> float | None:
        """Mean duration of a row's trainings; None where no run knows it."""
        known = [r["run"]["train_seconds"] for r in self.runs[row].values()]
        known = [seconds for seconds in known if seconds is not None]
        return statistics.mean(known) if known else None

    def notes(self) -> list[str]:
        """What a reader must know before believing the table."""
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
    """Runs that were trained for as long and judged in the same way.

    Attributes:
        protocol: of the results.
        scans: how many were evaluated.
        skipped: ids of those that were not, as they could not be read.
        steps: of each training.
        common: what stands for the settings besides the methods' own.
        budgets: by number of labelled scans.
    """

    protocol: Mapping[str, Any]
    scans: int
    skipped: Sequence[str]
    steps: int
    common: str
    budgets: list[Budget]

    def facts(self) -> dict[str, str]:
        """The protocol in words: what -> how."""
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
        facts = {
            "data set": str(protocol["dataset"]),
            "split": f"{protocol['split']} ({self.scans} scans{skipped})",
            "image": f"{protocol['image'][0]}x{protocol['image'][1]}",
            "rows": str(protocol["rows"]),
            "back-projection": back_projection,
            "absent classes": f"{absent.get(policy, '')} ({policy} policy)".strip(),
            "steps": str(self.steps),
        }
        facts["precision"] = ", ".join(sorted({r["run"]["precision"] for r in self._results()}))
        for key, name in (("batch_size", "labelled crops a step"), ("device", "device")):
            found = sorted({str(r["run"][key]) for r in self._results() if key in r["run"]})
            if found:
                facts[name] = ", ".join(found)
        changed = {_call(r["run"]["method"], r["run"]["settings"]) for r in self._results()}
        facts["methods' settings"] = ", ".join(sorted(changed - {""})) or "their defaults"
        facts["other settings"] = f"{self.common} (their hash, the same in every row)"
        return facts

    def _results(self) -> list[Result]:
        return [r for b in self.budgets for runs in b.runs.values() for r in runs.values()]


def _call(method: str, settings: Mapping[str, Any]) -> str:
    """``cps(weight=0.3)``; nothing where all settings are the defaults."""
    words = ", ".join(f"{name}={value}" for name, value in settings.items())
    return words and f"{method}({words})"


def comparisons(results: Iterable[Result]) -> list[Comparison]:
    """Put together what may be compared.

    Args:
        results: what ``read_result`` returned.

    Returns:
        By data set; each has only runs of one protocol, number of scans, number of steps, and of
        the same settings besides the methods' own: a wider network is no gain of a method.

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
