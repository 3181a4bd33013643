"""From `rangeseg train` to the devkit's own figures: what nuScenes says of predictions."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.cli import main as rangeseg_data
from rangeseg.cli import main
from rangeseg.datasets.nuscenes.source import NuScenes
from tests.datasets.nuscenes_format import write_nuscenes

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt just enough to tell some classes apart."""
    folder = tmp_path_factory.mktemp("nuscenes")
    write_nuscenes(folder / "data")
    assert rangeseg_data(["index", "nuscenes", str(folder / "data")]) == 0
    settings = [
        f"dataset.root={folder / 'data'}", "range_image.width=128", "model.width=8",
        "train.steps=60", "train.learning_rate=1e-2", "train.class_weights=none",
        "train.labelled=plain", "train.workers=0", "train.lovasz_weight=0", "evaluate.batch_size=3",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "nuscenes.yaml"
    words = [str(config), *[word for s in settings for word in ("--set", s)]]
    words += ["--method", "supervised", "--labels", "50%", "--out", str(folder / "run")]
    assert main(["train", *words]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def devkit(run: Path) -> Any:
    from nuscenes import NuScenes as Devkit

    return Devkit("v1.0-mini", str(run.parent / "data"), verbose=False)


def test_the_devkit_finds_the_miou_that_evaluate_writes(
    run: Path, devkit: Any, tmp_path: Path
) -> None:
    from nuscenes.eval.lidarseg.evaluate import LidarSegEval
    from nuscenes.eval.lidarseg.validate_submission import validate_submission

    words = ["predict", str(run), "--split", "val", "--out", str(tmp_path / "val"), "--zip"]
    assert main(words) == 0
    with zipfile.ZipFile(tmp_path / "val.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    validate_submission(devkit, str(tmp_path / "unpacked"), "mini_val")
    theirs = LidarSegEval(devkit, str(tmp_path / "unpacked"), "mini_val").evaluate()

    assert main(["evaluate", str(run), "--split", "val"]) == 0
    ours = json.loads((run / "result.json").read_text())
    assert abs(ours["miou"]["point"] / 100 - theirs["miou"]) < 1e-9
    assert ours["miou"]["point"] > 10
    for name, iou in ours["iou"].items():
        np.testing.assert_allclose(
            np.nan if iou is None else iou / 100, theirs["iou_per_class"][name], atol=1e-9
        )
    assert None in ours["iou"].values()  # a class that is absent is left out, not counted as 0


def test_pseudo_labels_hold_the_ids_of_label_files(
    run: Path, devkit: Any, tmp_path: Path, capsys: Capture
) -> None:
    sure, all_of_them = tmp_path / "sure", tmp_path / "all"
    words = ["predict", str(run), "--split", "train", "--out"]
    assert main([*words, str(all_of_them), "--confidence"]) == 0
    assert main([*words, str(sure), "--min-confidence", "0.3"]) == 0
    source = NuScenes(run.parent / "data")
    to_train, kept_points = source.info.label_map.to_train, 0
    for scan_id in source.scan_ids("train"):
        file = source.prediction_file(scan_id, "train")
        pseudo, predicted = (np.fromfile(out / file, np.uint8) for out in (sure, all_of_them))
        path = (all_of_them / "confidence" / file).with_suffix(".float16")
        confidence = np.fromfile(path, np.float16)
        kept = confidence > 0.301  # half floats are rounded
        np.testing.assert_array_equal(to_train(pseudo[kept]), predicted[kept] - 1)
        assert not pseudo[confidence < 0.299].any()
        kept_points += int(kept.sum())
    assert kept_points > 1000
    assert not (sure / "mini_train").exists()  # is no submission
    capsys.readouterr()
    devkit.get_sample_lidarseg_stats(scan_id, lidarseg_preds_bin_path=str(sure / file))
    assert "flat.driveable_surface" in capsys.readouterr().out
