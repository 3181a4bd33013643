"""The benchmarks run, as small as they can be: that they print a table, not what is in it."""

import csv
import importlib
import json
import sys
from pathlib import Path

import pytest

from rangeseg.methods import METHODS
from tests.benchmarks import eight_crops

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


def test_the_table_of_eight_crops_has_every_run_of_its_results() -> None:
    runs = [run.title for group in eight_crops.TABLE for run in eight_crops.planned(group)]
    assert len(runs) == len(set(runs))
    with Path(__file__).with_name("simulated_8_crops_test.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    for run in results:
        data = run["dataset"].removesuffix("_drawn").removesuffix("_simulated")
        row = run["method"] + f"_{run['labelled']}" * (run["labelled"] != "strong")
        row += "_reach2" * bool(run["propagation"])
        assert f"{data}/{row}/{run['labels'][:-1]}pct/seed{run['seed']}" in runs


@pytest.mark.slow
def test_the_table_of_eight_crops_is_trained_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of three data sets, tiny; the second call trains nothing."""
    few = "--train-scans", "10", "--val-scans", "1", "--test-scans", "2", "--columns", "256"
    (simulate,), (simulate_nuscenes, index) = eight_crops.STREET[2], eight_crops.NUSCENES[2]
    street = eight_crops.STREET._replace(commands=((*simulate, *few),))
    nuscenes = eight_crops.NUSCENES._replace(commands=((*simulate_nuscenes, *few), index))
    table = [
        eight_crops.Group(("50%",), ("supervised",), "strong", 1, False, street),
        eight_crops.Group(("50%",), ("supervised",), "plain", 1, False, nuscenes),
        eight_crops.Group(("50%",), ("cutmix_seg",), "plain", 1, False, eight_crops.SCRIBBLES),
    ]
    tiny = ["range_image.width=256", "range_image.crop_width=64", "model.width=4", "train.steps=2"]
    words = ["eight_crops", "--csv", "table.csv", *(w for t in tiny for w in ("--set", t))]
    monkeypatch.setattr(eight_crops, "TABLE", table)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.chdir(tmp_path)
    times = []
    for _ in range(2):
        assert eight_crops.main() == 0, capsys.readouterr().err
        times.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")})
    assert times[0] == times[1]
    assert len(times[0]) == 3
    with (tmp_path / "table.csv").open(newline="") as file:
        runs = [(run["dataset"], run["split"]) for run in csv.DictReader(file)]
    assert runs == [
        ("simulated", "test"), ("nuscenes_simulated", "test"), ("scribble_kitti_drawn", "val"),
    ]  # fmt: skip
