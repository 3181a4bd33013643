"""Estimated poses: near the true ones, with a warning where they are not, resumed after a stop."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.nuscenes.index import write_index
from rangeseg.datasets.nuscenes.tables import build_index
from rangeseg.motion.odometry import STAMP, Drive
from rangeseg.motion.poses import load_poses
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from tests.data_tools.kitti_layout import write_root
from tests.datasets.nuscenes_format import write_nuscenes
from tests.motion.test_pose_files import turned

Capture = pytest.CaptureFixture[str]


def estimate(dataset: str, root: Path, out: Path, *more: object) -> int:
    return main([str(word) for word in ("poses", dataset, root, "--out", out, *more)])


def errors(source: ScanSource, sequence: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """How far each scan's estimated pose, relative to the first scan, is from the true one.

    Returns:
        (n-1,) metres and (n-1,) degrees.
    """
    found, true = load_poses(source, sequence, folder), load_poses(source, sequence)
    assert found.origin == "kiss-icp"
    assert not found.faults
    first, *rest = source.sequence_ids(sequence)
    np.testing.assert_array_equal(found.poses[first], np.eye(4))
    off = [
        np.linalg.inv(found.poses[i]) @ np.linalg.inv(true.poses[first]) @ true.poses[i]
        for i in rest
    ]
    turns = [np.arccos(np.clip((np.trace(o[:3, :3]) - 1) / 2, -1, 1)) for o in off]
    return np.array([np.linalg.norm(o[:3, 3]) for o in off]), np.degrees(turns)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_scans(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """Frames 0, 4, 9, at most 7.5 m apart: KISS-ICP alone takes the cars of 02, 04, 06 to stand."""
    root, names = real_data / "semantickitti_mini", ["02", "04", "06", "07", "08"]
    assert estimate("semantic_kitti", root, tmp_path / "poses", "--sequences", *names) == 0
    captured = capsys.readouterr()
    assert "poses: 17/17 scans" in captured.err
    assert "warning" not in captured.err
    cells = [c.strip() for c in captured.out.splitlines()[3].strip("|").split("|")]
    assert cells[:4] == ["04", "3", "12", "0"]  # sequence, scans, metres, jumps
    source = open_dataset("semantic_kitti", root)
    for name in names:
        metres, degrees = errors(source, name, tmp_path / "poses")
        assert metres.max() < 0.25  # .13 when this was written
        assert degrees.max() < 0.5  # .2


@pytest.mark.slow
def test_the_packed_street(tmp_path: Path) -> None:
    """A pack is read as well as the folder that it was made of."""
    root, pack = tmp_path / "street", tmp_path / "street.pack"
    settings = SimulationSettings(
        train_scans=10, val_scans=8, test_scans=4, columns=512, spacing=1.0
    )
    generate_dataset(root, settings, workers=1)
    assert main(["pack", "simulated", str(root), "--split", "val", "--out", str(pack)]) == 0
    assert estimate("simulated", pack, tmp_path / "poses", "--split", "val") == 0
    metres, degrees = errors(open_dataset("simulated", pack), "08", tmp_path / "poses")
    assert len(metres) == 7
    assert metres.max() < 0.5
    assert degrees.max() < 1.0


def test_nuscenes(tmp_path: Path, capsys: Capture) -> None:
    """A sequence is a scene, and its name that of the file."""
    root = write_nuscenes(tmp_path / "data", "v1.0-mini", ["scene-0061"], samples=4)
    write_index(build_index(root, "v1.0-mini"), root)
    assert estimate("nuscenes", root, tmp_path / "poses") == 0
    assert "left out: the split test: " in capsys.readouterr().out
    lines = (tmp_path / "poses" / "scene-0061.txt").read_text().splitlines()
    assert lines[0] == "1 0 0 0 0 1 0 0 0 0 1 0"
    assert len(lines) == 4


@pytest.mark.slow
@pytest.mark.real_data
def test_scans_of_two_places_are_unsure(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "data" / "sequences" / "00" / "velodyne"
    folder.mkdir(parents=True)
    sequences = real_data / "semantickitti_mini" / "sequences"
    for frame, sequence in (("000000", "00"), ("000002", "04")):
        scan = np.fromfile(sequences / sequence / "velodyne" / "000000.bin", np.float32)
        scan.reshape(-1, 4)[::8].tofile(folder / f"{frame}.bin")
    assert estimate("semantic_kitti", tmp_path / "data", tmp_path / "poses") == 0
    captured = capsys.readouterr()
    assert "warning: sequence 00, unsure poses: 1 (the worst " in captured.err
    assert "% overlap at 00/000002): look at these poses before use" in captured.err
    lines = (tmp_path / "poses" / "00.txt").read_text().splitlines()
    assert lines[1] == " ".join(["nan"] * 12)
    assert len(lines) == 3


def test_a_bad_scan_ends_it_and_the_same_call_completes_it(tmp_path: Path, capsys: Capture) -> None:
    root, out = write_root(tmp_path / "kitti"), tmp_path / "poses"
    bad = root / "sequences" / "01" / "velodyne" / "000001.bin"
    content = bad.read_bytes()
    bad.write_bytes(content[:-1])
    assert estimate("semantic_kitti", root, out, "--sequences", "00", "01", "02") == 3
    assert f"error: {bad} has 79 bytes" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["00.txt", STAMP]
    bad.write_bytes(content)
    (out / "00.txt").write_text("kept")
    assert estimate("semantic_kitti", root, out, "--sequences", "00", "01", "02") == 0
    assert f"{out}: 1 of 3 sequences were there already" in capsys.readouterr().out
    assert (out / "00.txt").read_text() == "kept"
    assert sorted(p.name for p in out.iterdir()) == ["00.txt", "01.txt", "02.txt", STAMP]


def test_other_folders_are_refused(tmp_path: Path, capsys: Capture) -> None:
    root, out = write_root(tmp_path / "kitti"), tmp_path / "poses"
    out.mkdir()
    (out / "00.txt").write_text("mine")
    assert estimate("semantic_kitti", root, out) == 2
    assert f"error: {out} is not empty and has no sound {STAMP}" in capsys.readouterr().err
    out = tmp_path / "new"
    assert estimate("semantic_kitti", root, out, "--sequences", "00") == 0
    assert json.loads((out / STAMP).read_text())["dataset"] == "semantic_kitti"
    assert estimate("semantic_kitti", root, out, "--voxel-size", "0.5") == 2
    message = f"error: {out} holds other poses (voxel_size 0.75, not 0.5): choose another --out"
    assert message in capsys.readouterr().err
    assert estimate("semantic_kitti", root, out, "--voxel-size", "0") == 2
    assert "error: --voxel-size 0.0: " in capsys.readouterr().err


def test_the_library_is_missing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kiss_icp.config", None)
    root = write_root(tmp_path / "kitti")
    assert estimate("semantic_kitti", root, tmp_path / "poses") == 2
    assert "not installed: pip install 'rangeseg[poses]'" in capsys.readouterr().err
    assert not (tmp_path / "poses").exists()


@pytest.mark.parametrize(
    ("frames", "places", "jumps"),
    [
        ([0, 1, 2, 3, 4], [0, 1, 2, 9, 10], [3, 4]),
        ([0, 1, 2, 3, 4], [0, 1.5, 3, 3, 3], [3]),  # KISS-ICP holds on to what moves along
        ([0, 1, 5, 6, 8], [0, 1.5, 7.5, 9, 12], []),  # missing frames
        ([0, 1, 2, 3, 4], [0, 0, 0.4, 1.6, 3.6], []),  # 3 m/s² and more, two scans a second
        ([0, 1, 2, 3, 4], [0, 5, 9, 12, 14], []),  # and braking
        ([0, 7], [0, 3], []),
        ([5], [0], []),
    ],
)
def test_jumps(frames: list[int], places: list[float], jumps: list[int]) -> None:
    poses = np.array([turned(0.0, x, 0.0, 0.0) for x in places])
    drive = Drive("A", [f"A/{n:06d}" for n in frames], poses, np.ones(len(places)))
    assert np.flatnonzero(drive.changes()[1]).tolist() == jumps
