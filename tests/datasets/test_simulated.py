"""Simulated: generated on request, never by reading; its sensor, its statistics."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from rangeseg.datasets import simulated
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated, ensure_simulated
from rangeseg.errors import ConfigError, DataError
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


@pytest.mark.usefixtures("tiny_defaults")
@pytest.mark.parametrize("there", [False, True])
def test_reading_never_generates(there: bool, tmp_path: Path) -> None:
    root = tmp_path / "my street"
    if there:
        root.mkdir()
    source = Simulated(root)
    assert source.splits == ("train", "val", "test")
    assert source.info.sensor == SIMULATED_32
    for read in (
        lambda: source.scan_ids("val"),
        lambda: source.read_scan("08/000000"),
        lambda: source.check_files("08/000000"),
        source.check_root,
    ):
        with pytest.raises(
            DataError,
            match=rf"the simulated data set {root} does not exist: "
            rf"`rangeseg-data simulate '{root}'` generates it$",
        ):
            read()
    assert [path.name for path in tmp_path.rglob("*")] == (["my street"] if there else [])

    ensure_simulated(source, workers=1)
    assert len(source.scan_ids("train")) == 10
    assert source.scan_ids("val") == ["08/000000", "08/000001"]
    assert source.scan_ids("test") == ["11/000000", "12/000000"]
    scan = source.read_scan("12/000000")
    assert scan.labels is not None
    assert (scan.labels != IGNORE).mean() > 0.9


def test_a_partial_one_is_completed_with_its_own_settings(made: Path, tmp_path: Path) -> None:
    root = shutil.copytree(made, tmp_path / "street")
    stamp = json.loads((root / "simulation.json").read_text())
    (root / "simulation.json").write_text(json.dumps({**stamp, "complete": False}))
    lost = root / "sequences/08/velodyne/000001.bin"
    content = lost.read_bytes()
    lost.unlink()
    source = Simulated(root)
    for read in (lambda: source.scan_ids("train"), lambda: source.read_scan("08/000001")):
        with pytest.raises(
            DataError, match=rf"only partly generated: `.* simulate {root}` generates the rest"
        ):
            read()
    assert not lost.exists()
    assert main(["simulate", str(root)]) == 0
    assert len(source.scan_ids("val")) == 2
    assert lost.read_bytes() == content
    assert json.loads((root / "simulation.json").read_text()) == stamp


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_defaults")
@pytest.mark.parametrize("command", ["train", "compare", "demo"])
def test_who_generates(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise ConfigError("far enough")

    monkeypatch.setattr("rangeseg.runs.train.scans_to_evaluate", stop)
    monkeypatch.setattr("rangeseg.runs.plan.scans_to_evaluate", stop)
    monkeypatch.setattr("rangeseg.runs.demo.train_missing", stop)
    config, root = Path(__file__).parents[2] / "configs" / "simulated.yaml", tmp_path / "data"
    words = {
        "train": [str(config), "--method", "supervised", "--labels", "10%"],
        "compare": [str(config), "--labels", "10%"],
        "demo": [],
    }[command]
    words += ["--set", f"dataset.root={root}"] if words else []
    assert rangeseg([command, *words, "--out", str(tmp_path)]) == 2
    assert len(Simulated(root).scan_ids("train")) == 10


def test_another_data_set_is_left_alone(tmp_path: Path) -> None:
    ensure_simulated(SemanticKitti(tmp_path / "kitti"))
    assert not any(tmp_path.iterdir())


def test_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "simulation.json").write_text(json.dumps({"version": 0, "settings": {}}))
    with pytest.raises(DataError, match=r"version 0, this is version 1.*choose another root"):
        ensure_simulated(Simulated(tmp_path))


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for act in (ensure_simulated, Simulated.check_root):
        with pytest.raises(DataError, match="nothing was touched; choose another root"):
            act(Simulated(tmp_path))
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


@pytest.mark.slow
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
