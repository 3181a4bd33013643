"""Runs that began with the weights of another network: rows, controls and gains of their own."""

import csv
import io

from rangeseg.report.page import report_page
from rangeseg.report.rows import Row, init_text, row_name
from rangeseg.report.tables import report, results_csv
from tests.report.test_page import Page
from tests.report.test_propagation import REACH_2
from tests.report.test_tables import KITTI, result, tables

INIT = {
    "file": "/runs/kitti", "weights": "1a2b3c4d5e6f", "origin": "semantic_kitti cps", "taken": 96,
    "tensors": 98, "new": {},
}  # fmt: skip
NAME = "supervised, strong, from semantic_kitti cps (1a2b3c4d5e6f)"


def results(protocol: dict | None = None, **more) -> list[dict]:
    """Two seeds of a control and a method, from random weights and from others."""
    points = {("supervised", "strong"): 31, ("cps", "strong"): 33}
    return [
        result(*row, seed, point + gain + seed, protocol={**(protocol or {}), "init": init}, **more)
        for init, gain in ((None, 0), (INIT, 5))
        for row, point in points.items()
        for seed in (0, 1)
    ]


def test_names_say_where_a_run_began() -> None:
    assert init_text(None) == ""
    assert row_name(Row("supervised", "strong", init=init_text(INIT))) == NAME
    assert row_name(Row("cps", "strong", "reach 2, data set poses", "x (1)")) == (
        "cps + propagation (reach 2), from x (1)"
    )


def test_gains_are_over_the_controls_of_both() -> None:
    text = report(results())
    main = tables(text)[0]
    assert main[0][5:7] == [f"gain over {name} [95 %]" for name in ("supervised, strong", NAME)]
    assert {row[0]: [cell.split(" ")[0] for cell in row[5:7]] for row in main[1:]} == {
        "supervised, strong": ["–", "–"],
        NAME: ["+5.00", "–"],
        "cps": ["+2.00", "–"],
        "cps, from semantic_kitti cps (1a2b3c4d5e6f)": ["+7.00", "+2.00"],
    }
    assert "begun from: semantic_kitti cps (1a2b3c4d5e6f); steps" in text
    assert "Note" not in text
    assert "begun from" not in report(results()[:4])


def test_other_weights_want_a_control_of_their_own() -> None:
    other = {**INIT, "weights": "ffff00001111"}
    cps = result("cps", "strong", 0, 40, protocol={"init": other})
    text = report([*results(), cps])
    assert "Without supervised, strong, from semantic_kitti cps (ffff00001111) the gain" in text
    alone = report(results()[4:])
    assert "Without" not in alone
    both = result("cps", "strong", 0, 40, protocol={"init": INIT, "propagation": REACH_2})
    assert (
        "Without supervised, strong + propagation (reach 2), from semantic_kitti cps "
        "(1a2b3c4d5e6f) the gain of a method"
    ) in report([*results(), both])


def test_no_published_figure_begins_with_other_weights() -> None:
    runs = []
    for init in (None, INIT):
        protocol = {**KITTI["protocol"], "init": init}
        made = {**KITTI, "protocol": protocol, "published": []}
        runs.append(result("cps", "plain", 0, 30, **made))
    assert [row[-1] for row in tables(report(runs))[0][1:]] == ["36.5", "–"]


def test_csv_and_page_name_the_weights() -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(results()), newline="")))
    assert [rows[0]["init"], rows[-1]["init"]] == ["", "semantic_kitti cps (1a2b3c4d5e6f)"]
    text = Page(report_page(results())).text
    assert "dashed: plain labelled branch, long dashes: coin; dotted: from other weights." in text
    assert "dotted" not in Page(report_page(results()[:4])).text
