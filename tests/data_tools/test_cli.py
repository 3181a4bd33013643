"""The rangeseg-data command, in this process and, twice, in its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.cli import main
from data_tools.simulate import SIMULATION_OPTIONS
from rangeseg.simulation import generate
from rangeseg.simulation.generate import SimulationSettings
from tests.data_tools.kitti_layout import write_root

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command; returns its exit code, stdout and stderr."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestSimulate:
    def test_passes_only_what_is_given(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        calls: list[tuple[object, ...]] = []
        monkeypatch.setattr(generate, "generate_dataset", lambda *given: calls.append(given))
        code, out, _ = call(
            capsys, "simulate", "data/town", "--train-scans", 20, "--seed", 0, "--workers", 2
        )
        assert code == 0
        assert calls == [(Path("data/town"), SimulationSettings(seed=0, train_scans=20), 2)]
        assert out.startswith("data/town: ")

    def test_every_setting_is_an_option(self) -> None:
        assert {o.replace("-", "_") for o in SIMULATION_OPTIONS} == set(
            SimulationSettings.model_fields
        )

    def test_a_value_out_of_range(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = call(capsys, "simulate", tmp_path / "town", "--beams", 1)
        assert code == 2
        assert re.fullmatch(r"error: --beams 1: Input should be greater than .*\n", err)
        assert not (tmp_path / "town").exists()


class TestProcess:
    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "data_tools.cli", *words],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip

    def test_results_on_stdout_progress_on_stderr(self, root: Path) -> None:
        (root / "sequences/08/labels/000000.label").unlink()
        done = self.run("check", "semantic_kitti", str(root))
        assert done.returncode == 3
        assert done.stdout.endswith("problems: 1\n")
        assert "checking semantic_kitti" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        "command", ["check", "import", "index", "pack", "scribble", "simulate", "split", "stats"]
    )
    def test_help_imports_nothing_heavy(self, command: str) -> None:
        code = (
            "import sys; from data_tools.cli import main\n"
            f"try: main([{command!r}, '--help'])\n"
            "except SystemExit as end: assert end.code == 0\n"
            "heavy = {'numpy', 'scipy', 'numba', 'torch', 'pydantic', 'tqdm', 'nuscenes'}\n"
            "heavy &= set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"example:\n  rangeseg-data {command} " in done.stdout
