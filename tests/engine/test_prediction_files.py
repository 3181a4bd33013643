"""Predictions as files: a trained run's, read back and compared with what was predicted."""

from __future__ import annotations

import copy
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.engine.prediction_files import zip_submission
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.config import load_run_config
from rangeseg.runs.trained import load_network, load_run
from tests.runs.test_saving import held
from tests.system.test_prefetch import running

Capture = pytest.CaptureFixture[str]
RAW_IDS = {10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81}


@pytest.fixture(scope="module")
def run(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps on a copy of the data whose test split has lost its labels."""
    folder = tmp_path_factory.mktemp("export")
    root = folder / "data"
    shutil.copytree(simulated_root, root)
    for sequence in ("11", "12"):
        shutil.rmtree(root / "sequences" / sequence / "labels", ignore_errors=True)
    settings = [
        f"dataset.root={root}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=6", "train.save_every=6", "evaluate.batch_size=3",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    words = [str(config), *[word for s in settings for word in ("--set", s)]]
    out = folder / "run"
    words += ["--method", "supervised", "--labels", "10%", "--out", str(out)]
    assert main(["train", *words]) == 0
    return out


@pytest.fixture(scope="module")
def loaded(run: Path) -> tuple[ScanSource, Predictor]:
    experiment, predictor = load_run(run, torch.device("cpu"))
    source = experiment.source
    return source, predictor


def predict(run: Path, out: Path, *words: str) -> int:
    return main(["predict", str(run), "--out", str(out), *words])


def error_of(capsys: Capture) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def read(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype=np.uint32)


def test_a_submission_for_scans_without_labels(
    run: Path, loaded: tuple[ScanSource, Predictor], tmp_path: Path, capsys: Capture
) -> None:
    source, predictor = loaded
    out = tmp_path / "predictions"
    assert predict(run, out, "--zip") == 0
    assert f"{out}: predictions of 4 scans" in capsys.readouterr().out
    scan_ids = source.scan_ids("test")
    files = {f"sequences/{i[:2]}/predictions/{i[3:]}.label" for i in scan_ids}
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert found == files | {"rangeseg_predictions.json"}
    for prediction in predictor.predict(source, scan_ids, with_labels=False):
        scan = prediction.scan
        path = out / f"sequences/{scan.scan_id[:2]}/predictions/{scan.scan_id[3:]}.label"
        written = read(path)
        assert len(written) == len(scan.points)
        assert set(np.unique(written)) <= RAW_IDS
        np.testing.assert_array_equal(source.info.label_map.to_train(written), prediction.points)
    os.utime(out / min(files), (0, 0))  # as on a disk without a clock; a ZIP begins at 1980
    assert predict(run, out, "--zip", "--resume") == 0
    with zipfile.ZipFile(tmp_path / "predictions.zip") as archive:
        folders = {"sequences/"}
        for sequence in ("11", "12"):
            folders |= {f"sequences/{sequence}/", f"sequences/{sequence}/predictions/"}
        assert set(archive.namelist()) == files | folders
        assert len(archive.namelist()) == len(files | folders)
        assert archive.testzip() is None


def test_the_written_labels_have_the_evaluated_miou(
    run: Path, loaded: tuple[ScanSource, Predictor], tmp_path: Path
) -> None:
    """SemanticKITTI's rule from its description: ignored truth is left out, 19 classes count."""
    source, predictor = loaded
    out = tmp_path / "predictions"
    assert predict(run, out, "--split", "val") == 0
    to_train = source.info.label_map.to_train
    truth, prediction = [], []
    for scan_id in source.scan_ids("val"):
        sequence, frame = scan_id.split("/")
        labels = source.root / "sequences" / sequence / "labels" / f"{frame}.label"
        truth.append(to_train(read(labels)))
        prediction.append(to_train(read(out / source.prediction_file(scan_id, "val"))))
    t, p = np.concatenate(truth), np.concatenate(prediction)
    counted = t != IGNORE
    iou = []
    for c in range(19):
        hit = int(((t == c) & (p == c) & counted).sum())
        union = int((((t == c) | (p == c)) & counted).sum())
        iou.append(hit / max(union, 1))
    expected = 100 * float(np.mean(iou))
    result = evaluate(predictor, source, "val")
    assert abs(result["miou"]["point"] - expected) < 1e-9


def test_confidence_and_pseudo_labels(
    run: Path, loaded: tuple[ScanSource, Predictor], tmp_path: Path
) -> None:
    source, predictor = loaded
    scan_ids = source.scan_ids("test")
    predictions = list(predictor.predict(source, scan_ids, False, True))
    confidences = [p.confidence for p in predictions if p.confidence is not None]
    assert len(confidences) == 4
    least = round(float(np.median(np.concatenate(confidences))), 4)
    out = tmp_path / "pseudo"
    assert predict(run, out, "--min-confidence", str(least), "--confidence") == 0
    for prediction, confidence in zip(predictions, confidences, strict=True):
        assert confidence.min() >= 0.0
        assert 1 / 19 < confidence.mean() < 1.0
        file = source.prediction_file(prediction.scan.scan_id, "test")
        halves = np.fromfile((out / "confidence" / file).with_suffix(".float16"), dtype="<f2")
        np.testing.assert_array_equal(halves, confidence.astype(np.float16))
        written = read(out / file)
        kept = confidence >= least
        assert 0 < kept.sum() < len(kept)
        assert (written[~kept] == 0).all()
        np.testing.assert_array_equal(
            source.info.label_map.to_train(written[kept]), prediction.points[kept]
        )


def test_the_confidence_is_that_of_the_pixel_that_gave_the_label(
    run: Path, loaded: tuple[ScanSource, Predictor]
) -> None:
    source, predictor = loaded
    exact, (_, network) = copy.copy(predictor), load_network(run, torch.device("cpu"))
    exact.backend = TorchBackend(network, torch.device("cpu"), "float32")
    narrow = exact.images.settings.model_copy(update={"width": 64})
    exact.images = RangeImages(source.info, narrow)  # points hide each other
    (prediction,) = exact.predict(source, source.scan_ids("val")[:1], True, True)
    assert prediction.confidence is not None
    logits = network(torch.from_numpy(prediction.image)[None])
    probabilities = logits.detach().softmax(1)[0].numpy()
    owners = prediction.projection.point_index[prediction.projection.valid]
    row, col = prediction.projection.row[owners], prediction.projection.col[owners]
    of_label = probabilities[prediction.points[owners], row, col]
    np.testing.assert_allclose(prediction.confidence[owners], of_label, atol=1e-4)
    # A hidden point's label and its confidence come from one pixel, perhaps not its own.
    pairs = list(zip(prediction.points.tolist(), prediction.confidence.tolist(), strict=True))
    hidden = prediction.projection.row >= 0
    hidden[owners] = False
    assert (prediction.points != prediction.raw)[hidden].sum() > 10
    assert {pairs[i] for i in np.flatnonzero(hidden)} <= {pairs[i] for i in owners}


def test_interrupted_predictions_are_completed(
    run: Path, loaded: tuple[ScanSource, Predictor], tmp_path: Path, capsys: Capture
) -> None:
    source, _ = loaded
    out = tmp_path / "predictions"
    assert predict(run, out) == 0
    first, second = (out / source.prediction_file(i, "test") for i in source.scan_ids("test")[:2])
    before = first.read_bytes()
    second.unlink()
    untouched = first.stat().st_mtime_ns
    capsys.readouterr()
    assert predict(run, out) == 2
    assert "is not empty: add --resume" in error_of(capsys)
    assert predict(run, out, "--resume") == 0
    assert "predict test: 3/4 scan" in capsys.readouterr().err
    assert second.is_file()
    assert first.read_bytes() == before
    assert first.stat().st_mtime_ns == untouched
    assert predict(run, out, "--resume", "--confidence") == 2
    assert "begun with confidence=False, now it is True" in error_of(capsys)


def test_a_folder_is_written_to_by_one_process_at_a_time(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert predict(run, out) == 0
    with held(out):
        capsys.readouterr()
        assert predict(run, out, "--resume") == 2
        assert f"another process writes predictions in {out}: wait" in error_of(capsys)
        with pytest.raises(ConfigError, match="another process writes predictions"):
            zip_submission(load_run(run, torch.device("cpu"))[0].source, "test", out)
    assert predict(run, out, "--resume", "--zip") == 0


def test_a_file_that_cannot_be_written_ends_it_behind_those_before(
    run: Path, loaded: tuple[ScanSource, Predictor], tmp_path: Path, capsys: Capture
) -> None:
    source, _ = loaded
    out = tmp_path / "predictions"
    assert predict(run, out) == 0
    files = [out / source.prediction_file(i, "test") for i in source.scan_ids("test")]
    contents = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    in_the_way = files[2].with_name(files[2].name + ".partial")
    in_the_way.mkdir()
    assert predict(run, out, "--resume") == 2
    assert f"{files[2]} cannot be written (Is a directory): make room" in error_of(capsys)
    assert [file.read_bytes() for file in files[:2]] == contents[:2]
    assert not files[2].exists()
    assert not running()
    in_the_way.rmdir()
    assert predict(run, out, "--resume") == 0
    assert [file.read_bytes() for file in files] == contents
    assert not list(out.rglob("*.partial"))


def test_threads_make_no_other_result(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config, out = tmp_path / "run" / "config.yaml", tmp_path / "out"
    text = config.read_text()
    default = f"threads: {EvaluateSettings().threads}\n"
    assert text.count(default) == 1
    files, results = [], []
    for count in (0, 3):
        config.write_text(text.replace(default, f"threads: {count}\n"))
        assert predict(tmp_path / "run", out, "--confidence", "--resume") == 0
        found = sorted(out.rglob("*.label")) + sorted(out.rglob("*.float16"))
        files.append([path.read_bytes() for path in found])
        for path in found[:3] + found[4:6]:  # the next one completes it
            path.unlink()
        assert main(["evaluate", str(tmp_path / "run")]) == 0
        result = json.loads((tmp_path / "run" / "result.json").read_text())
        assert result.pop("scans_per_second") > 0
        del result["seconds"]
        results.append(result)
    assert len(files[0]) == 8
    assert files[0] == files[1]
    assert results[0] == results[1]  # the fingerprint too
    plans = [load_run_config(path).comparable() for path in (config, run / "config.yaml")]
    assert plans[0] == plans[1]  # so the training may go on with other threads


def test_wrong_words(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert predict(run, out, "--zip", "--min-confidence", "0.9") == 2
    assert "no benchmark takes one whose labels --min-confidence withholds" in error_of(capsys)
    assert predict(run, out, "--min-confidence", "90") == 2
    assert "--min-confidence 90.0: give a probability from 0 to 1" in error_of(capsys)
    assert predict(run, out, "--split", "tests") == 2
    assert "did you mean 'test'?" in error_of(capsys)
    assert predict(tmp_path, out) == 2
    assert "is not a run folder (no config.yaml)" in error_of(capsys)
    assert not out.exists()
    (tmp_path / "notes.txt").touch()
    assert predict(run, tmp_path, "--resume") == 2
    assert "is not a folder of predictions" in error_of(capsys)


def test_into_the_working_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert predict(run, Path(), "--zip") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "here.zip"]


def test_evaluating_a_split_without_labels_points_to_predict(
    run: Path, loaded: tuple[ScanSource, Predictor]
) -> None:
    source, predictor = loaded
    with pytest.raises(DataError, match=r"no scan of the split test .* `rangeseg predict`"):
        evaluate(predictor, source, "test")
    assert main(["evaluate", str(run), "--split", "test"]) == 3
