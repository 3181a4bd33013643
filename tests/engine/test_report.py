"""The table of many runs: means, spreads, paired gains."""

import pytest

from rangeseg.engine.report import markdown_table, mean_std, paired_gain, report
from rangeseg.errors import ConfigError

PROTOCOL = {
    "dataset": "simulated", "split": "test", "policy": "semantickitti", "image": [32, 512],
    "rows": "scan_order", "back_projection": "nearest_point", "window": 5,
}  # fmt: skip


def result(method: str, labelled: str, seed: int, point: float, labels: str = "1%") -> dict:
    return {
        "protocol": PROTOCOL,
        "miou": {"point": point, "point_raw": point - 1, "pixel": point + 1},
        "scans": 100,
        "run": {
            "method": method, "labelled": labelled, "seed": seed, "labels": labels,
            "labelled_scans": 4, "steps": 600, "fingerprint": method,
        },
    }  # fmt: skip


def test_mean_and_sample_deviation() -> None:
    assert mean_std([30.0, 32.0, 34.0]) == "32.00 ± 2.00"
    assert mean_std([30.0]) == "30.00"


def test_gains_are_paired_by_seed_with_students_interval() -> None:
    values, control = {0: 31.0, 1: 42.0, 2: 53.0, 7: 99.0}, {0: 30.0, 1: 40.0, 2: 50.0}
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(.975, 2) = 4.3027.
    assert paired_gain(values, control) == "+2.00 [-0.48, +4.48]"
    assert paired_gain({0: 31.0}, control) == "+1.00"
    assert paired_gain({9: 31.0}, control) == "–"


def test_the_controls_come_first_and_every_method_is_compared_with_them() -> None:
    points = {("cps", "strong"): 33, ("supervised", "strong"): 31, ("supervised", "plain"): 30}
    table = report(
        result(method, labelled, seed, point + seed)
        for (method, labelled), point in points.items()
        for seed in (0, 1)
    )
    rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[0] for row in cells[1:]] == ["supervised, plain", "supervised, strong", "cps"]
    assert cells[3][1:5] == ["2", "33.50 ± 0.71", "32.50 ± 0.71", "34.50 ± 0.71"]
    assert cells[3][5].startswith("+3.00")
    assert cells[3][6].startswith("+2.00")
    assert "split test (100 scans)" in table


def test_other_protocols_get_tables_of_their_own() -> None:
    table = report([result("cps", "strong", 0, 30), result("cps", "strong", 0, 40, labels="10%")])
    assert table.count("| method") == 2


def test_runs_that_differ_in_more_than_the_seed_do_not_share_a_row() -> None:
    other = result("cps", "strong", 1, 40)
    other["run"]["fingerprint"] = "width 128"
    for second in (other, result("cps", "strong", 0, 40)):
        with pytest.raises(ConfigError, match="cannot share a row"):
            report([result("cps", "strong", 0, 30), second])


@pytest.mark.parametrize("width", [1, 12])
def test_columns_are_aligned(width: int) -> None:
    table = markdown_table(["a", "b"], [["x" * width, "1"]]).splitlines()
    assert len({len(line) for line in table}) == 1
