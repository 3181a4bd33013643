"""Files of predictions, scored as a run is: layouts, ids, faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rangeseg.cli import main
from rangeseg.datasets import open_dataset
from rangeseg.datasets.custom import Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.scoring import score
from rangeseg.errors import DataError
from rangeseg.runs.trained import load_run
from tests.datasets.nuscenes_format import write_nuscenes
from tests.datasets.own_scans import DESCRIPTION, write_root
from tests.engine.test_inference import CPU

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def written(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``rangeseg predict`` wrote of the split val."""
    folder = tmp_path_factory.mktemp("written") / "predictions"
    assert main(["predict", str(trained_run), "--split", "val", "--out", str(folder)]) == 0
    return folder


def words_of(tiny_config: list[str], folder: Path, *more: str) -> list[str]:
    return ["score", *tiny_config, str(folder), *more]


def error_of(capsys: Capture) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_it_agrees_with_evaluate(
    trained_run: Path, written: Path, tiny_config: list[str], capsys: Capture
) -> None:
    expected = json.loads((trained_run / "result.json").read_text())
    capsys.readouterr()
    assert main(words_of(tiny_config, written, "--json")) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["miou"] == {"point": expected["miou"]["point"]}
    assert found["iou"] == expected["iou"]
    assert (found["scans"], found["skipped_scans"], found["withheld_points"]) == (3, {}, 0)
    assert "score val: 3/3 scan" in said.err

    assert main(["evaluate", str(trained_run)]) == 0
    table = capsys.readouterr().out.partition("\n\nmIoU")[0]
    assert main(words_of(tiny_config, written)) == 0
    said_of_files = capsys.readouterr().out
    assert said_of_files.startswith(table)
    assert f"mIoU on val (3 scans): point {expected['miou']['point']:.2f}\n" in said_of_files


def as_label_files(there: Path, here: Path) -> None:
    (here / "sequences" / "08").mkdir(parents=True)
    shutil.copytree(there / "sequences/08/predictions", here / "sequences/08/labels")


def by_sequence(there: Path, here: Path) -> None:
    shutil.copytree(there / "sequences/08/predictions", here / "08")


def beside_each_other(there: Path, here: Path) -> None:
    shutil.copytree(there / "sequences/08/predictions", here)


@pytest.mark.parametrize("copy", [as_label_files, by_sequence, beside_each_other])
@pytest.mark.parametrize("kind", [Simulated, SemanticKitti, ScribbleKitti])
def test_layouts(
    copy: Any, kind: type[SemanticKitti], written: Path, simulated_root: Path, tmp_path: Path
) -> None:
    source = kind(simulated_root)
    expected = score(source, written, "val")
    copy(written, tmp_path / "theirs")
    found = score(source, tmp_path / "theirs", "val")
    assert found["miou"] == expected["miou"]
    assert found["protocol"]["dataset"] == source.info.name


def test_ids_are_mapped_as_labels_are(written: Path, simulated_root: Path, tmp_path: Path) -> None:
    """Merged ids count as their class, instances are cut off, ignored ids are missed points."""
    source = Simulated(simulated_root)
    theirs = tmp_path / "theirs"
    matrix = np.zeros((19, 20), dtype=int)
    for number, scan_id in enumerate(source.scan_ids("val")):
        file = source.prediction_file(scan_id, "val")
        raw = np.fromfile(written / file, dtype=np.uint32)
        raw[raw == 40] = 60  # lane marking, which is road
        raw |= np.uint32(3 << 16)
        raw[: 100 * number] = 0
        (theirs / file).parent.mkdir(parents=True, exist_ok=True)
        raw.tofile(theirs / file)
        labels = source.read_scan(scan_id).labels
        assert labels is not None
        prediction = source.info.label_map.to_train(raw)
        prediction[prediction == IGNORE] = 19
        known = labels != IGNORE
        np.add.at(matrix, (labels[known], prediction[known]), 1)
    found = score(source, theirs, "val")
    hits = np.diag(matrix)
    union = matrix.sum(axis=1) + matrix[:, :19].sum(axis=0) - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), 0)
    assert found["miou"]["point"] == pytest.approx(100 * iou.mean())
    assert found["withheld_points"] == matrix[:, 19].sum() > 0


def test_missed_points_are_named(
    written: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(written, theirs)
    for path in theirs.rglob("*.label"):
        np.zeros_like(np.fromfile(path, np.uint32)).tofile(path)
    assert main(words_of(tiny_config, theirs)) == 0
    said = capsys.readouterr().out
    assert "mIoU on val (3 scans): point 0.00" in said
    assert "points have a class but an ignored id as prediction: they are missed" in said


FIRST = "sequences/08/predictions/000000.label"


def shortened(folder: Path) -> None:
    (folder / FIRST).write_bytes((folder / FIRST).read_bytes()[:-3])


def unknown(folder: Path) -> None:
    raw = np.fromfile(folder / FIRST, dtype=np.uint32)
    raw[7] = 4711
    raw.tofile(folder / FIRST)


def lost(folder: Path) -> None:
    (folder / FIRST).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shortened, f"{FIRST} has "),
        (unknown, f"{FIRST}: unknown raw id 4711 (1 points)"),
        (lost, f"{FIRST} does not exist: 1 of 3 predictions of the split val are missing"),
        (shutil.rmtree, "is not a folder of predictions: give another one"),
        (
            lambda f: shutil.rmtree(f / "sequences"),
            "holds no prediction of the split val: expected",
        ),
    ],
)
def test_faults_are_one_line_that_names_the_file(
    damage: Any, message: str, written: Path, tiny_config: list[str], tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    theirs = tmp_path / "theirs"
    shutil.copytree(written, theirs)
    damage(theirs)
    assert main(words_of(tiny_config, theirs, "--json")) == 3
    said = error_of(capsys)
    assert message in said
    assert str(theirs) in said


def test_labels_are_no_predictions(
    simulated_root: Path, tiny_config: list[str], capsys: Capture
) -> None:
    assert main(words_of(tiny_config, simulated_root)) == 3
    assert "000000.label is no prediction but the label" in error_of(capsys)


def test_a_scan_that_is_skipped_needs_no_prediction(
    written: Path, simulated_root: Path, tmp_path: Path
) -> None:
    root, theirs = tmp_path / "data", tmp_path / "theirs"
    shutil.copytree(simulated_root, root)
    shutil.copytree(written, theirs)
    points = Simulated(root).paths("08/000000")[0]
    points.write_bytes(points.read_bytes()[:-5])
    lost(theirs)
    found = score(Simulated(root), theirs, "val", "skip")
    assert (found["scans"], list(found["skipped_scans"])) == (2, ["08/000000"])
    with pytest.raises(DataError, match="not a multiple of 16"):
        score(Simulated(root), written, "val")


def test_pseudo_labels_hold_ids_of_label_files(trained_run: Path, tmp_path: Path) -> None:
    words = ["predict", str(trained_run), "--split", "val", "--min-confidence", "0.15"]
    assert main([*words, "--out", str(tmp_path / "pseudo")]) == 0
    experiment, predictor = load_run(trained_run, CPU)
    found = score(experiment.source, tmp_path / "pseudo", "val")
    whole = evaluate(predictor, experiment.source, "val")
    assert found["withheld_points"] > 0
    assert found["miou"]["point"] < whole["miou"]["point"]


def test_nuscenes(tmp_path: Path) -> None:
    """The benchmark's ids in its layout, raw ids in that of the label files."""
    from data_tools.cli import main as rangeseg_data

    root = tmp_path / "data"
    write_nuscenes(root)
    assert rangeseg_data(["index", "nuscenes", str(root)]) == 0
    source = NuScenes(root)
    figures = []
    for name, as_labels in (("benchmark", False), ("labels", True), ("flat", False)):
        for number, scan_id in enumerate(source.scan_ids("val")):
            labels = source.read_scan(scan_id).labels
            assert labels is not None
            guess = np.where(labels == IGNORE, 3, labels).astype(np.uint8)
            guess[: 40 + number] = 5
            encoded = source.encode_labels(guess) if as_labels else source.encode_prediction(guess)
            file = Path(source.label_file(scan_id))
            if not as_labels:
                file = Path(source.prediction_file(scan_id, "val"))
            path = tmp_path / name / (file.name if name == "flat" else file)
            path.parent.mkdir(parents=True, exist_ok=True)
            encoded.tofile(path)
        figures.append(score(source, tmp_path / name, "val")["miou"]["point"])
    assert figures[0] == figures[1] == figures[2]
    assert 0 < figures[0] < 100


def test_own_scans(tmp_path: Path, capsys: Capture) -> None:
    root = write_root(tmp_path / "data")
    source = open_dataset("custom", root, Description.model_validate(DESCRIPTION))
    for scan_id in source.scan_ids("val"):
        path = tmp_path / "theirs" / f"{scan_id.partition('/')[2]}.label"
        path.parent.mkdir(exist_ok=True)
        labels = source.read_scan(scan_id).labels
        assert labels is not None
        source.encode_labels(labels).tofile(path)
    config = tmp_path / "own.yaml"
    dataset = {"name": "custom", "root": str(root), "description": DESCRIPTION}
    values = {"dataset": dataset, "range_image": {"height": 16, "width": 192}}
    config.write_text(yaml.safe_dump(values))
    capsys.readouterr()
    assert main(["score", str(config), str(tmp_path / "theirs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["miou"] == {"point": 100.0}
