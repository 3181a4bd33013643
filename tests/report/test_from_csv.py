"""A report of the CSV of a report."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from matplotlib.figure import Figure

from rangeseg.cli import main
from rangeseg.errors import DataError
from rangeseg.methods.base import Labelled
from rangeseg.report.comparison import comparisons
from rangeseg.report.from_csv import read_results_csv
from rangeseg.report.page import report_page
from rangeseg.report.plots import LIGHT, LINES, WIDE, miou_plot
from rangeseg.report.tables import report, results_csv
from tests.report.test_tables import result, tables

ROWS = [("supervised", "strong"), ("supervised", "plain"), ("cps", "strong"), ("ael", "strong")]


def runs() -> list[dict]:
    return [
        result(
            method, labelled, seed, 40.0 + 3 * number + seed,
            iou={"car": 50.0, "bus": 20.0 if seed else None},
        )
        for number, (method, labelled) in enumerate(ROWS)
        for seed in range(3)
    ]  # fmt: skip


def test_the_tables_are_those_of_the_runs(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(results_csv(runs()), newline="")
    again = read_results_csv(file)
    assert tables(report(again)) == tables(report(runs()))
    assert "source: a CSV" in report(again)
    assert "cps" in report_page(again)
    assert results_csv(again) == results_csv(runs())


def test_each_data_set_has_its_own_classes(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    pair = [
        result("cps", "strong", 0, 40.0, iou={name: 40.0}, protocol={"dataset": name})
        for name in ("bus", "car")
    ]
    file.write_text(results_csv(pair), newline="")
    first, second = comparisons(read_results_csv(file))
    assert [c.budgets[0].classes() for c in (first, second)] == [["bus"], ["car"]]


def test_the_command_reads_the_committed_results(capsys: pytest.CaptureFixture[str]) -> None:
    """Some are of before distances and calibration were judged."""
    folder = Path(__file__).parents[1] / "benchmarks"
    for name in (
        "simulated_test", "simulated_test_float32", "simulated_8_crops_test",
        "simulated_frnet_test", "propagation_near_test",
    ):  # fmt: skip
        assert main(["report", str(folder / f"{name}.csv")]) == 0
        assert "± " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as CSV"),
        ("", "holds no runs: give a file of `rangeseg report --csv`"),
        ("a,b\n1,2\n", "line 2 is no run of `rangeseg report --csv`"),
    ],
)
def test_what_is_no_such_file(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=message):
        read_results_csv(file)


def test_every_labelled_branch_is_drawn_as_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    runs = [result("supervised", branch, 0, 40) for branch in get_args(Labelled)]
    (comparison,) = comparisons(runs)
    (budget,) = comparison.budgets
    miou_plot(comparison, LIGHT, WIDE)
    names = ["supervised, plain", "supervised, strong", "supervised, coin"]
    assert [line.get_label() for line in drawn[0].axes[0].containers] == names
    assert len({repr(style) for style in LINES.values()}) == 2 * len(names)
    assert [budget.name(control) for control in budget.controls] == names


@pytest.mark.parametrize("apart", [0.1, 5.0])
def test_an_axis_spans_two_points_at_least(apart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    pair = [result("cps", "strong", seed, 40 + apart * seed) for seed in range(2)]
    miou_plot(comparisons(pair)[0], LIGHT, WIDE)
    low, high = drawn[0].axes[0].get_ylim()
    assert high - low == pytest.approx(2.0) if apart < 1 else high - low > 5
    assert low < 40 < 40 + apart < high
