"""The LiDAR's poses from tf and odometry, against matrices multiplied by hand."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from rangeseg.datasets.importing.transforms import Transforms
from rangeseg.errors import DataError
from tests.datasets.importing.recordings import (
    BASE_TO_LIDAR,
    START_NS,
    TF,
    TF_STATIC,
    Sent,
    Types,
    matrix,
    motion,
    vehicle,
)

TYPES = Types(ros1=True)
SECONDS = np.array([0.03, 0.5, 1.27, 1.99])


def read(sent: Iterable[Sent]) -> Transforms:
    found = Transforms()
    for topic, kind, received, content in sent:
        if kind.endswith("Odometry"):
            found.add_odometry(topic, content, received)
        else:
            found.add_tf(topic, content, received, topic == TF_STATIC)
    return found


def tf(stamp: int, edges: dict[tuple[str, str], np.ndarray], topic: str = TF) -> Sent:
    return Sent(topic, "tf2_msgs/msg/TFMessage", stamp, TYPES.transforms(stamp, edges))


def stamps(seconds: np.ndarray = SECONDS) -> np.ndarray:
    return START_NS + np.round(seconds * 1e9).astype(np.int64)


def expected(mounting: np.ndarray = BASE_TO_LIDAR) -> np.ndarray:
    poses = np.array([vehicle(s) @ mounting for s in SECONDS])
    return np.linalg.inv(poses[0]) @ poses


@pytest.mark.parametrize("by", ["odometry", "tf"])
def test_poses_of_the_lidar(by: str) -> None:
    poses, origin = read(motion(TYPES, 2.0, by)).poses("/velodyne", stamps())
    np.testing.assert_allclose(poses, expected(), atol=1e-3)
    assert origin == f"{'/odom' if by == 'odometry' else '/tf'}: /velodyne in odom"


def test_a_sensor_beside_that_of_the_odometry() -> None:
    """Both are mounted on a base that the odometry does not name; one of them with time by tf."""
    to_imu = matrix(-1, 0, 0.3, 180)
    sent = [m for m in motion(TYPES, 2.0, "odometry") if m.topic != TF_STATIC]
    for i in range(5):
        stamp = START_NS + i * 10**8
        sent.append(tf(stamp, {("chassis", "base_link"): to_imu}, TF))
        sent.append(tf(stamp, {("chassis", "velodyne"): BASE_TO_LIDAR}, TF_STATIC))
    poses, _ = read(sent).poses("velodyne", stamps())
    mounting = np.linalg.inv(to_imu) @ BASE_TO_LIDAR
    np.testing.assert_allclose(poses, expected(mounting), atol=1e-3)


def test_a_turning_mount_and_a_map_that_jumps() -> None:
    """The mount's own motion counts, the localisation above `odom` does not."""
    sent = motion(TYPES, 2.0, "tf")[1:]
    for i in range(41):
        stamp = START_NS + 50_000_000 * i
        sent.append(tf(stamp, {("base_link", "mount"): matrix(1, 0, 2, 3.0 * i)}))
        sent.append(tf(stamp, {("map", "odom"): matrix(float(i % 2), 0, 0, 0)}))
    poses, origin = read(sent).poses("mount", stamps())
    mounts = [vehicle(s) @ matrix(1, 0, 2, 60.0 * s) for s in SECONDS]
    np.testing.assert_allclose(poses, np.linalg.inv(mounts[0]) @ mounts, atol=1e-3)
    assert origin == "/tf: mount in odom"


def test_no_pose_outside_or_in_a_gap() -> None:
    sent = motion(TYPES, 4.0, "odometry")
    sent = [m for m in sent if not 0.5e9 < m.received - START_NS < 3.0e9]
    seconds = np.array([-0.1, 0.2, 0.5, 1.0, 2.9, 3.5, 4.1])
    poses, _ = read(sent).poses("velodyne", stamps(seconds))
    known = np.isfinite(poses).all(axis=(1, 2))
    assert known.tolist() == [False, True, True, False, False, True, False]
    np.testing.assert_allclose(poses[1], np.eye(4), atol=1e-9)  # relative to the first there is


def test_what_is_no_pose_is_left_out() -> None:
    sent = motion(TYPES, 2.0, "odometry")
    sent[5].content.pose.pose.position.x = float("nan")
    sent[9].content.pose.pose.orientation.w = sent[9].content.pose.pose.orientation.z = 0.0
    sent.append(sent[7])  # and one comes twice
    poses, _ = read(sent).poses("velodyne", stamps())
    np.testing.assert_allclose(poses, expected(), atol=2e-3)


@pytest.mark.parametrize(
    ("frame", "change", "message"),
    [
        ("velodyne", "nothing", "there is no odometry and no /tf"),
        ("rear", "odometry", "/odom holds the poses of 'base_link', and no transform .* 'rear'"),
        ("odom", "odometry", r"in the frame of reference 'odom' \('base_link' moves in it\)"),
        ("map", "odometry", "in the frame of reference 'map', not in the sensor's"),
        ("rear", "tf", "no transform or odometry moves the points' frame 'rear'"),
        ("velodyne", "clock", "/odom has no pose at the times of the scans: are both of the same"),
    ],
)
def test_why_there_are_none(frame: str, change: str, message: str) -> None:
    by = "tf" if change == "tf" else "odometry"
    sent = [] if change == "nothing" else motion(TYPES, 2.0, by)
    times = stamps() - START_NS if change == "clock" else stamps()
    with pytest.raises(DataError, match=message):
        read(sent).poses(frame, times)
