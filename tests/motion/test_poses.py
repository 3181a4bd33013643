"""Poses of every data set: right, or named and not used."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets import open_dataset
from rangeseg.datasets.custom import Description
from rangeseg.datasets.nuscenes.index import write_index
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.nuscenes.tables import build_index
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import DataError
from rangeseg.motion.poses import SequencePoses, check_poses, load_poses
from rangeseg.simulation.world import World
from tests.datasets.nuscenes_format import STEP, write_nuscenes
from tests.datasets.own_scans import DESCRIPTION, turn, write_points
from tests.motion.test_pose_files import kitti_line, turned


def driven(places: list[float]) -> SequencePoses:
    """A straight drive with the sensor at these x."""
    poses = {f"A/{n:06d}": turned(0.0, x, 0.0, 0.0) for n, x in enumerate(places)}
    frames = {scan_id: n for n, scan_id in enumerate(poses)}
    return SequencePoses("A", "files", poses, frames, {})


def test_simulated_poses_are_those_of_the_world(simulated_root: Path) -> None:
    """Two scans are put into one frame as the street itself puts them, but for its shear."""
    source = Simulated(simulated_root)
    found = load_poses(source, "00")
    world = World(0, "00")
    place = np.array([[30.0, 8.0, -1.0], [-20.0, -5.0, 2.0], [5.0, 0.0, 0.0]])
    egos = [world.ego(n) for n in range(2)]
    relative = np.linalg.inv(found.poses["00/000001"]) @ found.poses["00/000000"]
    moved = place @ relative[:3, :3].T + relative[:3, 3]
    expected = egos[1].to_sensor(egos[0].to_world(place))
    np.testing.assert_allclose(moved, expected, atol=0.03)


@pytest.mark.real_data
def test_real_poses_put_scans_onto_each_other(real_data: Path) -> None:
    from scipy.spatial import cKDTree

    source = SemanticKitti(real_data / "semantickitti_mini")
    found = load_poses(source, "00")
    assert found.frames == {"00/000000": 0, "00/000004": 4, "00/000009": 9}
    assert not found.faults
    first = cKDTree(source.read_scan("00/000000").points[:, :3])
    points = source.read_scan("00/000009").points[::50, :3]
    moved = points @ found.poses["00/000009"][:3, :3].T + found.poses["00/000009"][:3, 3]
    assert np.median(first.query(moved)[0]) < 0.12
    assert np.median(first.query(points)[0]) > 0.2  # 6.7 m away without the pose


@pytest.mark.real_data
def test_camera_poses_are_told_by_the_direction_of_travel(real_data: Path, tmp_path: Path) -> None:
    """KITTI's poses.txt, given as the LiDAR's own."""
    source = SemanticKitti(real_data / "semantickitti_mini")
    shutil.copy(source.root / "sequences" / "00" / "poses.txt", tmp_path / "00.txt")
    with pytest.raises(DataError, match="move along the z axis, as a camera's"):
        load_poses(source, "00", tmp_path)


def test_nuscenes_poses_come_from_the_tables(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path, "v1.0-mini", ["scene-0061"], samples=3, firings=16)
    write_index(build_index(root, "v1.0-mini"), root)
    source = NuScenes(root)
    found = load_poses(source, "scene-0061")
    ids = source.sequence_ids("scene-0061")
    assert list(found.poses) == ids
    assert list(found.frames.values()) == [0, 1, 2]
    relative = np.linalg.inv(found.poses[ids[0]]) @ found.poses[ids[2]]
    np.testing.assert_allclose(relative[:3, 3], [0, 2 * STEP, 0], atol=1e-6)  # y is ahead
    times = source.times("scene-0061")
    assert times[ids[2]] - times[ids[0]] == pytest.approx(1.0)


def test_packs_keep_poses(simulated_root: Path, tmp_path: Path) -> None:
    source = Simulated(simulated_root)
    pack_dataset(source, "simulated", tmp_path / "street.pack")
    packed = open_dataset("simulated", tmp_path / "street.pack")
    was, now = load_poses(source, "03"), load_poses(packed, "03")
    assert now.digest() == was.digest()
    assert now.origin == "data set"


def test_broken_poses_are_named_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    found = driven([1.0 * n for n in range(12)])
    poses = found.poses
    poses["A/000002"][0, 3] = np.nan
    poses["A/000004"][:3, :3] *= 1.1
    del poses["A/000006"]
    poses["A/000008"][0, 3] = 80.0
    with caplog.at_level(logging.WARNING, "rangeseg"):
        check_poses(found)
    assert list(found.faults) == ["A/000002", "A/000004", "A/000006", "A/000008"]
    assert not found.poses.keys() & found.faults.keys()
    assert [r.getMessage() for r in caplog.records] == [
        "A/000002: the pose is not used: it is not finite",
        "A/000004: the pose is not used: it is not rigid: its rotation stretches or mirrors",
        "A/000006: the pose is not used: it has no line in the file",
        "A/000008: the pose is not used: it jumps away for one scan and back",
    ]
    assert set(found.stretches.values()) == {0}


def test_a_jump_parts_a_sequence(caplog: pytest.LogCaptureFixture) -> None:
    found = driven([0, 1, 2, 3, 9, 10, 11])
    with caplog.at_level(logging.WARNING, "rangeseg"):
        check_poses(found)
    assert list(found.stretches.values()) == [0, 0, 0, 0, 1, 1, 1]
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == (
        "sequence A jumps 6.0 m between A/000003 and A/000004: no label is carried across"
    )


@pytest.mark.parametrize(
    "places",
    [
        [0, 0, 0, 0.2, 0.8, 1.8, 3.2, 5.0],  # a car starts, ten scans a second
        [0, 0, 0, 1.5, 5, 11, 19, 28],  # and two scans a second, harder than cars can
        [11.0 * n + (n % 3) for n in range(9)],  # the simulated street
        [0, 0, 0, 0],
        [0, 14],
    ],
)
def test_driving_is_no_jump(places: list[float], caplog: pytest.LogCaptureFixture) -> None:
    found = driven(places)
    check_poses(found)
    assert not found.faults
    assert set(found.stretches.values()) == {0}
    assert not caplog.records


@pytest.mark.real_data
def test_no_pose_is_one_line(real_data: Path, tmp_path: Path) -> None:
    velodyne = real_data / "semantickitti_mini" / "sequences" / "00" / "velodyne"
    (tmp_path / "sequences" / "00").mkdir(parents=True)
    (tmp_path / "sequences" / "00" / "velodyne").symlink_to(velodyne)
    source = SemanticKitti(tmp_path)
    with pytest.raises(DataError, match=r"sequence 00 has no poses .*`rangeseg-data poses`"):
        load_poses(source, "00")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "00.txt").write_text("\n" * 8 + kitti_line(np.zeros((4, 4))))
    with pytest.raises(DataError, match=r"none of 3 scans has a usable pose .*not finite"):
        load_poses(source, "00", tmp_path / "given")


def test_own_scans_may_have_poses_of_the_lidar(tmp_path: Path) -> None:
    """TUM's lines by the frame numbers; KITTI's calib.txt would make them the camera's."""
    for frame in ("000000", "000004"):
        write_points(tmp_path, f"01/{frame}", turn()[0])
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    lines += [f"{n} {2.5 * n} 0 0 0 0 0 1" for n in range(5)]
    (tmp_path / "sequences" / "01" / "poses.txt").write_text("\n".join(lines))
    classes = [{**each, "movable": each["name"] == "wall"} for each in DESCRIPTION["classes"]]
    description = Description.model_validate({**DESCRIPTION, "classes": classes})
    source = open_dataset("custom", tmp_path, description)
    assert source.info.movable == {"wall"}
    found = load_poses(source, "01")
    assert found.poses["01/000004"][:3, 3].tolist() == [10, 0, 0]
