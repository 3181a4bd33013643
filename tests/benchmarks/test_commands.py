"""The benchmarks run, as small as they can be: that they print a table, not what is in it."""

import importlib
import json
import sys
from pathlib import Path

import pytest

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
