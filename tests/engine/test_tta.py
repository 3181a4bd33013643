"""Test-time augmentation: views averaged, in evaluate and predict, and told apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from rangeseg.cli import main
from rangeseg.datasets.base import Scan
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.simulated import Simulated
from rangeseg.engine.inference import Predictor
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.geometry.backprojection import nearest_point
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import RowRule
from rangeseg.geometry.views import make_views
from rangeseg.models.averaged import averaged
from rangeseg.runs.folder import read_run_config
from rangeseg.runs.trained import load_network, load_run
from tests.datasets.own_scans import BEAMS, DESCRIPTION, turn, write_root

CPU = torch.device("cpu")
Capture = pytest.CaptureFixture[str]


def error_of(capsys: Capture) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_mean_over_scans_that_are_moved_and_projected_anew(
    trained_run: Path, count: int
) -> None:
    experiment, network = load_network(trained_run, CPU, tta=count)
    source, images = experiment.source, experiment.images
    scan_id = source.scan_ids("val")[0]
    # In bfloat16 a network of few steps has ties.
    backend = TorchBackend(averaged(network, experiment.views), CPU, "float32")
    classes_of = source.info.label_map.num_classes
    predictor = Predictor(backend, images, experiment.config.evaluate, classes_of)
    (found,) = predictor.predict(source, [scan_id], True, True)
    scan = source.read_scan(scan_id)
    beams = beam_rows(scan.points, images.sensor, scan.ring)
    total: np.ndarray | float = 0.0
    for view in range(count):
        columns = view // 2 * 256 // -(-count // 2)
        angle, mirror = 2 * np.pi * columns / 256, -1 if view % 2 else 1
        x, y, z, intensity = scan.points.T
        moved = [
            x * np.cos(angle) - mirror * y * np.sin(angle),
            x * np.sin(angle) + mirror * y * np.cos(angle), z, intensity,
        ]  # fmt: skip
        points = np.stack(moved, axis=1).astype(np.float32)
        image = torch.from_numpy(images.image(points, project_points(points, images.sensor, beams)))
        with torch.inference_mode():
            probabilities = network(image[None])[0].softmax(0).numpy()
        probabilities = np.roll(probabilities, columns, axis=2)
        total = total + (probabilities[..., ::-1] if mirror < 0 else probabilities)
    assert isinstance(total, np.ndarray)
    classes, confidence = total.argmax(0).astype(np.uint8), (total / count).max(0)
    assert (found.pixels == classes).mean() > 0.999
    projection = images.project(scan)[0]
    points = nearest_point(classes, projection, scan.points, 5)
    assert (found.points == points).mean() > 0.999
    sure = nearest_point(confidence.astype(np.float32), projection, scan.points, 5)
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, sure, atol=1e-3)
    assert found.image.shape == (8, 32, 256)


class _OfOnePixel(nn.Module):
    """Tells classes by the range alone: no view of a scan changes them."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([image[:, 0], -image[:, 0], image[:, 0].sin()], dim=1)


@pytest.mark.parametrize("rule", ["inclination", "scan_order", "ring", "file_order"])
@pytest.mark.parametrize("left", [180.0, 100.0])
def test_views_come_back_to_their_pixels_under_every_row_rule(rule: RowRule, left: float) -> None:
    points, ring = turn(order="beams" if rule == "scan_order" else "firings")
    sensor = replace(
        Simulated.info.sensor, beams=BEAMS, height=BEAMS, fov_up_deg=11.0, fov_down_deg=-21.0,
        row_rule=rule, azimuth_left_deg=left, azimuth_right_deg=-left,
    )  # fmt: skip
    settings = RangeImageSettings(height=BEAMS, width=192)
    images = RangeImages(replace(Simulated.info, sensor=sensor), settings)
    projection, found = images.project(Scan("a", points, None, ring))
    assert found == rule
    views = make_views(5 if sensor.full_turn else 2, images.sensor)
    stacked = torch.from_numpy(images.images_of_views(points, projection, views))
    assert stacked.shape == (8 * len(views), BEAMS, 192)
    logits = averaged(_OfOnePixel(), views)(stacked[None])
    expected = _OfOnePixel()(torch.from_numpy(images.image(points, projection))[None])
    torch.testing.assert_close(logits.softmax(1), expected.softmax(1))


def test_evaluate_and_predict_average_views(
    trained_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    usual = json.loads((run / "result.json").read_text())
    assert "tta" not in usual["protocol"]
    assert main(["evaluate", str(run), "--tta", "2"]) == 0
    assert "test-time augmentation: 2 views of each scan" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert result["protocol"] == {**usual["protocol"], "tta": 2}
    assert result["iou"] != usual["iou"]

    words = ["predict", str(run), "--split", "val", "--tta", "2", "--confidence", "--out"]
    assert main([*words, str(tmp_path / "files")]) == 0
    stamp = json.loads((tmp_path / "files" / "rangeseg_predictions.json").read_text())
    assert stamp["tta"] == 2
    experiment, predictor = load_run(run, CPU, tta=2)
    source = experiment.source
    for prediction in predictor.predict(source, source.scan_ids("val"), with_confidence=True):
        file = tmp_path / "files" / source.prediction_file(prediction.scan.scan_id, "val")
        raw = source.encode_prediction(prediction.points)
        np.testing.assert_array_equal(np.fromfile(file, raw.dtype), raw)

    # A report keeps them apart, and says which is which.
    capsys.readouterr()
    assert main(["report", str(run), str(trained_run)]) == 0
    said = capsys.readouterr().out
    assert said.count("test-time augmentation: 2 views") == 1
    assert said.count("| cutmix_seg ") >= 2

    for words in (["evaluate", str(run)], ["predict", str(run), "--out", str(tmp_path / "no")]):
        assert main([*words, "--tta", "0"]) == 2
        assert "--tta 0: give a number of views" in error_of(capsys)


def test_the_setting_of_a_run(tiny_config: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", *tiny_config, "--method", "supervised", "--labels", "10%", "--out", str(run)]
    assert main([*words, "--set", "evaluate.tta=2", "--set", "train.steps=1"]) == 0
    assert read_run_config(run).evaluate.tta == 2
    assert json.loads((run / "result.json").read_text())["protocol"]["tta"] == 2


def test_a_sensor_that_does_not_see_all_around_is_mirrored_only(
    tmp_path: Path, capsys: Capture
) -> None:
    sensor = {**DESCRIPTION["sensor"], "azimuth_left_deg": 100, "azimuth_right_deg": -20}
    description = {**DESCRIPTION, "sensor": sensor}
    root = write_root(tmp_path / "data")
    values = {
        "dataset": {"name": "custom", "root": str(root), "description": description},
        "range_image": {"height": 16, "width": 64},
    }
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump(values))
    words = ["train", str(config), "--method", "supervised", "--labels", "50%"]
    words += ["--out", str(tmp_path / "run"), "--set", "evaluate.tta=4"]
    assert main(words) == 2
    assert "evaluate.tta=4, but the sensor custom sees 120 degrees" in error_of(capsys)
    assert not (tmp_path / "run").exists()
    assert main([*words[:-1], "evaluate.tta=0"]) == 2
    assert "evaluate.tta: input should be greater than or equal to 1" in capsys.readouterr().err
