"""Means with their spreads, and gains paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
        mean: mean of the differences per seed.
        half: half width of the interval; None for a single difference.
        pairs: number of common seeds.
    """

    mean: float
    half: float | None
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether an interval exists and excludes 0."""
        return self.half is not None and abs(self.mean) > self.half

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:+.2f}"
        low, high = self.mean - self.half, self.mean + self.half
        return f"{self.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def paired_gain(values: Mapping[int, float], control: Mapping[int, float]) -> Gain | None:
    """Mean of the differences per seed with its 95 % interval (Student's t).

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
