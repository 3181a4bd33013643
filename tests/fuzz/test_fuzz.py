"""Whatever a file holds: it works, or ends in one of our errors that names the file."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.benchmarks.fuzz import Tally, report
from tests.fuzz.targets import Target, make_targets

NAMES = (
    ".bin", ".label", ".pcd.bin", "lidarseg .bin", "index", ".npy", "pack", "split list",
    "configuration", "run's configuration", "simulation stamp", "checkpoint",
)  # fmt: skip
EXAMPLES = 200  # of each: 2,400 in all


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    targets = make_targets(tmp_path_factory.mktemp("fuzz"))
    return {target.name: target for target in targets}


def test_every_target_is_tried(targets: dict[str, Target]) -> None:
    assert tuple(targets) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_works_or_is_refused(name: str, targets: dict[str, Target]) -> None:
    # The same examples every time: new faults are found by the benchmark, not by luck.
    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def try_out(data: st.DataObject) -> None:
        targets[name].try_out(data.draw(targets[name].contents))

    try_out()


@pytest.mark.parametrize(("slowest_s", "faults", "code"), [(0.9, 0, 0), (0.9, 1, 1), (1.1, 0, 1)])
def test_what_the_benchmark_ends_with(
    slowest_s: float, faults: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report({".bin": Tally(Counter(works=3, fault=faults), slowest_s)}) == code
    assert ("an input took 1.10 s, more than 1 s" in capsys.readouterr().out) == (slowest_s > 1)
