"""Wrong scans in files: refused by stats, check and training until they are stated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from tests.datasets.survey import wrong_scans as wrong

pytestmark = pytest.mark.real_data
Capture = pytest.CaptureFixture[str]
POSE = np.array([[0.0, -1, 0, 500_000], [1, 0, 0, 5_400_000], [0, 0, 1, 120]])


def write(
    root: Path,
    points: np.ndarray,
    point_type: str = "<f4",
    label_type: str = "<u4",
    pose: np.ndarray | None = None,
) -> Path:
    """Two sequences of one scan each, with labels by the intensity."""
    labels = 10 + (points[:, 3] > 0.1) * 30
    for sequence in ("a", "b"):
        folder = root / "sequences" / sequence
        for name, values, kind in (
            ("velodyne/0.bin", points, point_type), ("labels/0.label", labels, label_type),
        ):  # fmt: skip
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            values.astype(kind).tofile(folder / name)
        if pose is not None:
            np.savetxt(folder / "poses.txt", pose.reshape(1, 12))
    return root


def world(points: np.ndarray) -> np.ndarray:
    xyz = points[:, :3].astype(np.float64) @ POSE[:, :3].T + POSE[:, 3]
    return np.concatenate([xyz, points[:, 3:]], axis=1)


def in_millimetres(points: np.ndarray) -> np.ndarray:
    return points * np.array([1000, 1000, 1000, 1], np.float32)


Change = Callable[[np.ndarray], np.ndarray]
CASES: list[tuple[str, Change, dict[str, object], list[str]]] = [
    ("number_type", np.array, {"point_type": "<f8"}, ["dtype=float64"]),
    ("number_type", np.array, {"point_type": ">f4", "label_type": ">u4"}, ["byte_order=big"]),
    ("label_type", np.array, {"label_type": "<f4"}, ["label_type=float32"]),
    ("label_type", np.array, {"label_type": "<f8"}, ["label_type=float64"]),
    ("label_type", np.array, {"label_type": ">u4"}, []),
    ("scale", in_millimetres, {}, ["scale=0.001"]),
    ("axes", wrong.camera, {}, ["axes=z,-x,-y"]),
    ("upside_down", wrong.upside_down, {}, ["axes=x,-y,-z"]),
    ("tilt", wrong.turned(pitch=30), {}, ["pitch_deg=30"]),
    ("world", world, {"point_type": "<f8", "pose": POSE}, ["dtype=float64", "frame=world"]),
    ("merged", wrong.merged(1.0, 4), {}, ["accept=merged"]),
    ("no_beams", lambda points: wrong.rosette(), {}, ["accept=no_beams"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change", "files", "stated"), CASES)
def test_refused_until_stated(
    name: str,
    change: Change,
    files: dict[str, object],
    stated: list[str],
    real_data: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    root = write(tmp_path, change(wrong.nuscenes(real_data)), **files)  # type: ignore[arg-type]
    before = stated[:1] if name == "world" else []
    words = ["stats", "custom", str(root), "--scans", "2", "--layout", "points_suffix=.bin"]
    assert main([*words, *before]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert f"or accept it: layout.accept=[{name}]" in error
    if not stated:
        return
    key, _, value = stated[-1].partition("=")
    assert f"layout.{key}=" in error
    assert name in ("axes", "upside_down", "tilt", *value.split(",")) or value in error
    assert main([*words, *stated]) == 0, capsys.readouterr().err
    config = tmp_path / "mine.yaml"
    config.write_text(capsys.readouterr().out)
    assert main(["check", str(config)]) == 0, capsys.readouterr().out


def test_check_and_training_refuse(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """A configuration that somebody wrote himself, or was given by --anyway."""
    root = write(tmp_path / "mine", in_millimetres(wrong.nuscenes(real_data)))
    assert main(["stats", "custom", str(root), "--anyway"]) == 0
    config = tmp_path / "mine.yaml"
    config.write_text(capsys.readouterr().out)
    assert "# refused: half of the points of a/0 lie within" in config.read_text()
    assert main(["check", str(config)]) == 3
    out = capsys.readouterr().out
    assert "problem: half of the points of a/0 lie within" in out
    assert "(2 of 2 sequences): coordinates in millimetres" in out
    run = tmp_path / "run"
    train = ["train", str(config), "--method", "supervised", "--labels", "100%"]
    assert rangeseg([*train, "--out", str(run)]) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: half of the points of a/0 lie within")
    assert not run.exists()

    values = yaml.safe_load(config.read_text())
    values["dataset"]["description"]["layout"] = {"accept": ["scalee"]}
    config.write_text(yaml.safe_dump(values))
    assert main(["check", str(config)]) == 2
    assert "unknown verdict in layout.accept 'scalee' (did you mean 'scale'?)" in (
        capsys.readouterr().err
    )


def test_stats_measures_a_front_view(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """And the points that its image loses, beside narrower and wider ones."""
    root = write(tmp_path, wrong.dual(wrong.front(90)(wrong.nuscenes(real_data))))
    assert main(["stats", "custom", str(root)]) == 0
    out = capsys.readouterr().out
    sensor = yaml.safe_load(out)["dataset"]["description"]["sensor"]
    assert (sensor["azimuth_left_deg"], sensor["azimuth_right_deg"]) == (45, -45)
    assert "% of the directions of a/0 have a second point" in out
    lines = {line.split()[1]: line.split()[2:] for line in out.splitlines() if line[:2] == "# "}
    assert lines["columns"] == ["144", "224", "288", "432", "576"]
    lost = [float(share.rstrip("%")) for share in lines["lost"][-5:]]
    assert lost == sorted(lost, reverse=True)
