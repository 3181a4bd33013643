"""Choose the topic of a bag with the scans, or explain why none has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rangeseg.datasets.importing.bags import Topic
from rangeseg.errors import ConfigError, DataError

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"

_DRIVERS = {
    "velodyne_msgs": "velodyne_pointcloud",
    "pandar_msgs": "hesai_ros_driver",
    "hesai_ros_driver": "hesai_ros_driver",
    "hesai_lidar": "hesai_ros_driver",
    "ouster_ros": "ouster_ros",
    "ouster_msgs": "ouster_ros",
    "ouster_sensor_msgs": "ouster_ros",
    "rslidar_msg": "rslidar_sdk",
    "rslidar_msgs": "rslidar_sdk",
    "nebula_msgs": "nebula_ros",
    "sick_scansegment_xd": "sick_scan_xd",
}
"""Package of a packet's type -> the ROS package that decodes such packets."""

_REPUBLISH = "republish it as PointCloud2 and record that"
_OTHERS = {
    "LaserScan": "a single line of points makes no range image",
    "MultiEchoLaserScan": "a single line of points makes no range image",
    "CustomMsg": "Livox's own type: record with the driver's xfer_format 0; a sensor without "
    "beams (Mid-360, Avia) makes no range image",
    "CompressedPointCloud2": f"compressed points: {_REPUBLISH} (package point_cloud_transport)",
    "PointCloud": f"the older type: {_REPUBLISH}",
}
"""Message name -> reason to refuse it."""


def choose_topic(path: Path, topics: Sequence[Topic], wanted: str | None) -> Topic:
    """The PointCloud2 topic of a bag.

    Args:
        path: path of the bag, for messages.
        topics: topics of the bag.
        wanted: name of the topic; None takes the only one.

    Raises:
        ConfigError: there are several, or no such topic.
        DataError: there is none.
    """
    clouds = [t for t in topics if t.type == POINT_CLOUD and t.messages]
    if wanted is not None:
        return _named(path, topics, clouds, "/" + wanted.lstrip("/"))
    if len(clouds) == 1:
        return clouds[0]
    if clouds:
        raise ConfigError(
            f"{path} has {len(clouds)} topics of points: {_list(clouds)}: choose one with --topic"
        )
    lidar = [t for t in topics if t.messages and _refusal(t)]
    if lidar:
        raise DataError(f"{path}: {_refusal(lidar[0])}; it holds {_list(topics)}")
    raise DataError(
        f"{path} has no topic of points (sensor_msgs/PointCloud2); it holds "
        f"{_list(topics) or 'no topic'}: record the LiDAR's points"
    )


def _named(path: Path, topics: Sequence[Topic], clouds: Sequence[Topic], wanted: str) -> Topic:
    found = next((t for t in topics if t.name == wanted), None)
    if found in clouds:
        assert found is not None
        return found
    readable = f"topics that can be read: {_list(clouds) or 'none'}"
    if found is None:
        raise ConfigError(f"--topic {wanted}: {path} has no such topic; {readable}")
    if found.type == POINT_CLOUD:
        raise DataError(f"{path}: the topic {wanted} has no message; {readable}", "missing")
    why = _refusal(found) or f"{found} holds no points"
    raise DataError(f"{path}: {why}; {readable}")


def _refusal(topic: Topic) -> str | None:
    """Why a LiDAR's topic is refused, and a remedy; None for other topics."""
    package, _, name = topic.type.partition("/")
    name = name.rpartition("/")[2]
    if name in _OTHERS:
        return f"{topic} is not read: {_OTHERS[name]}"
    if package in _DRIVERS:
        return (
            f"{topic} holds raw packets of a sensor: play the bag through the driver (ROS package "
            f"{_DRIVERS[package]}), record its PointCloud2 topic, and import that"
        )
    return None


def _list(topics: Sequence[Topic]) -> str:
    return ", ".join(map(str, topics))
