"""Runs with propagated labels: rows, controls and gains of their own, down to a real training."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.motion.propagation import TrainPropagation
from rangeseg.report.page import report_page
from rangeseg.report.rows import Row, propagation_text, row_name
from rangeseg.report.tables import report, results_csv
from tests.report.test_page import Page
from tests.report.test_tables import result, tables

USUAL = TrainPropagation().model_dump(mode="json", exclude={"poses", "folder"})
REACH_2 = {**USUAL, "reach": "2", "poses": "data set", "scans": 8}
NAME = "supervised, strong + propagation (reach 2)"


def carried(method: str, labelled: str, seed: int, point: float, **more) -> dict:
    protocol = {**more.pop("protocol", {}), "propagation": {**REACH_2, **more.pop("changed", {})}}
    return result(method, labelled, seed, point, protocol=protocol, **more)


def results(protocol: dict | None = None, **more) -> list[dict]:
    """Two seeds of the controls and of a method, without propagation and with it."""
    points = {("supervised", "plain"): 30, ("supervised", "strong"): 31, ("cps", "strong"): 33}
    return [
        kind(*row, seed, point + gain + seed, protocol=protocol or {}, **more)
        for kind, gain in ((result, 0), (carried, 5))
        for row, point in points.items()
        for seed in (0, 1)
    ]


def test_names_say_what_is_not_usual() -> None:
    assert propagation_text(None) == ""
    assert propagation_text(REACH_2) == "reach 2, data set poses"
    odd = {**REACH_2, "min_confidence": 0.9, "share": 0.75, "poses": "kiss-icp"}
    text = "reach 2, min confidence 0.9, share 0.75, kiss-icp poses"
    assert propagation_text(odd) == text
    assert row_name(Row("cps", "plain", text)) == f"cps, plain + propagation ({text})"
    assert row_name(Row("cps", "strong", "reach 2, data set poses")) == (
        "cps + propagation (reach 2)"
    )


def test_gains_are_over_the_controls_without_and_with_the_same_propagation() -> None:
    text = report(results())
    main_, between, _, classes = tables(text)
    assert main_[0][5:9] == [
        f"gain over {name} [95 %]"
        for name in (
            "supervised, plain", "supervised, strong", "supervised, plain + propagation (reach 2)",
            NAME,
        )
    ]  # fmt: skip
    gains = {row[0]: [cell.split(" ")[0] for cell in row[5:9]] for row in main_[1:]}
    assert gains == {
        "supervised, plain": ["–", "-1.00", "–", "–"],
        "supervised, strong": ["+1.00", "–", "–", "–"],
        "supervised, plain + propagation (reach 2)": ["+5.00", "+4.00", "–", "-1.00"],
        NAME: ["+6.00", "+5.00", "+1.00", "–"],
        "cps": ["+3.00", "+2.00", "–", "–"],
        "cps + propagation (reach 2)": ["+8.00", "+7.00", "+3.00", "+2.00"],
    }
    assert between[1] == ["cps", "–", "-5.0*"]
    assert classes[0][1:] == list(gains)
    assert "propagation: reach 2, data set poses; steps: 600" in text
    assert "Note" not in text
    assert "propagation" not in report(results()[:6])


def test_other_propagation_is_another_row_and_wants_controls_of_its_own() -> None:
    far = carried("cps", "strong", 0, 40, changed={"reach": "15m"})
    text = report([*results(), far])
    assert "Without supervised, strong + propagation (reach 15m) the gain of a method" in text
    rows = {row[0]: row for row in tables(text)[0]}
    assert rows["cps + propagation (reach 15m)"][5:9] == ["+10.00", "+9.00", "–", "–"]
    assert "reach 15m, data set poses and reach 2, data set poses" in text
    alone = report(results()[6:])
    assert "Without supervised, strong the gain of a method" in alone
    assert "Without supervised, strong + propagation" not in alone


def test_names_leave_out_settings_that_the_header_states_for_all_rows() -> None:
    odd = {"min_confidence": 0.9, "poses": "kiss-icp"}
    text = "reach 2, min confidence 0.9, kiss-icp poses"
    alone = [carried("supervised", "strong", 0, 36, changed=odd)]
    assert f"propagation: {text}; steps" in report(alone)
    assert tables(report(alone))[0][1][0] == NAME
    rows = {row[0] for row in tables(report([*results(), *alone]))[0][1:]}
    assert {NAME, f"supervised, strong + propagation ({text})"} < rows


def test_no_published_figure_is_of_propagated_labels() -> None:
    protocol = {"dataset": "semantic_kitti", "split": "val"}
    runs = results(protocol, scans=191, evaluated=4071, published=[])
    for run in runs:
        if "propagation" in run["protocol"]:
            run["run"]["published"] = ["train.propagation.reach 2 (published: 0)"]
    text = report(runs)
    assert [row[-1] for row in tables(text)[0][1:]] == ["36.2", "–", "–", "–", "–", "–"]


def test_csv_names_propagation() -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(results()), newline="")))
    assert list(rows[0])[3:6] == ["method", "labelled", "propagation"]
    assert [rows[0]["propagation"], rows[-1]["propagation"]] == ["", "reach 2, data set poses"]


def test_the_page_draws_gains_over_a_coin_control() -> None:
    (table, *_) = Page(report_page([*results(), result("supervised", "coin", 0, 32)])).tables
    assert sum(name.startswith("drawn") for name in table[0]) == 3


def test_the_page_draws_gains_over_both_strong_controls() -> None:
    page = Page(report_page(results()))
    table, _, _, without, with_it, between = page.tables
    assert [name for name in table[0] if name.startswith("drawn")] == ["drawn, ±7.0"] * 2
    assert without[0][1:] == [row[0] for row in table[1:] if row[0] != "supervised, strong"]
    assert with_it[:2] == [
        ["class", "supervised, plain + propagation (reach 2)", "cps + propagation (reach 2)"],
        ["mIoU", "-1.0*", "+2.0*"],
    ]
    assert between[0][1:] == ["cps", "cps + propagation (reach 2)"]
    assert "long dashes: coin; dotted: with propagation." in page.text
    assert "propagation" not in Page(report_page(results()[:6])).text


@pytest.mark.slow
def test_a_training_with_propagation_is_named_from_its_folder_to_the_report(
    tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *tiny_config, "--method", "supervised", "--labels", "10%"]
    reach = ["--set", "train.propagation.reach=2"]
    far, off = tmp_path / "far", tmp_path / "off"
    assert main([*words, "--out", str(off)]) == 0
    assert "propagation" not in capsys.readouterr().out
    assert json.loads((off / "result.json").read_text())["protocol"]["propagation"] is None
    assert main([*words, *reach, "--out", str(far)]) == 0
    said = capsys.readouterr().out
    protocol = json.loads((far / "result.json").read_text())["protocol"]
    count = len(list((far / "propagated").rglob("*.npz")))
    assert protocol["propagation"] == {**REACH_2, "scans": count}
    assert 0 < count <= 8  # 2 labelled scans, 2 neighbours each way
    assert f"propagation: reach 2, data set poses, {count} scans were given labels" in said

    # An evaluation needs neither poses nor propagated labels, but has to know how it was.
    shutil.rmtree(far / "propagated")
    assert main(["evaluate", str(far), "--split", "test"]) == 0
    test = json.loads((far / "result_test.json").read_text())["protocol"]
    assert test["propagation"] == protocol["propagation"]
    (far / "propagation.json").unlink()
    capsys.readouterr()
    assert main(["evaluate", str(far)]) == 3
    assert "propagation.json does not name the propagation of labels" in capsys.readouterr().err
    assert main([*words, *reach, "--out", str(far), "--resume"]) == 0
    assert json.loads((far / "result.json").read_text())["protocol"] == protocol

    capsys.readouterr()
    assert main(["report", str(far), str(off)]) == 0
    text = capsys.readouterr().out
    (header, without, with_it), *_ = tables(text)
    assert header[5:7] == [f"gain over {n} [95 %]" for n in ("supervised, strong", NAME)]
    assert [without[0], *without[5:7]] == ["supervised, strong", "–", "–"]
    gain = float(with_it[2]) - float(without[2])
    assert with_it[0] == NAME
    assert float(with_it[5]) == pytest.approx(gain, abs=0.011)
    assert with_it[6] == "–"
