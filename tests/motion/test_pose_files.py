"""Files of poses: which line belongs to which scan."""

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.pose_files import (
    frame_numbers,
    read_camera_transform,
    read_poses,
    read_sequence_poses,
    read_times,
    read_trajectory,
)
from rangeseg.errors import DataError


def turned(yaw: float, x: float, y: float, z: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = x, y, z
    return pose


def kitti_line(pose: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in pose[:3].ravel())


POSES = [turned(0.1 * n, 1.5 * n, 0.2 * n, 0.01 * n) for n in range(10)]


def test_frame_numbers() -> None:
    assert frame_numbers(["00/000000", "00/000004", "00/000009"]) == [0, 4, 9]
    assert frame_numbers(["a/scan_1", "a/scan_7"]) == [0, 1]
    assert frame_numbers(["a/1673400471.83", "a/1673400471.93"]) == [0, 1]
    assert frame_numbers([32 * "a", 32 * "b"]) == [0, 1]  # nuScenes
    assert frame_numbers(["a/20230101", "a/20230102"]) == [0, 1]  # no file has so many lines
    assert frame_numbers(["a/1", "a/01"]) == [0, 1]


def test_a_line_of_kitti_is_a_frame_number(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text("\n".join(map(kitti_line, POSES)))
    found = read_poses(path, ["00/000000", "00/000004", "00/000009", "00/000010"], {})
    assert list(found) == ["00/000000", "00/000004", "00/000009"]
    for scan_id, pose in found.items():
        np.testing.assert_allclose(pose, POSES[int(scan_id[3:])], atol=1e-8)


def test_an_empty_line_is_a_frame_without_a_pose(tmp_path: Path) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(f"{kitti_line(POSES[0])}\n\n{kitti_line(POSES[2])}\n")
    poses = read_trajectory(path).poses
    assert np.isnan(poses[1, :3]).all()
    np.testing.assert_allclose(poses[2], POSES[2], atol=1e-8)


def test_tum_is_matched_by_time(tmp_path: Path) -> None:
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for n, pose in enumerate(POSES):
        half = 0.05 * n  # of the yaw
        place = " ".join(map(str, pose[:3, 3]))
        lines.append(f"{100 + 0.1 * n:.3f} {place} 0 0 {np.sin(half)} {np.cos(half)}")
    path = tmp_path / "A.txt"
    path.write_text("\n".join(lines))
    ids = ["A/100.000", "A/100.409", "A/100.550", "A/100.900"]
    times = read_times(tmp_path, ids)
    assert times["A/100.409"] == 100.409
    found = read_poses(path, ids, times)
    assert list(found) == ["A/100.000", "A/100.409", "A/100.900"]  # none within 20 ms of .55
    for scan_id, number in (("A/100.000", 0), ("A/100.409", 4), ("A/100.900", 9)):
        np.testing.assert_allclose(found[scan_id], POSES[number], atol=1e-8)


def test_times_txt_has_a_line_for_each_frame(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("0.0\n1.037359e-01\n2.0e-01\n")
    assert read_times(tmp_path, ["00/000000", "00/000002", "00/000007"]) == {
        "00/000000": 0.0,
        "00/000002": 0.2,
    }
    assert read_times(tmp_path / "none", ["00/000000"]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", r":1: '1 2 3' is no pose: write 12 numbers a line"),
        (f"{kitti_line(POSES[0])}\n1 2 3\n", r":2: '1 2 3' is no pose"),
        (kitti_line(POSES[0]).replace("0", "o", 1), r":1: .* is no pose"),
        ("", "holds no pose: copy it again"),
    ],
)
def test_what_is_no_file_of_poses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "poses.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_trajectory(path)


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist") as caught:
        read_trajectory(tmp_path / "poses.txt")
    assert caught.value.kind == "missing"


def test_camera_poses_need_tr(tmp_path: Path) -> None:
    (tmp_path / "poses.txt").write_text(kitti_line(POSES[3]))
    with pytest.raises(DataError, match=r"calib.txt has no line Tr, .*copy KITTI's own file"):
        read_sequence_poses(tmp_path, ["00/000000"], camera=True)
    own = read_sequence_poses(tmp_path, ["00/000000"], camera=False)  # without one, the LiDAR's
    np.testing.assert_allclose(own["00/000000"], POSES[3], atol=1e-8)
    tr = turned(1.0, 0.1, 0.2, -0.3)
    (tmp_path / "calib.txt").write_text(f"P0: 1 2 3\nTr: {kitti_line(tr)}\n")
    np.testing.assert_allclose(read_camera_transform(tmp_path / "calib.txt"), tr, atol=1e-8)
    found = read_sequence_poses(tmp_path, ["00/000000"], camera=True)["00/000000"]
    point = np.array([3.0, 4.0, 5.0, 1.0])  # of the LiDAR, into the camera, moved, and back
    np.testing.assert_allclose(tr @ (found @ point), POSES[3] @ (tr @ point), atol=1e-6)
    (tmp_path / "calib.txt").write_text("Tr: 1 2 3\n")
    with pytest.raises(DataError, match="does not hold 12 numbers"):
        read_sequence_poses(tmp_path, ["00/000000"], camera=True)
