"""The table of many runs: means, spreads, paired gains, published figures, CSV."""

import csv
import io
from pathlib import Path

import pytest

from rangeseg.errors import ConfigError
from rangeseg.report.comparison import comparisons
from rangeseg.report.gains import mean_std, paired_gain
from rangeseg.report.published import distance_note, published_figure, published_table
from rangeseg.report.rows import Row
from rangeseg.report.tables import (
    check_report_files,
    difference,
    markdown_table,
    report,
    results_csv,
    write_report,
)

PROTOCOL = {
    "dataset": "simulated", "split": "test", "policy": "semantickitti", "image": [32, 512],
    "rows": "scan_order", "back_projection": "nearest_point", "window": 5, "backend": "torch",
}  # fmt: skip
STRONG = ("supervised", "strong")


def result(
    method: str, labelled: str, seed: int, point: float, labels: str = "1%", scans: int = 4, **more
) -> dict:
    return {
        "protocol": {**PROTOCOL, **more.pop("protocol", {})},
        "miou": {"point": point, "point_raw": point - 1, "pixel": point + 1},
        "iou": more.pop("iou", {"car": point, "road": point + 20}),
        "fwiou": point + 30, "accuracy": point + 40,
        "distance": {"0-10 m": {"miou": point + 5, "classes": 2, "points": 900},
                     "50+ m": {"miou": more.pop("far", None), "classes": 0, "points": 0}},
        "calibration": {"ece": 3.0 + seed, "points": [0, 100], "confidence": [None, 90.0],
                        "accuracy": [None, 80.0 + seed]},
        "scans": more.pop("evaluated", 100),
        "file": f"{method}/{seed}",
        "skipped_scans": more.pop("not_evaluated", {}),
        "run": {
            "method": method, "labelled": labelled, "seed": seed, "labels": labels,
            "labelled_scans": scans, "steps": 600, "fingerprint": method, "common": "a",
            "labelled_list": f"{labels}, {seed}", "train_seconds": 40.0,
            "precision": "float32", "batch_size": 2, "device": "cpu", "settings": {},
            "skipped_scans": {}, "published": None,
            **more,
        },
    }  # fmt: skip


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every Markdown table."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.split("|")[1:-1]])
        elif not line.startswith("|") and found[-1]:
            found.append([])
    return [table for table in found if table]


def test_mean_and_sample_deviation() -> None:
    assert str(mean_std([30.0, 32.0, 34.0])) == "32.00 ± 2.00"
    assert str(mean_std([30.0])) == "30.00"


def test_gains_are_paired_by_seed_with_students_interval() -> None:
    values, control = {0: 31.0, 1: 42.0, 2: 53.0, 7: 99.0}, {0: 30.0, 1: 40.0, 2: 50.0}
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(.975, 2) = 4.3027.
    gain = paired_gain(values, control)
    assert str(gain) == "+2.00 [-0.48, +4.48]"
    assert gain is not None
    assert gain.pairs == 3
    assert str(paired_gain({0: 31.0}, control)) == "+1.00"
    assert paired_gain({9: 31.0}, control) is None


def test_a_difference_is_sure_where_its_interval_does_not_hold_zero() -> None:
    zero = {0: 0.0, 1: 0.0, 2: 0.0}
    # Of 1, 2, 3 the half width is 2.48 (above), of 2, 3, 4 too.
    sure = [paired_gain(dict(enumerate(v)), zero) for v in ([2.0, 3.0, 4.0], [-2.0, -3.0, -4.0])]
    assert [difference(gain) for gain in sure] == ["+3.0*", "-3.0*"]
    assert difference(paired_gain({0: 1.0, 1: 2.0, 2: 3.0}, zero)) == "+2.0"
    assert difference(paired_gain({0: 9.0}, zero)) == "+9.0"  # one seed has no interval
    assert difference(paired_gain(zero, zero)) == "+0.0"


def test_the_controls_come_first_and_every_method_is_compared_with_them() -> None:
    points = {("cps", "strong"): 33, STRONG: 31, ("cutmix_seg", "strong"): 30}
    points |= {("cps", "plain"): 29, ("supervised", "plain"): 30}
    text = report(
        result(method, labelled, seed, point + seed, train_seconds=40.0 + 20 * seed)
        for (method, labelled), point in points.items()
        for seed in (0, 1)
    )
    main, between, _, classes = tables(text)
    assert main[0] == [
        "method", "seeds", "point", "raw point", "pixel", "gain over supervised, plain [95 %]",
        "gain over supervised, strong [95 %]", "train s",
    ]  # fmt: skip
    assert [row[0] for row in main[1:]] == [
        "supervised, plain", "supervised, strong", "cutmix_seg", "cps, plain", "cps",
    ]  # fmt: skip
    assert main[5] == [
        "cps", "2", "33.50 ± 0.71", "32.50 ± 0.71", "34.50 ± 0.71", "+3.00 [+3.00, +3.00]",
        "+2.00 [+2.00, +2.00]", "50",
    ]  # fmt: skip
    assert between == [
        ["row less column", "cutmix_seg", "cps, plain", "cps"],
        ["cutmix_seg", "–", "+1.0*", "-3.0*"],
        ["cps, plain", "-1.0*", "–", "-4.0*"],
        ["cps", "+3.0*", "+4.0*", "–"],
    ]
    assert classes[0] == ["class", *[row[0] for row in main[1:]]]
    assert classes[1:] == [
        ["car", "30.5", "31.5", "30.5", "29.5", "33.5"],
        ["road", "50.5", "51.5", "50.5", "49.5", "53.5"],
    ]
    assert "split: test (100 scans); image: 32x512; rows: scan_order" in text
    assert "back-projection: nearest_point 5x5" in text
    assert "count as 0 (semantickitti policy); steps: 600" in text
    assert "Note" not in text
    assert "published" not in text


def test_layers_are_named() -> None:
    text = report([result(*STRONG, 0, 30, protocol={"layers": 5})])
    assert "; image: 32x512, 5 layers; rows" in text


def test_a_class_is_averaged_over_the_seeds_that_have_it() -> None:
    ious = [{"car": 10.0, "truck": None}, {"car": 20.0, "truck": 4.0}, {"car": 60.0}]
    results = [result(*STRONG, seed, 30, iou=iou) for seed, iou in enumerate(ious)]
    results.append(result("cps", "strong", 0, 30, iou={"car": 1.0, "truck": None}))
    assert tables(report(results))[2][1:] == [["car", "30.0", "1.0"], ["truck", "4.0", "–"]]


def test_too_few_seeds_are_said() -> None:
    one = [result(*STRONG, 0, 31), result("cps", "strong", 0, 33)]
    text = report(one)
    assert "Note: Fewer than 2 seeds, so neither a spread nor an interval: supervised, st" in text
    assert "nor an interval: supervised, strong; cps." in text
    assert tables(text)[0][2][5] == "+2.00"
    text = report([*one, result("cps", "strong", 1, 34)])
    assert "an interval: supervised, strong." in text
    assert "cps: only 1 of 2 seeds are common with supervised, strong" in text
    assert "Without supervised, strong the gain of a method" in report(one[1:])


def test_tables_go_by_protocol_and_by_the_number_of_labels() -> None:
    results = [
        result("cps", "strong", 0, 40, labels="10%", scans=40),
        result("cps", "strong", 0, 30, labels="1%", scans=4),
        result("cps", "strong", 0, 20, protocol={"split": "val"}),
        result("cps", "strong", 0, 50, steps=1200),
    ]
    found = [
        (c.protocol["split"], c.steps, [b.labels for b in c.budgets]) for c in comparisons(results)
    ]
    assert sorted(found) == [
        ("test", 600, ["1%", "10%"]), ("test", 1200, ["1%"]), ("val", 600, ["1%"]),
    ]  # fmt: skip
    assert report(results).count("| method") == 2 * 4  # figures, then distances and calibration


def test_runs_that_differ_in_more_than_the_seed_do_not_share_a_row() -> None:
    other = result("cps", "strong", 1, 40, fingerprint="width 128")
    twice = result("cps", "strong", 0, 40)
    for second, reason in ((other, "differ in their settings"), (twice, "have one seed")):
        with pytest.raises(ConfigError, match=f"^cps/0 and cps/. {reason}, .* share a table"):
            report([result("cps", "strong", 0, 30), second])


def test_runs_of_a_seed_with_other_labelled_scans_are_not_compared() -> None:
    other = result(*STRONG, 1, 40, labelled_list="a list of the same name")
    good = [result(*STRONG, 0, 40), result("cps", "strong", 0, 30), result("cps", "strong", 1, 31)]
    assert report(good)
    with pytest.raises(ConfigError, match=r"cps/1 and supervised/1 learnt from different labelled"):
        report([*good, other])


def test_runs_with_other_settings_are_not_compared() -> None:
    """A wider network would be a gain of the method otherwise."""
    wide = [result("cps", "strong", s, 50 + s, common="width 128") for s in (0, 1)]
    control = [result(*STRONG, s, 30 + s) for s in (0, 1)]
    text = report([*control, *wide])
    assert "+20" not in text
    assert "other settings: width 128" in text
    assert "+20.00" in report(
        [*control, *({**r, "run": {**r["run"], "common": "a"}} for r in wide)]
    )


def test_how_it_was_trained_is_said() -> None:
    changed = {"weight": 0.3, "partner": "labelled"}
    runs = [result(*STRONG, 0, 30), result("cutmix_seg", "strong", 0, 31, settings=changed)]
    text = report([*runs, result("cps", "strong", 0, 32, settings={"weight": 0.5})])
    assert "precision: float32; labelled crops a step: 2; device: cpu; " in text
    said = "methods' settings: cps(weight=0.5), cutmix_seg(weight=0.3, partner=labelled); "
    assert said in text
    assert "methods' settings: their defaults; " in report(runs[:1])


def test_skipped_scans_are_said() -> None:
    gone = {"08/000001": "it has 7 bytes"}
    runs = [result(*STRONG, seed, 30) for seed in (0, 1)]
    assert "skipped" not in report(runs)
    assert "learnt without" not in report(runs)
    runs[1]["run"]["skipped_scans"] = gone
    assert "supervised, strong, seed 1: learnt without 1 of its scans" in report(runs)
    fewer = [{**r, "skipped_scans": gone} for r in runs]
    assert "split: test (100 scans, 1 skipped)" in report(fewer)
    others = {**runs[0], "skipped_scans": {"08/000002": "it has 7 bytes"}}
    apart = comparisons([others, fewer[1]])
    assert [len(c.budgets[0].runs[Row(*STRONG)]) for c in apart] == [1, 1]


def test_the_settings_of_a_vote_are_part_of_the_protocol() -> None:
    vote = {"back_projection": "knn_vote", "neighbours": 5, "sigma": 1.0, "cutoff": 1.0}
    text = report([result(*STRONG, 0, 30, protocol=vote)])
    assert "knn_vote 5x5, neighbours 5, sigma 1.0, cutoff 1.0" in text
    own_pixel = report([result(*STRONG, 0, 30, protocol={"back_projection": "none"})])
    assert "back-projection: none; " in own_pixel


# Typed apart from the code, one ratio or more of each method with a counterpart.
@pytest.mark.parametrize(
    ("dataset", "scans", "row", "figure"),
    [
        ("semantic_kitti", 191, ("supervised", "plain"), "36.2"),
        ("semantic_kitti", 1913, ("cutmix_seg", "plain"), "54.3"),
        ("semantic_kitti", 3826, ("cps", "plain"), "56.3"),
        ("semantic_kitti", 9565, ("lasermix", "plain"), "61.4"),
        ("scribble_kitti", 191, ("cps", "plain"), "33.7"),
        ("scribble_kitti", 9565, ("cutmix_seg", "plain"), "54.3"),
        ("nuscenes", 281, ("lasermix", "plain"), "49.5"),
        ("nuscenes", 2813, ("supervised", "plain"), "57.5"),
        ("nuscenes", 14065, ("mean_teacher", "plain"), "69.4 (unchecked)"),
        ("semantic_kitti", 191, ("supervised", "strong"), None),
        ("semantic_kitti", 191, ("lasermix", "strong"), None),
        ("semantic_kitti", 191, ("pcr", "plain"), None),
        ("semantic_kitti", 3, ("cps", "plain"), None),
        ("scribble_kitti_drawn", 191, ("cps", "plain"), None),
        ("simulated", 191, ("cps", "plain"), None),
    ],
)
def test_published_figures(
    dataset: str, scans: int, row: tuple[str, str], figure: str | None
) -> None:
    evaluated = 6019 if dataset == "nuscenes" else 4071
    assert published_figure(dataset, "val", evaluated, scans, row, []) == figure
    assert published_figure(dataset, "test", evaluated, scans, row, []) is None
    assert published_figure(dataset, "val", 81, scans, row, []) is None
    for differs in (None, ["train.steps 6 (published: 45000)"]):
        assert published_figure(dataset, "val", evaluated, scans, row, differs) is None


KITTI = {
    "scans": 191, "evaluated": 4071, "protocol": {"dataset": "semantic_kitti", "split": "val"},
}  # fmt: skip


def test_published_figures_stand_beside_such_runs() -> None:
    steps = ["train.steps 6 (published: 45000)"]
    rows = [("supervised", "plain", []), (*STRONG, ["train.labelled strong (published: plain)"])]
    rows += [("mean_teacher", "plain", []), ("cutmix_seg", "plain", []), ("cps", "plain", steps)]
    text = report(result(*row, 0, 30, published=differs, **KITTI) for *row, differs in rows)
    found = tables(text)
    assert [row[-1] for row in found[0]] == [
        "published (FIDNet, pixel metric)", "36.2", "–", "37.5 (unchecked)", "37.4", "–",
    ]  # fmt: skip
    assert "As published: validation split" in text
    record = ["FrustumMix, FRNet (per point)", "55.8", "64.8", "65.2", "65.4"]
    assert found[-1][-1] == record
    assert (
        "Note: No published figure for supervised, strong; cps, plain. Settings that are "
        "not those of configs/published/semantic_kitti.yaml: in supervised, strong: train.labelled "
        "strong (published: plain); in cps, plain: train.steps 6 (published: 45000)."
    ) in text


def test_without_such_a_run_no_published_figure_is_shown() -> None:
    runs = [
        result("cps", "strong", seed, 30, published=["model.padding circular (published: zeros)"],
               **KITTI)
        for seed in (0, 1)
    ]  # fmt: skip
    text = report(runs)
    assert "As published" not in text
    assert "published (FIDNet" not in text
    assert "36.5" not in text
    assert "no published figure for cps" in text.lower()
    elsewhere = report([result("cps", "strong", 0, 30, published=["a 1 (published: 2)"])])
    assert "published" not in elsewhere


def test_how_far_rows_are_from_what_was_published() -> None:
    rows = {
        ("cps", "cps"): ["a 1 (published: 2)", "b 3 (published: 4)"],
        ("lasermix", "lasermix"): ["a 1 (published: 2)"],
        ("pcr", "pcr"): ["c 5 (published: 6)"],
        ("cutmix_seg", "cutmix_seg"): [],
    }
    assert distance_note("nuscenes", "val", 6019, 281, rows) == (
        "No published figure for cps; lasermix. Settings that are not those of "
        "configs/published/nuscenes.yaml: in all of these: a 1 (published: 2); in cps: b 3 "
        "(published: 4)."
    )
    assert distance_note("nuscenes", "val", 6019, 5, rows) is None
    assert distance_note("nuscenes", "test", 6019, 281, rows) is None


def test_published_tables_are_of_the_whole_split() -> None:
    assert published_table("nuscenes", "val", 6019)[-3] == [
        "supervised, FRNet (per point)", "51.9", "68.1", "70.9", "74.6",
    ]  # fmt: skip
    assert published_table("nuscenes", "test", 6019) == []
    assert published_table("nuscenes", "val", 81) == []  # v1.0-mini is not the whole split


def test_csv_has_a_line_for_each_run() -> None:
    results = [
        result("cps", "strong", 3, 30.5, labels='lists/mine, "best".txt', iou={"car": 1 / 3}),
        result(*STRONG, 0, 31, iou={"car": None, "road": 50.0}, train_seconds=None),
    ]
    text = results_csv(results)
    assert text.count("\r\n") == 3
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert first["labels"] == 'lists/mine, "best".txt'
    wanted = {
        "dataset": "simulated", "method": "cps", "labelled": "strong", "seed": "3", "split": "test",
        "scans": "100", "labelled_scans": "4", "steps": "600", "train_seconds": "40.0",
        "miou_point": "30.5", "miou_point_raw": "29.5", "miou_pixel": "31.5", "iou_road": "",
    }  # fmt: skip
    assert {key: first[key] for key in wanted} == wanted
    assert float(first["iou_car"]) == 1 / 3
    assert (second["iou_car"], second["iou_road"], second["train_seconds"]) == ("", "50.0", "")


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "page.html", tmp_path / "file" / "deep" / "page.html"):
        with pytest.raises(ConfigError, match=r"page\.html cannot be written \(.+\): choose"):
            check_report_files([None, path])
        with pytest.raises(ConfigError, match=r"page\.html cannot be written"):
            write_report(path, "text")
    with pytest.raises(ConfigError, match="is a folder: name the file"):
        check_report_files([tmp_path])
    write_report(tmp_path / "new" / "page.html", "text")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize("width", [1, 12])
def test_columns_are_aligned(width: int) -> None:
    table = markdown_table(["a", "b"], [["x" * width, "1"]]).splitlines()
    assert len({len(line) for line in table}) == 1
