"""Simulated: made on first use, refusals, its sensor, its statistics."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets import simulated
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import DataError
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import make_range_image
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import SIMULATED_32
from rangeseg.simulation.generate import SimulationSettings, generate_dataset

TINY = SimulationSettings(train_scans=10, val_scans=2, test_scans=2, beams=16, columns=128)


@pytest.fixture
def tiny_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default settings that take a moment instead of half a minute."""
    monkeypatch.setattr(simulated, "SimulationSettings", lambda: TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("simulated") / "street"
    generate_dataset(root, TINY, workers=1)
    return root


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    source = Simulated(tmp_path / "street")
    assert source.splits == ("train", "val", "test")
    assert source.info.sensor == SIMULATED_32
    assert not (tmp_path / "street").exists()


@pytest.mark.usefixtures("tiny_defaults")
def test_a_missing_root_is_filled_on_first_use(tmp_path: Path) -> None:
    root = tmp_path / "street"
    source = Simulated(root)
    assert len(source.scan_ids("train")) == 10
    assert source.scan_ids("val") == ["08/000000", "08/000001"]
    assert source.scan_ids("test") == ["11/000000", "12/000000"]
    scan = source.read_scan("12/000000")
    assert scan.labels is not None
    assert (scan.labels != IGNORE).mean() > 0.9
    assert len(Simulated(root).scan_ids("train")) == 10


@pytest.mark.usefixtures("tiny_defaults")
def test_reading_alone_fills_an_empty_root(tmp_path: Path) -> None:
    assert len(Simulated(tmp_path).read_scan("00/000000").points) > 1000


def test_an_incomplete_root_is_completed_with_its_own_settings(made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made, tmp_path / "street")
    stamp = json.loads((root / "simulation.json").read_text())
    (root / "simulation.json").write_text(json.dumps({**stamp, "complete": False}))
    (root / "sequences/08/velodyne/000001.bin").unlink()
    assert len(Simulated(root).scan_ids("val")) == 2
    assert json.loads((root / "simulation.json").read_text()) == stamp


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "simulation.json").write_text(json.dumps({"version": 0, "settings": {}}))
    with pytest.raises(DataError, match=r"version 0, this is version 1.*choose another root"):
        Simulated(tmp_path).scan_ids("val")


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="nothing was touched; choose another root"):
        Simulated(tmp_path).scan_ids("train")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_sensor_has_the_beams_that_were_simulated(made: Path) -> None:
    source = Simulated(made)
    sensor = source.info.sensor
    assert (sensor.beams, sensor.height, sensor.width) == (16, 16, 512)
    assert sensor.row_rule == "scan_order"
    beams = beam_rows(source.read_scan("00/000000").points, sensor)
    assert beams is not None
    assert beams.max() == 15
    assert pickle.loads(pickle.dumps(source)).info.sensor == sensor
    assert Simulated(made / "elsewhere").info.sensor == SIMULATED_32


def test_classes_are_semantic_kittis() -> None:
    assert Simulated.info.name == "simulated"
    assert Simulated.info.label_map is SemanticKitti.info.label_map
    assert Simulated.info.policy == "semantickitti"
    assert sorted(Simulated.SPLITS["train"]) == sorted(SemanticKitti.SPLITS["train"])


def test_statistics_describe_the_training_split(tmp_path: Path) -> None:
    settings = SimulationSettings(train_scans=20, val_scans=1, test_scans=2)
    generate_dataset(tmp_path, settings, workers=1)
    source = Simulated(tmp_path)
    channels = list(source.info.statistics)
    pixels = []
    for scan_id in source.scan_ids("train"):
        points = source.read_scan(scan_id, with_labels=False).points
        beams = beam_rows(points, source.info.sensor)
        projection = project_points(points, source.info.sensor, beams)
        image = make_range_image(points, projection, channels, source.info.statistics)
        pixels.append(image[:, projection.point_index >= 0])
    filled = np.concatenate(pixels, axis=1)
    assert np.abs(filled.mean(1)).max() < 0.25
    np.testing.assert_allclose(filled.std(1), 1.0, atol=0.3)
