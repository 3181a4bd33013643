"""A run whose network another program runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from rangeseg.cli import main
from rangeseg.deploy import convert
from rangeseg.deploy.convert import make_backend, resolve_backend
from rangeseg.errors import ConfigError
from tests.models.test_prediction import trained

Capture = pytest.CaptureFixture[str]
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def test_the_fastest_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backend("auto", CPU, 20) == "openvino"
    assert resolve_backend("auto", CPU, 19) == resolve_backend("auto", GPU, 1000) == "torch"
    monkeypatch.setattr(convert, "installed", lambda name: False)
    assert resolve_backend("auto", CPU, 1000) == "torch"


def test_other_programs_run_on_the_cpu() -> None:
    with pytest.raises(ConfigError, match="--backend openvino runs on the CPU, not on cuda:0"):
        make_backend("openvino", trained("fidnet"), (3, 16, 64), GPU, "auto")


@pytest.mark.slow
def test_results_name_the_backend_and_reports_keep_them_apart(
    trained_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    runs = []
    for backend in ("torch", "openvino", "onnxruntime"):
        run = shutil.copytree(trained_run, tmp_path / backend)
        words = [str(run), "--backend", backend]
        assert main(["evaluate", *words]) == 0
        runs.append(json.loads((run / "result.json").read_text()))
        assert runs[-1]["protocol"]["backend"] == backend
    assert abs(runs[1]["miou"]["point"] - runs[0]["miou"]["point"]) < 0.5
    assert abs(runs[2]["miou"]["point"] - runs[0]["miou"]["point"]) < 0.5
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(f"backend: {name};" in text for name in ("torch", "openvino", "onnxruntime"))


@pytest.mark.slow
def test_predictions_of_a_backend_are_completed_by_it(
    trained_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(trained_run), "--split", "val", "--out", str(out)]
    assert main([*words, "--backend", "onnxruntime"]) == 0
    stamp = json.loads((out / "rangeseg_predictions.json").read_text())
    assert stamp["backend"] == "onnxruntime"
    assert main([*words, "--resume"]) == 0  # auto keeps it
    assert main([*words, "--resume", "--backend", "torch"]) == 2
    assert "was begun with backend=onnxruntime, now it is torch" in capsys.readouterr().err
