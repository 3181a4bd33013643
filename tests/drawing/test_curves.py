"""The picture of a run's curves; and that a training goes on without it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rangeseg.cli import main
from rangeseg.drawing.curves import CURVES, draw_curves
from rangeseg.engine.metrics_log import METRICS
from tests.runs.test_saving import file_limit

Log = pytest.LogCaptureFixture


def write_metrics(run: Path, count: int) -> None:
    lines = [
        {
            "step": 20 * i, "seconds": 1.0, "rate": 0.01, "loss": 2.0 / i, "supervised": 1.5 / i,
            "pseudo": 0.5 / i, "gradient_norm_0": 1.0, "data_wait": 0.1, "scans_per_second": 9.0,
            **({"val_miou": 10.0 + i} if i % 5 == 0 else {}),
        }
        for i in range(1, count + 1)
    ]  # fmt: skip
    (run / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))


def drawn(run: Path) -> np.ndarray:
    with Image.open(run / CURVES) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("count", [1, 59, 60])
def test_any_number_of_lines_is_drawn(tmp_path: Path, count: int, caplog: Log) -> None:
    write_metrics(tmp_path, count)
    draw_curves(tmp_path, "simulated/a_$method/10pct/seed0", (20 * count, 31.4))
    assert caplog.messages == []
    assert drawn(tmp_path).shape == (880, 990, 3)
    assert {path.name for path in tmp_path.iterdir()} == {METRICS, CURVES}


def test_what_is_drawn_is_what_was_written(tmp_path: Path) -> None:
    """Other values or another name give another picture, the same ones the same."""
    pictures = []
    for count, title, final in [
        (9, "a", None), (9, "a", None), (10, "a", None), (9, "b", None), (9, "a", (180, 3.0)),
    ]:  # fmt: skip
        write_metrics(tmp_path, count)
        draw_curves(tmp_path, title, final)
        pictures.append((tmp_path / CURVES).read_bytes())
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 4


def test_a_run_without_lines_has_no_picture(tmp_path: Path, caplog: Log) -> None:
    (tmp_path / METRICS).touch()
    draw_curves(tmp_path, "run")
    assert not (tmp_path / CURVES).exists()
    assert caplog.messages == []


def test_a_full_disk_is_one_warning(tmp_path: Path, caplog: Log) -> None:
    write_metrics(tmp_path, 9)
    with file_limit(1000):
        draw_curves(tmp_path, "run")
    (message,) = caplog.messages
    assert "curves.png cannot be drawn (" in message
    assert "\n" not in message
    assert {path.name for path in tmp_path.iterdir()} == {METRICS}


@pytest.mark.slow
def test_a_broken_matplotlib_does_not_end_a_training(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = ["--method", "supervised", "--labels", "10%", "--out", str(tmp_path / "run")]
    assert main(["train", *tiny_config, *words, "--set", "train.validate_every=3"]) == 0
    said = "curves.png cannot be drawn (import of matplotlib.figure halted"
    assert capsys.readouterr().err.count(said) == 1  # a warning that comes again is not repeated
    assert (tmp_path / "run" / "result.json").is_file()
