"""The rangeseg-data command, in this process and, twice, in its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from data_tools.cli import main
from data_tools.simulate import SIMULATION_OPTIONS
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.splits import read_split
from rangeseg.settings import Settings
from rangeseg.simulation.generate import SimulationSettings
from tests.data_tools.kitti_layout import write_root, write_scan

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command; returns its exit code, stdout and stderr."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


class TestCheck:
    def test_sound(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = call(capsys, "check", "semantic_kitti", root)
        assert code == 0
        lines = [line.split() for line in out.splitlines()]
        assert lines[0] == ["split", "sequence", "scans", "labelled", "points", "problems"]
        assert lines[1] == ["train", "00", "2", "2", "10", "0"]
        assert ["val", "08", "2", "2", "10", "0"] in lines
        assert lines[-2:] == [["total", "22", "22", "110", "0"], ["problems:", "none"]]
        assert "test" not in out  # is not there, and training does not need it
        assert "checking semantic_kitti: 22/22 scans" in err

    def test_every_fault_is_reported(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = SemanticKitti(root)
        source.paths("00/000000")[0].write_bytes(b"12345")
        source.paths("05/000000")[1].unlink()
        write_scan(root, "08/000001", [40])
        (root / "sequences/03").rename(root / "elsewhere")
        code, out, _ = call(capsys, "check", "semantic_kitti", root)
        assert code == 3
        problems = [line for line in out.splitlines() if line.startswith("problem: ")]
        assert len(problems) == 4
        assert "000000.bin has 5 bytes, not a multiple of 16" in problems[0]
        assert "sequence 03 is missing" in problems[1]
        assert "000000.label does not exist" in problems[2]
        assert "000001.label has 1 labels but 000001.bin has 5 points" in problems[3]
        assert out.endswith("problems: 4\n")

    def test_only_ten_culprits(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path in root.glob("sequences/0?/labels/*.label"):
            path.unlink()
        code, out, _ = call(capsys, "check", "semantic_kitti", root)
        assert code == 3
        assert out.count("\nproblem: ") == 11
        assert out.endswith("problem: ... 10 more\nproblems: 20\n")

    def test_some_splits(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = call(capsys, "check", "semantic_kitti", root, "--split", "val")
        assert code == 0
        assert "total                  2" in out
        code, out, _ = call(capsys, "check", "semantic_kitti", root, "--split", "test", "val")
        assert code == 3
        assert "problem: no sequence of the split test can be read: sequence 11 is missing" in out
        assert out.count("problem: ") == 1

    def test_test_scans_need_no_labels(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_scan(root, "11/000000", None)
        code, out, _ = call(capsys, "check", "semantic_kitti", root)
        assert code == 0
        assert ["test", "11", "1", "0", "5", "0"] in [line.split() for line in out.splitlines()]
        assert "note: sequence 12 is missing" in out

    def test_only_listed_scans_need_labels(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "list.txt").write_text("00/000001\n")
        for scan_id in SemanticKitti(root).scan_ids("train"):
            if scan_id != "00/000001":
                SemanticKitti(root).paths(scan_id)[1].unlink()
        arguments = ("check", "semantic_kitti", root, "--labels", tmp_path / "list.txt")
        code, out, _ = call(capsys, *arguments)
        assert code == 0, out
        SemanticKitti(root).paths("00/000001")[1].unlink()
        assert call(capsys, *arguments)[0] == 3

    def test_deep(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = SemanticKitti(root)
        points = np.array(
            [[0, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 0, 0], [1, 2, 3, 255]], dtype=np.float32
        )
        points.tofile(source.paths("01/000000")[0])
        np.zeros(4, dtype=np.uint32).tofile(source.paths("01/000000")[1])
        np.zeros((5, 4), dtype=np.float32).tofile(source.paths("02/000000")[0])
        write_scan(root, "00/000000", [40, 40, 40, 40, 5])
        assert call(capsys, "check", "semantic_kitti", root)[0] == 0  # sizes alone are fine
        code, out, _ = call(capsys, "check", "semantic_kitti", root, "--deep")
        assert code == 3
        assert "000000.label: unknown raw id 5 (1 points)" in out
        assert "note: 01/000000 has intensities from 255 to 255, expected 0 to 1" in out
        assert "note: 01/000000 has only ignored labels" in out
        assert "note: 02/000000 has no point with a position" in out
        assert "empty returns (NaN or 0, 0, 0): 8 of 104 points" in out

    def test_histogram(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, out, _ = call(capsys, "check", "semantic_kitti", root, "--deep")
        table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
        assert table["car"] == ["40.000", "40.000"]  # 10 and 252 of five labels
        assert table["road"] == table["traffic-sign"] == table["(ignored)"] == ["20.000"] * 2
        assert table["person"] == ["0.000", "0.000"]

    def test_wrong_root(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, err = call(capsys, "check", "semantic_kitti", root / "sequences")
        assert (code, out) == (3, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert f"give {root} as the root" in err

    @pytest.mark.parametrize("dataset", ["semantic_kitti", "simulated"])
    def test_a_check_makes_nothing(
        self, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _, err = call(capsys, "check", dataset, tmp_path / "typo")
        assert code == 3
        assert "typo is not a folder: there is nothing to check" in err
        assert not (tmp_path / "typo").exists()

    def test_unknown_names(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = call(capsys, "check", "semantic_kity", root)
        assert code == 2
        assert "unknown data set 'semantic_kity' (did you mean 'semantic_kitti'?)" in err
        code, _, err = call(capsys, "check", "semantic_kitti", root, "--split", "valid")
        assert code == 2
        assert "unknown split 'valid'" in err

    @pytest.mark.real_data
    def test_real_scans(self, real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mini = real_data / "semantickitti_mini"
        started = time.perf_counter()
        code, out, _ = call(capsys, "check", "semantic_kitti", mini)
        assert time.perf_counter() - started < 2.0
        assert code == 0
        assert "4,329,218" in out
        code, out, _ = call(capsys, "check", "semantic_kitti", mini, "--deep", "--split", "val")
        assert code == 0
        assert "note:" not in out


class TestSplit:
    def test_draws_nested_lists(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out_folder = tmp_path / "lists"
        arguments = ("split", "semantic_kitti", root, "--out", out_folder, "--seed", 3)
        code, out, _ = call(capsys, *arguments, "--labels", "10%", "0.5")
        assert code == 0
        few, half = (
            out_folder / f"semantic_kitti_uniform_{name}_seed3.txt" for name in ("10pct", "50pct")
        )
        assert out.splitlines() == [
            f"{few}: 2 of 20 training scans labelled (10.00%)",
            f"{half}: 10 of 20 training scans labelled (50.00%)",
        ]
        assert set(read_split(few)) < set(read_split(half))
        assert "rangeseg-data split --labels 10% --seed 3" in few.read_text()

        half.unlink()  # one of two is there: neither is written
        before = few.read_text()
        code, out, err = call(capsys, *arguments, "--labels", "50%", "10%")
        assert (code, out) == (2, "")
        assert "10pct_seed3.txt exists and is not overwritten" in err
        assert few.read_text() == before
        assert not half.exists()

        code, out, _ = call(capsys, "split", "semantic_kitti", root, "--check", few)
        assert code == 0
        assert out == f"{few}: 2 of 20 training scans labelled (10.00%): fits semantic_kitti\n"

    def test_check_of_a_bad_list(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "list.txt"
        path.write_text("00/000000\n08/000000\n")
        code, out, err = call(capsys, "split", "semantic_kitti", root, "--check", path)
        assert (code, out) == (3, "")
        assert "1 of 2 scans are not in the train split (20 scans)" in err
        assert "08/000000 (a scan of val)" in err

    def test_usage(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code, _, err = call(capsys, "split", "semantic_kitti", root, "--labels", "1%")
        assert code == 2
        assert "add --out DIR" in err
        code, _, err = call(
            capsys, "split", "semantic_kitti", root, "--labels", "20", "--out", root / "lists"
        )
        assert code == 2
        assert "did you mean 20%?" in err
        with pytest.raises(SystemExit, match="2"):
            main(["split", "semantic_kitti", str(root)])
        assert "one of the arguments --labels --check is required" in capsys.readouterr().err


class TestSimulate:
    def test_passes_only_what_is_given(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        class SomeSettings(Settings):
            seed: int = 7
            train_scans: int = 9
            beams: int = 32

        calls: list[tuple[object, ...]] = []
        module = ModuleType("rangeseg.simulation.generate")
        module.SimulationSettings = SomeSettings  # type: ignore[attr-defined]
        module.generate_dataset = lambda *given: calls.append(given)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "rangeseg.simulation.generate", module)

        code, out, _ = call(
            capsys, "simulate", "data/town", "--train-scans", 2, "--seed", 0, "--workers", 2
        )
        assert code == 0
        assert calls == [(Path("data/town"), SomeSettings(seed=0, train_scans=2), 2)]
        assert out.startswith("data/town: ")

        code, _, err = call(capsys, "simulate", "data/town", "--val-scans", 2)
        assert code == 2
        assert err == "error: --val-scans 2: Extra inputs are not permitted\n"

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

    @pytest.mark.parametrize("command", ["check", "split", "simulate"])
    def test_help_imports_nothing_heavy(self, command: str) -> None:
        code = (
            "import sys; from data_tools.cli import main\n"
            f"try: main([{command!r}, '--help'])\n"
            "except SystemExit as end: assert end.code == 0\n"
            "heavy = {'numpy', 'numba', 'torch', 'pydantic', 'tqdm'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"example:\n  rangeseg-data {command} " in done.stdout
