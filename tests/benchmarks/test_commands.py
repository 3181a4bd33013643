"""The benchmarks run, as small as they can be: that they print a table, not what is in it."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from rangeseg.methods import METHODS

SMALL = ["kernels", "loader", "training"]


@pytest.mark.slow
@pytest.mark.parametrize("module", SMALL)
def test_a_benchmark_prints_and_writes_its_table(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [module, "--repeats", "1", "--json", str(tmp_path / "table.json")]
    monkeypatch.setattr(sys, "argv", words)
    assert importlib.import_module(f"tests.benchmarks.{module}").main() == 0
    rows = json.loads((tmp_path / "table.json").read_text())
    printed = capsys.readouterr().out
    assert len(rows) >= 5
    for row in rows:
        assert f"| {next(iter(row.values()))} " in printed


@pytest.mark.slow
def test_the_proof_on_a_gpu_runs_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All its parts, at a tiny size; none fails."""
    file = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", "--json", str(file)])
    assert importlib.import_module("tests.benchmarks.gpu").main() == 0, capsys.readouterr().err
    rows = json.loads(file.read_text())
    (resumed,) = (row for row in rows if "resume" in row)
    assert (resumed["code of the stop"], resumed["largest difference"]) == (143, 0)
    assert METHODS.keys() <= {row["step"] for row in rows if "step" in row}
