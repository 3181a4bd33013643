"""A network of points through every command, from its training to its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rangeseg.cli import main
from rangeseg.runs.folder import read_run_config

SETTINGS = (
    "model.name=frnet", "range_image.width=64", "range_image.crop_width=32", "train.steps=2",
    "train.terms_on=auxiliary_heads", "train.augmentation.instance_copy=[car, pole]",
    "train.augmentation.range_interpolation=4", "methods.lasermix.mix_loss=supervised",
)  # fmt: skip
"""The scans have 256 columns: four points a pixel."""


@pytest.fixture(scope="module")
def run(tiny_config: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points") / "run"
    words = ["train", *tiny_config, *[word for s in SETTINGS for word in ("--set", s)]]
    assert main([*words, "--method", "lasermix", "--labels", "10%", "--out", str(folder)]) == 0
    return folder


def labels_in(folder: Path) -> np.ndarray:
    return np.concatenate([np.fromfile(f, "<u4") for f in sorted(folder.rglob("*.label"))])


def test_a_run_of_points_is_trained_evaluated_and_judged_again(
    run: Path, tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_run_config(run).range_image.layers == 5
    result = json.loads((run / "result.json").read_text())
    assert result["protocol"]["layers"] == 5
    assert main(["predict", str(run), "--split", "val", "--out", str(tmp_path / "labels")]) == 0
    assert main(["score", *tiny_config, str(tmp_path / "labels"), "--split", "val"]) == 0
    assert f"{result['miou']['point']:.2f}" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--tta", "2"]) == 0
    assert main(["evaluate", str(run), "--corrupt", "beams:2"]) == 0


@pytest.mark.slow
def test_its_file_gives_the_labels_of_the_run(run: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.onnx"
    assert main(["export", str(run), "--out", str(net)]) == 0
    scans = str(read_run_config(run).dataset.root / "sequences" / "08" / "velodyne")
    for source in (run, net):
        assert main(["predict", str(source), scans, "--out", str(tmp_path / source.stem)]) == 0
    one, two = labels_in(tmp_path / "run"), labels_in(tmp_path / "net")
    assert (one == two).mean() > 0.99


def test_its_layers_are_drawn(run: Path, tmp_path: Path) -> None:
    heights = {}
    for kind in ("--panel", "--batch"):
        out = tmp_path / f"{kind}.png"
        assert main(["view", str(run), kind, "--save", str(out)]) == 0
        with Image.open(out) as picture:
            heights[kind] = picture.height
    assert heights["--panel"] > 9 * 32 * 8  # at least nine strips of 32 rows, eight times as high
