"""Which topic is taken, and what is said where none can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rangeseg.datasets.importing.bags import Topic
from rangeseg.datasets.importing.topics import choose_topic
from rangeseg.errors import ConfigError, DataError

PATH = Path("drive.bag")
FRONT = Topic("/front", "sensor_msgs/msg/PointCloud2", 1200)
REAR = Topic("/rear", "sensor_msgs/msg/PointCloud2", 7)
SILENT = Topic("/silent", "sensor_msgs/msg/PointCloud2", 0)
IMU = Topic("/imu", "sensor_msgs/msg/Imu", 9)
PACKETS = Topic("/packets", "velodyne_msgs/msg/VelodyneScan", 4)


def test_the_only_one_or_the_named_one() -> None:
    assert choose_topic(PATH, [IMU, PACKETS, REAR, SILENT], None) == REAR
    assert choose_topic(PATH, [FRONT, REAR], "rear") == REAR
    assert choose_topic(PATH, [FRONT, REAR], "/front") == FRONT


@pytest.mark.parametrize(
    ("topics", "wanted", "code", "message"),
    [
        (
            [FRONT, REAR, IMU], None, 2,
            "drive.bag has 2 topics of points: /front (sensor_msgs/PointCloud2, 1,200 messages), "
            "/rear (sensor_msgs/PointCloud2, 7 messages): choose one with --topic",
        ),
        (
            [FRONT, IMU], "/lidar", 2,
            "--topic /lidar: drive.bag has no such topic; topics that can be read: /front (sensor",
        ),
        ([FRONT, SILENT], "/silent", 3, "the topic /silent has no message; topics that can be"),
        ([FRONT, IMU], "/imu", 3, "/imu (sensor_msgs/Imu, 9 messages) holds no points; topics"),
        ([IMU], None, 3, "has no topic of points (sensor_msgs/PointCloud2); it holds /imu (sensor"),
        ([], None, 3, "it holds no topic: record"),
        (
            [PACKETS, FRONT], "/packets", 3,
            "(ROS package velodyne_pointcloud), record its PointCloud2 topic, and import that; "
            "topics that can be read: /front",
        ),
        ([Topic("/p", "pandar_msgs/msg/PandarScan", 2)], None, 3, "hesai_ros_driver"),
        ([Topic("/o", "ouster_sensor_msgs/msg/PacketMsg", 2)], None, 3, "package ouster_ros"),
        ([Topic("/l", "livox_ros_driver2/msg/CustomMsg", 2)], None, 3, "xfer_format 0"),
        ([Topic("/s", "sensor_msgs/msg/LaserScan", 2)], None, 3, "a single line of points"),
    ],
)  # fmt: skip
def test_refusals(topics: list[Topic], wanted: str | None, code: int, message: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        choose_topic(PATH, topics, wanted)
    assert caught.value.exit_code == code
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
