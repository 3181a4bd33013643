"""Distances and calibration in reports; one run on corrupted scans."""

from __future__ import annotations

import csv
import io

import pytest

from rangeseg.report.details import reliability
from rangeseg.report.page import report_page
from rangeseg.report.robustness import robustness_table
from rangeseg.report.tables import report, results_csv
from tests.report.test_page import Page
from tests.report.test_tables import KITTI, STRONG, result, tables


def runs() -> list[dict]:
    return [result(*STRONG, 0, 30), result(*STRONG, 1, 32, far=8.0), result("cps", "strong", 0, 40)]


def test_the_report_has_means_over_the_seeds_that_have_a_figure() -> None:
    (table,) = [t for t in tables(report(runs())) if "ECE" in t[0]]
    assert table == [
        ["method", "fwIoU", "accuracy", "ECE", "0-10 m", "50+ m"],
        ["supervised, strong", "61.0", "71.0", "3.5", "36.0", "8.0"],
        ["cps", "70.0", "80.0", "3.0", "45.0", "–"],
    ]


@pytest.mark.usefixtures("_without_plots")
def test_the_page_draws_a_reliability_curve_for_each_row() -> None:
    page = Page(report_page(runs()))
    (table,) = [t for t in page.tables if "ECE" in t[0]]
    assert table[0][-1] == "reliability"
    curves = [attributes for tag, attributes in page.tags if tag == "polyline"]
    # Accuracies 80 and 81, each of 100 points; down is more.
    assert [curve["points"].split() for curve in curves] == [["90.0,19.5"], ["90.0,20.0"]]


@pytest.fixture
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rangeseg.report.page.miou_plot", lambda *words: b"")


def test_curves_of_seeds_are_those_of_their_points_together() -> None:
    first = {"points": [0, 100], "confidence": [None, 90.0], "accuracy": [None, 80.0]}
    second = {"points": [1, 300], "confidence": [10.0, 94.0], "accuracy": [0.0, 60.0]}
    curve = reliability([{"calibration": first}, {"calibration": second}])
    assert curve == [(10.0, 0.0), (93.0, 65.0)]
    assert reliability([]) == []


def test_csv_has_them_too() -> None:
    first, second, _ = csv.DictReader(io.StringIO(results_csv(runs()), newline=""))
    assert (first["ECE"], first["fwIoU"], first["0-10 m"]) == ("3.0", "60", "35")
    assert (first["50+ m"], second["50+ m"]) == ("", "8.0")


def test_corrupted_scans_make_a_table_of_their_own() -> None:
    corrupted = [
        result(*STRONG, 0, point, protocol={"corruption": name})
        for name, point in (("beams:2", 30), ("noise:0.1", 10))
    ]
    header, lines = robustness_table([result(*STRONG, 0, 40), *corrupted])
    assert header == ["corruption", "point", "raw point", "pixel", "kept", "accuracy", "ECE"]
    assert lines == [
        ["none", "40.0", "39.0", "41.0", "100.0", "80.0", "3.0"],
        ["beams:2", "30.0", "29.0", "31.0", "75.0", "70.0", "3.0"],
        ["noise:0.1", "10.0", "9.0", "11.0", "25.0", "50.0", "3.0"],
        ["mean of these", "20.0", "19.0", "21.0", "50.0", "60.0", "3.0"],
    ]
    # In a report they are a part of their own, which says what was done.
    text = report([result(*STRONG, 0, 40), *corrupted])
    assert text.count("data set: simulated") == 3
    assert "corruption: beams:2" in text


def test_no_published_figure_stands_beside_corrupted_scans_or_other_first_weights() -> None:
    protocol = {**KITTI["protocol"], "corruption": "beams:2"}
    clean = result("cps", "plain", 0, 36, published=[], **KITTI)
    worse = result("cps", "plain", 0, 30, published=[], **{**KITTI, "protocol": protocol})
    assert "published (FIDNet, pixel metric)" in report([clean])
    text = report([worse])
    assert "As published" not in text
    assert "semantic_kitti.yaml: corruption beams:2 (published: none)." in text
    init = {"origin": "official FIDNet", "weights": "1a2b"}
    begun = {**clean, "protocol": {**clean["protocol"], "init": init}}
    assert "begun from official FIDNet (1a2b) (published: none)." in report([begun])
