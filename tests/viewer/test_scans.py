"""What can be looked at: runs, exported predictions, pseudo-labels, other folders, raw data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.commands.doctor import examine
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.prediction_files import read_prediction
from rangeseg.errors import ConfigError, DataError, RangesegError
from rangeseg.simulation.generate import STAMP
from rangeseg.viewer.modes import check_mode
from rangeseg.viewer.scans import ScanViews, open_views

CPU = torch.device("cpu")


def views_of(
    target: Path | str, *overrides: str, predictions: Path | None = None, split: str | None = None,
    least: float = 0.2,
) -> ScanViews:  # fmt: skip
    return open_views(Path(target), list(overrides), predictions, split, least, CPU)


@pytest.fixture(scope="session")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "predictions"
    assert main(["predict", str(run), "--out", str(folder), "--confidence"]) == 0
    return folder


def test_a_run_and_its_exported_predictions_look_alike(run: Path, exported: Path) -> None:
    live, files = views_of(run, split="test"), views_of(exported)
    assert live.scan_ids == files.scan_ids
    assert (live.predicted, live.confident, files.predicted, files.confident) == (True,) * 4
    for scan_id in live.scan_ids:
        a, b = live.read(scan_id), files.read(scan_id)
        assert a.prediction is not None
        assert a.covered is not None
        assert a.confidence is not None
        assert b.confidence is not None
        np.testing.assert_array_equal(a.prediction, b.prediction)
        np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-3)
        np.testing.assert_array_equal(a.covered, a.confidence >= 0.2)
        assert a.miou == pytest.approx(b.miou)


def test_the_miou_of_a_scan_is_over_the_classes_that_occur(run: Path) -> None:
    views = views_of(run)
    view = views.read(views.scan_ids[0])
    labels, prediction = view.scan.labels, view.prediction
    assert labels is not None
    assert prediction is not None
    kept = labels != IGNORE
    truth, said = labels[kept], prediction[kept]
    ious = [
        ((truth == c) & (said == c)).sum() / ((truth == c) | (said == c)).sum()
        for c in np.union1d(truth, said)
    ]
    assert view.miou == pytest.approx(100 * np.mean(ious))


def test_pseudo_labels_cover_what_they_were_not_withheld_for(run: Path, tmp_path: Path) -> None:
    words = ["predict", str(run), "--split", "val", "--min-confidence", "0.15"]
    assert main([*words, "--out", str(tmp_path / "pseudo")]) == 0
    live, files = views_of(run, least=0.15), views_of(tmp_path / "pseudo", least=0.9)
    for scan_id in live.scan_ids:
        a, b = live.read(scan_id), files.read(scan_id)
        assert a.covered is not None
        assert b.covered is not None
        assert b.prediction is not None
        assert 0 < b.covered.mean() < 1
        np.testing.assert_array_equal(a.covered, b.covered)
        np.testing.assert_array_equal(b.prediction == IGNORE, ~b.covered)
        assert b.confidence is None
    with pytest.raises(ConfigError, match=r"needs .*/confidence: predict with --confidence"):
        check_mode("confidence", files)


def test_predictions_of_others_beside_a_configuration(
    small_config: list[str], exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported / "sequences", tmp_path / "theirs" / "sequences")
    config, *words = small_config
    views = views_of(config, *words[1::2], predictions=tmp_path / "theirs", split="test")
    assert not views.confident
    view = views.read("11/000000")
    assert view.prediction is not None
    assert view.miou is not None
    assert view.covered is None
    file = tmp_path / "theirs/sequences/11/predictions/000000.label"
    raw = np.fromfile(file, dtype=np.uint32)
    raw[0] = 252  # moving-car: a raw id of the data set that no prediction of ours has
    raw.tofile(file)
    again = views.read("11/000000").prediction
    assert again is not None
    assert again[0] == 0


def test_raw_data_have_truth_only(small_config: list[str]) -> None:
    config, *words = small_config
    views = views_of(config, *words[1::2])
    view = views.read(views.scan_ids[0])
    assert view.scan.labels is not None
    assert (view.prediction, view.miou) == (None, None)
    with pytest.raises(ConfigError, match=r"mode 'error' needs predictions, and .* has none"):
        check_mode("error", views)
    with pytest.raises(ConfigError, match=r"unknown colour mode 'eror' .did you mean 'error'"):
        check_mode("eror", views)


def test_the_benchmarks_ids_of_nuscenes(tmp_path: Path) -> None:
    """Its predictions have other ids than its label files."""
    source, classes = NuScenes(tmp_path), np.arange(16, dtype=np.uint8)
    source.encode_prediction(classes).tofile(tmp_path / "prediction.bin")
    found = read_prediction(source, tmp_path / "prediction.bin", 16, as_labels=False)
    np.testing.assert_array_equal(found, classes)
    labels = np.append(classes, IGNORE).astype(np.uint8)
    source.encode_labels(labels).tofile(tmp_path / "pseudo.bin")
    found = read_prediction(source, tmp_path / "pseudo.bin", 17, as_labels=True)
    np.testing.assert_array_equal(found, labels)
    np.array([3, 200], dtype=np.uint8).tofile(tmp_path / "wrong.bin")
    with pytest.raises(DataError, match="holds the id 200, which is no class"):
        read_prediction(source, tmp_path / "wrong.bin", 2, as_labels=False)


def test_files_that_do_not_fit(exported: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(exported, mine)
    file = mine / "sequences/11/predictions/000000.label"
    np.fromfile(file, dtype=np.uint32)[:-1].tofile(file)
    views = views_of(mine)
    with pytest.raises(DataError, match=r"has \d+ bytes, expected \d+: one uint32 for each of"):
        views.read("11/000000")
    file.unlink()
    with pytest.raises(DataError, match=r"label does not exist: predict it"):
        views.read("11/000000")


@pytest.mark.parametrize("kind", ["empty", "damaged stamp", "run gone", "no file"])
def test_places_that_are_nothing_to_look_at(kind: str, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    stamp = folder / "rangeseg_predictions.json"
    text = (exported / "rangeseg_predictions.json").read_text()
    run = views_of(exported).title
    assert run == str(exported)
    if kind == "damaged stamp":
        stamp.write_text(text[:20])
    if kind == "run gone":
        stamp.write_text(text.replace("/run", "/gone"))
    message = {
        "empty": "holds neither config.yaml .a run. nor rangeseg_predictions.json",
        "damaged stamp": "rangeseg_predictions.json is damaged",
        "run gone": "which is not there any more: give a configuration",
        "no file": "does not exist",
    }[kind]
    with pytest.raises(RangesegError, match=message):
        views_of(folder if kind != "no file" else tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", ["empty", "stopped"])
def test_looking_does_not_go_on_with_a_simulation(
    kind: str, tmp_path: Path, small_config: list[str], run: Path
) -> None:
    root, simulated = tmp_path / "data", small_config[2].partition("=")[2]
    root.mkdir()
    if kind == "stopped":
        stamp = json.loads((Path(simulated) / STAMP).read_text())
        (root / STAMP).write_text(json.dumps({**stamp, "complete": False}))
    before = sorted(root.iterdir())
    missing = "does not exist" if kind == "empty" else "is only partly generated"
    with pytest.raises(DataError, match=f"{missing}: `rangeseg-data simulate"):
        views_of(small_config[0], f"dataset.root={root}")
    config = tmp_path / "mine.yaml"
    text = Path(small_config[0]).read_text()
    config.write_text(text.replace("root: data/simulated", f"root: {root}"))
    assert f"{missing}: `rangeseg-data simulate" in list(examine(config))[-1]
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    text = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(text.replace(simulated, str(root)))
    with pytest.raises(DataError, match=f"the data of {moved}: .*{missing}: .*change dataset.root"):
        views_of(moved)
    assert sorted(root.iterdir()) == before


def test_scans_are_chosen(run: Path) -> None:
    views = views_of(run, split="test")
    assert views.chosen([], 3).scan_ids == views.scan_ids[:3]
    assert views.chosen(["12/000001", "11/000000"], None).scan_ids == ["12/000001", "11/000000"]
    with pytest.raises(ConfigError, match="--scan 08/000000: the split has no such scan; its 4"):
        views.chosen(["08/000000"], None)
