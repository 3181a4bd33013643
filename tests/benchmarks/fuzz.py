"""Hostile and damaged files by the ten thousands, and what became of them.

    python -m tests.benchmarks.fuzz [--examples 100000] [--seed 0] [--only NAME]

Every input must work, with an output of the right length, or end in a RangesegError whose message
names the file. Anything else, 30 s without an end too, is a fault: it is shown with its input, and
the exit code is 1, as it is where an input took more than a second. Times are the processor's, so
that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from rangeseg.system.progress import Progress
from tests.fuzz.targets import Hanging, Target, make_targets

CHUNK = 500  # hypothesis keeps track of all examples of a call, and slows down over many
WARM_UP = 20  # the first inputs compile kernels
SHOWN = 5
SLOW_S = 1.0


@dataclass
class Tally:
    """What became of the inputs of one target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    faults: dict[str, bytes] = field(default_factory=dict)  # traceback -> the first input

    def add(self, target: Target, content: bytes) -> None:
        """Try one input out, and a slow one again: the first to need a kernel compiles it."""
        outcome, spent = self._try(target, content)
        if spent > SLOW_S and outcome != "fault":
            outcome, spent = self._try(target, content)
        self.outcomes[outcome] += 1
        self.slowest_s = max(self.slowest_s, spent)

    def _try(self, target: Target, content: bytes) -> tuple[str, float]:
        started = time.process_time()
        try:
            outcome: str = target.try_out(content)
        except (Exception, Hanging):
            outcome = "fault"
            self.faults.setdefault(traceback.format_exc(limit=-3), content)
        return outcome, time.process_time() - started


def try_many(target: Target, tally: Tally, examples: int, number: int) -> None:
    """Try ``examples`` inputs of a target; another ``number``, other inputs."""

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(target.contents)
    def run(content: bytes) -> None:
        tally.add(target, content)

    run()


def main() -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=100_000, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another one, other inputs")
    parser.add_argument("--only", metavar="NAME", help="one target, e.g. .label")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    logging.getLogger("rangeseg").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        targets = [t for t in make_targets(Path(folder)) if arguments.only in (None, t.name)]
        tallies = {target.name: Tally() for target in targets}
        for target in targets:
            try_many(target, Tally(), WARM_UP, arguments.seed)
        each = -(-arguments.examples // max(len(targets), 1))
        with Progress("fuzz", each * len(targets), "input") as progress:
            for start in range(0, each, CHUNK):
                for target in targets:
                    before = tallies[target.name].outcomes.total()
                    examples = min(CHUNK, each - start)
                    try_many(target, tallies[target.name], examples, arguments.seed + start)
                    done = tallies[target.name].outcomes.total() - before
                    progress.update(done, target.name)
    return report(tallies)


def report(tallies: dict[str, Tally]) -> int:
    """Print what became of the inputs of each target; returns the exit code."""
    print(f"{'target':<22}{'works':>9}{'refused':>9}{'faults':>9}{'slowest ms':>12}")
    total: Counter[str] = Counter()
    for name, tally in tallies.items():
        total += tally.outcomes
        print(_row(name, tally.outcomes, tally.slowest_s))
    slowest_s = max((tally.slowest_s for tally in tallies.values()), default=0.0)
    print(_row("all", total, slowest_s))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{total.total()} inputs, most memory {peak:.0f} MiB")
    for name, tally in tallies.items():
        for text, content in list(tally.faults.items())[:SHOWN]:
            print(f"\nfault of {name}, {len(content)} bytes: {content[:200]!r}\n{text}")
    if slowest_s > SLOW_S:
        print(f"\nan input took {slowest_s:.2f} s, more than {SLOW_S:g} s")
    return 1 if total["fault"] or slowest_s > SLOW_S else 0


def _row(name: str, outcomes: Counter[str], slowest_s: float) -> str:
    counts = "".join(f"{outcomes[outcome]:>9}" for outcome in ("works", "refused", "fault"))
    return f"{name:<22}{counts}{1000 * slowest_s:>12.1f}"


if __name__ == "__main__":
    sys.exit(main())
