"""`rangeseg predict RUN PATH` and `rangeseg.load`: any scans, by a run or a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData
from pypcd4 import PointCloud

import rangeseg
from rangeseg.cli import main
from rangeseg.datasets.simulated import Simulated
from rangeseg.deploy import backends, convert
from rangeseg.engine.prediction_files import STAMP
from rangeseg.errors import CheckpointError, ConfigError

Capture = pytest.CaptureFixture[str]
Predict = Callable[..., int]
WITHOUT_TORCH = """
import sys, time
start = time.monotonic()
import rangeseg
imported = time.monotonic() - start
import numpy as np
points = np.fromfile(sys.argv[2], np.float32).reshape(-1, 4)
labels = rangeseg.load(sys.argv[1]).predict(points)
print(imported, time.monotonic() - start, len(labels), "torch" in sys.modules)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drive(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans that the run does not know: a folder with three files."""
    folder = tmp_path_factory.mktemp("mine") / "drive"
    shutil.copytree(simulated_root / "sequences" / "08" / "velodyne", folder)
    return folder


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    """Calls the command with an --out below tmp_path."""

    def call(network: Path, *words: Any, out: str = "out") -> int:
        paths = [str(word) for word in words]
        return main(["predict", str(network), *paths, "--out", str(tmp_path / out)])

    return call


def error_of(capsys: Capture) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line


def labels_in(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).as_posix(): np.fromfile(path, np.uint32)
        for path in sorted(folder.rglob("*.label"))
    }


def test_a_file_is_loaded_without_torch(exported: Path, drive: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, str(exported), str(drive / "000000.bin")]
    runs = [subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2)]
    figures = [run.stdout.split() for run in runs]
    assert figures[0][2:] == [str((drive / "000000.bin").stat().st_size // 16), "False"]
    assert min(float(imported) for imported, *_ in figures) < 0.1
    assert min(float(labelled) for _, labelled, *_ in figures) < 3  # once numba has its cache


def test_a_file_predicts_without_torch(exported: Path, drive: Path, tmp_path: Path) -> None:
    code = "import sys; from rangeseg.cli import main; code = main(sys.argv[1:])\n"
    code += "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
    words = [sys.executable, "-c", code, "predict", str(exported), str(drive), "--out", "out"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out: predictions of 3 scans\n"


def test_files_of_a_run(
    trained_run: Path, exported: Path, simulated_root: Path, drive: Path, tmp_path: Path,
    predict: Predict, capsys: Capture,
) -> None:  # fmt: skip
    """The same labels as the command writes for the split, and nearly those of the file."""
    assert predict(trained_run, drive, "--backend", "torch", "--confidence", out="files") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'files'}: predictions of 3 scans\n"
    assert "warning" not in captured.err
    words = ["predict", str(trained_run), "--split", "val", "--backend", "torch", "--confidence"]
    assert main([*words, "--out", str(tmp_path / "split")]) == 0
    found, split = labels_in(tmp_path / "files"), labels_in(tmp_path / "split")
    assert list(found) == [f"00000{n}.label" for n in range(3)]
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, split[f"sequences/08/predictions/{name}"])
        halves = Path("confidence", name).with_suffix(".float16")
        assert (tmp_path / "files" / halves).stat().st_size == 2 * len(labels)
    assert predict(exported, drive, "--backend", "onnxruntime", out="exported") == 0
    segmenter = rangeseg.load(exported, backend="onnxruntime")
    for name, labels in labels_in(tmp_path / "exported").items():
        points = np.fromfile(drive / name.replace(".label", ".bin"), np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(labels, segmenter.predict(points))
    stamp = json.loads((tmp_path / "exported" / STAMP).read_text())
    assert stamp["run"] == str(exported.resolve())
    assert stamp["backend"] == "onnxruntime"
    assert stamp["paths"] == [str(drive)]


def test_the_data_of_a_run_need_not_be_there(
    trained_run: Path, simulated_root: Path, drive: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(trained_run, moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace(str(simulated_root), "/nowhere/at/all"))
    points = np.fromfile(drive / "000000.bin", np.float32).reshape(-1, 4)
    expected = rangeseg.load(trained_run).predict(points)
    np.testing.assert_array_equal(rangeseg.load(moved).predict(points), expected)
    assert main(["predict", str(moved), str(drive), "--out", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(labels_in(tmp_path / "out")["000000.label"], expected)


def test_coloured_clouds(exported: Path, drive: Path, tmp_path: Path, predict: Predict) -> None:
    sequence = tmp_path / "2.5"
    sequence.mkdir()
    shutil.copy(drive / "000001.bin", sequence / "17.25.bin")
    assert predict(exported, drive, sequence, "--format", "ply", out="ply") == 0
    assert predict(exported, sequence, "--format", "pcd", "--min-confidence", "0.3") == 0
    files = {file.name: file for file in (tmp_path / "ply").rglob("*.ply")}
    assert sorted(files) == [*(f"00000{n}.ply" for n in range(3)), "17.25.ply"]
    assert {files["000000.ply"].parent.name, files["17.25.ply"].parent.name} == {"drive", "2.5"}
    vertices = PlyData.read(files["17.25.ply"])["vertex"]
    points = np.fromfile(drive / "000001.bin", np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(np.stack([vertices[c] for c in "xyz"], 1), points[:, :3])
    segmenter = rangeseg.load(exported)
    colours = np.stack([vertices[c] for c in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(colours, [segmenter.colours[i] for i in vertices["label"]])
    cloud = PointCloud.from_path(tmp_path / "out" / "17.25.pcd").pc_data
    sure = segmenter.predict(points, confidence=True)[1] >= 0.3
    np.testing.assert_array_equal(cloud["label"], np.where(sure, vertices["label"], 0))
    assert 0 < sure.mean() < 1


def test_a_begun_folder_keeps_its_backend(
    trained_run: Path, exported: Path, drive: Path, tmp_path: Path, predict: Predict,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    """``auto`` would choose by what is installed, or by the number of scans."""
    assert predict(exported, drive, "--backend", "onnxruntime") == 0
    before = labels_in(tmp_path / "out")
    (tmp_path / "out" / "000001.label").unlink()
    assert predict(exported, drive) == 2
    assert "is not empty: add --resume to complete it" in error_of(capsys)
    assert predict(exported, drive, "--resume") == 0
    after = labels_in(tmp_path / "out")
    np.testing.assert_array_equal(after["000001.label"], before["000001.label"])
    assert predict(exported, drive, "--resume", "--backend", "openvino") == 2
    assert "was begun with backend=onnxruntime, now it is openvino" in error_of(capsys)
    words = ["predict", str(trained_run), "--split", "val", "--out", str(tmp_path / "split")]
    assert main([*words, "--backend", "torch"]) == 0
    monkeypatch.setattr(convert, "WORTH_CONVERTING", 1)  # `auto` alone would take OpenVINO
    assert main([*words, "--resume"]) == 0


@pytest.mark.real_data
def test_real_files_of_other_sensors(
    exported: Path, real_data: Path, tmp_path: Path, predict: Predict, capsys: Capture
) -> None:
    formats = real_data / "formats"
    vlp16, p64 = formats / "vlp16_binary_ring.pcd", formats / "p64_compressed_ring_time.pcd"
    assert predict(exported, vlp16, p64, "--layout", "intensity_max=255") == 0
    err = capsys.readouterr().err
    assert "warning: vlp16_binary_ring shows about 10 beams from 15.0 to -11.0 degrees" in err
    assert "its points outside the view of the network's sensor simulated-32 (32 beams, 2" in err
    for file in (vlp16, p64):
        points = PointCloud.from_path(file).points
        assert (tmp_path / "out" / f"{file.stem}.label").stat().st_size == 4 * points
    kitti = min((real_data / "semantickitti_mini").rglob("velodyne/*.bin"))
    assert predict(exported, kitti, out="kitti") == 0
    assert "about 64 beams" in capsys.readouterr().err

    xt16 = formats / "xt16_binary_xyz.pcd"
    assert predict(exported, xt16, out="xt16") == 3
    error = error_of(capsys)
    assert error.startswith("error: xt16_binary_xyz.pcd holds no intensity: the network needs it;")
    assert error.endswith("(here --layout KEY=VALUE), or predict all the same with --anyway")
    assert not (tmp_path / "xt16").exists()
    assert predict(exported, xt16, "--anyway", out="xt16") == 0
    assert predict(exported, xt16, "--layout", "accept=no_intensity", out="accepted") == 0
    assert predict(exported, formats / "vlp16_packets", out="bag") == 3
    assert ".db3), not files of scans: `rangeseg-data import" in error_of(capsys)


@pytest.mark.real_data
def test_what_is_not_read_right(
    exported: Path, real_data: Path, tmp_path: Path, predict: Predict, capsys: Capture
) -> None:
    sweep = real_data / "nuscenes_demo_sweep"
    assert predict(exported, sweep) == 3
    error = error_of(capsys)
    assert "repeat after 5, and 4 are read as a point: add --layout columns=5, or predict" in error
    assert predict(exported, sweep, "--layout", "columns=5", "intensity_max=255") == 0
    kitti = min((real_data / "semantickitti_mini").rglob("velodyne/*.bin"))
    points = np.fromfile(kitti, np.float32).reshape(-1, 4)
    points.astype(np.float64).tofile(tmp_path / "wide.bin")
    np.save(tmp_path / "mm.npy", points * np.float32([1000, 1000, 1000, 1]))
    capsys.readouterr()
    assert predict(exported, tmp_path / "wide.bin", out="wide") == 3
    assert "layout.dtype=float64" in error_of(capsys)
    assert predict(exported, tmp_path / "wide.bin", "--layout", "dtype=float64", out="wide") == 0
    assert predict(exported, tmp_path / "mm.npy", out="mm") == 3
    assert "state layout.scale=0.001" in error_of(capsys)
    assert predict(exported, tmp_path / "mm.npy", "--layout", "scale=0.001", out="mm") == 0
    narrow, metres = labels_in(tmp_path / "mm"), labels_in(tmp_path / "wide")
    assert (narrow["mm.label"] == metres["wide.label"]).mean() > 0.99


def test_an_unreadable_file(
    exported: Path, drive: Path, tmp_path: Path, predict: Predict, capsys: Capture
) -> None:
    folder = tmp_path / "drive"
    shutil.copytree(drive, folder)
    (folder / "000001.bin").write_bytes(b"12345")
    assert predict(exported, folder) == 3
    assert "000001.bin has 5 bytes" in error_of(capsys)
    assert predict(exported, folder, "--resume", "--on-bad-scan", "skip") == 0
    assert "1 skipped scans have none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["RUN", "DRIVE", "--split", "val"], 2, "--split is for the run's data set: leave it out"),
        (["RUN", "DRIVE", "--zip"], 2, "--zip is for the run's data set: leave it out, or PATH"),
        (["RUN", "--format", "ply"], 2, "--format is for files of scans: name them behind RUN"),
        (["RUN", "--layout", "columns=5"], 2, "--layout is for files of scans"),
        (["FILE"], 2, "is a file, which knows no data set: name the files or folders of scans"),
        (["FILE", "DRIVE", "--tta", "2"], 2, "an ONNX file of one view: --tta needs the folder"),
        (["FILE", "DRIVE", "--device", "cuda"], 2, "runs on the CPU, not on cuda"),
        (["FILE", "DRIVE", "--backend", "torch"], 2, "which PyTorch does not run"),
        (["FILE", "DRIVE", "--layout", "x=1"], 2, "unknown key of --layout 'x'"),
        (["FILE", "nowhere"], 3, "nowhere does not exist: give files or folders of scans"),
        (["FILE", "EMPTY"], 3, "holds no files of scans (found: nothing)"),
        (["FILE", "README"], 3, "is text, not a file of points"),
        (["README", "DRIVE"], 3, "is not an ONNX file: give one that `rangeseg export` wrote"),
        (["EMPTY", "DRIVE"], 2, "is not a run folder (no config.yaml)"),
        (["nowhere", "DRIVE"], 2, "give the folder of a run, or a file that `rangeseg export`"),
    ],
)
def test_what_does_not_go(
    words: list[str], code: int, message: str, trained_run: Path, exported: Path, drive: Path,
    tmp_path: Path, predict: Predict, capsys: Capture,
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    readme = Path(__file__).parents[2] / "README.md"
    places = {"RUN": trained_run, "FILE": exported, "DRIVE": drive, "README": readme}
    places["EMPTY"] = tmp_path / "empty"
    network, *rest = [str(places.get(word, word)) for word in words]
    assert predict(Path(network), *rest) == code
    assert message in error_of(capsys)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_loaded(
    trained_run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"nothing.onnx does not exist: give the folder of"):
        rangeseg.load(tmp_path / "nothing.onnx")
    with pytest.raises(ConfigError, match="threads=0: give a number from 1 on"):
        rangeseg.load(exported, threads=0)
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        rangeseg.load(trained_run, device="tpu")
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "last.pt").write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"last.pt is damaged or not a checkpoint"):
        rangeseg.load(run)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(backends, "installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed: pip install 'rangeseg\["):
        rangeseg.load(exported, backend="onnxruntime")


def test_the_sensor_is_that_of_the_image(trained_run: Path, simulated_root: Path) -> None:
    segmenter, own = rangeseg.load(trained_run), Simulated(simulated_root).info.sensor
    assert segmenter.sensor == own.resized(32, 256)
