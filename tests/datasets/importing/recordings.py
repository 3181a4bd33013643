"""Bags of a made-up drive, written by rosbags: ROS 1, ROS 2 in SQLite and in MCAP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from tests.datasets.own_scans import turn

CONTAINERS = ("ros1", "sqlite", "mcap")
START_NS = 1_673_400_471_000_000_000
POINTS, ODOMETRY, TF, TF_STATIC = "/points", "/odom", "/tf", "/tf_static"
CLOUD = "sensor_msgs/msg/PointCloud2"
VELODYNE = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring", "time"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<f4"],
        "offsets": [0, 4, 8, 12, 16, 18],
        "itemsize": 22,
    }
)
"""As velodyne_pointcloud writes them."""

_DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


class Sent(NamedTuple):
    """A message and when it was received."""

    topic: str
    type: str
    received: int
    content: Any


class Types:
    """Messages of one ROS version."""

    def __init__(self, ros1: bool) -> None:
        self.ros1 = ros1
        self.store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
        if ros1:
            definition = "geometry_msgs/TransformStamped[] transforms"
            self.store.register(get_types_from_msg(definition, "tf2_msgs/msg/TFMessage"))

    def make(self, name: str, /, **values: Any) -> Any:
        return self.store.types[name](**values)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        sec, nanosec = divmod(stamp_ns, 10**9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        more = {"seq": 0} if self.ros1 else {}
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id, **more)

    def cloud(
        self, stamp_ns: int, points: np.ndarray, frame_id: str = "velodyne", **changes: Any
    ) -> Any:
        """Points (N,) or (rows, N) of a structured type."""
        rows = np.atleast_2d(points)
        dtype = points.dtype
        assert dtype.fields is not None
        fields = [
            self.make(
                "sensor_msgs/msg/PointField",
                name=name, offset=at[1], datatype=_DATATYPES[at[0].str[1:]], count=1,
            )
            for name, at in dtype.fields.items()
        ]  # fmt: skip
        values = {
            "header": self.header(stamp_ns, frame_id),
            "height": rows.shape[0],
            "width": rows.shape[1],
            "fields": fields,
            "is_bigendian": any(at[0].str[0] == ">" for at in dtype.fields.values()),
            "point_step": dtype.itemsize,
            "row_step": dtype.itemsize * rows.shape[1],
            "data": np.frombuffer(rows.tobytes(), np.uint8),
            "is_dense": True,
        }
        return self.make(CLOUD, **(values | changes))

    def odometry(self, stamp_ns: int, pose: np.ndarray, parent: str, child: str) -> Any:
        point, quaternion = self._pose(pose, "Point")
        inner = self.make("geometry_msgs/msg/Pose", position=point, orientation=quaternion)
        covariance = np.zeros(36)
        zero = self.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        twist = self.make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
        return self.make(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            pose=self.make(
                "geometry_msgs/msg/PoseWithCovariance", pose=inner, covariance=covariance
            ),
            twist=self.make(
                "geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=covariance
            ),
        )

    def transforms(self, stamp_ns: int, poses: Mapping[tuple[str, str], np.ndarray]) -> Any:
        """A TFMessage of (parent, child) -> pose (4,4)."""
        found = []
        for (parent, child), pose in poses.items():
            vector, quaternion = self._pose(pose, "Vector3")
            inner = self.make(
                "geometry_msgs/msg/Transform", translation=vector, rotation=quaternion
            )
            found.append(
                self.make(
                    "geometry_msgs/msg/TransformStamped",
                    header=self.header(stamp_ns, parent), child_frame_id=child, transform=inner,
                )
            )  # fmt: skip
        return self.make("tf2_msgs/msg/TFMessage", transforms=found)

    def _pose(self, pose: np.ndarray, vector: str) -> tuple[Any, Any]:
        x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
        place = dict(zip("xyz", map(float, pose[:3, 3]), strict=True))
        quaternion = self.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
        return self.make(f"geometry_msgs/msg/{vector}", **place), quaternion


def matrix(x: float, y: float, z: float, yaw_deg: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    pose[:3, 3] = x, y, z
    return pose


BASE_TO_LIDAR = matrix(1.0, 0.2, 1.5, 90.0)


def vehicle(seconds: float) -> np.ndarray:
    """Where the vehicle's base is: it turns left and does not begin at the origin."""
    angle = 0.2 * seconds
    return matrix(50 + 40 * np.sin(angle), 40 - 40 * np.cos(angle), 0.0, np.degrees(angle))


def scan(seed: int) -> np.ndarray:
    """One turn as a structured array, a point without a position among them."""
    points, beam = turn(seed)
    values = np.zeros(len(points), VELODYNE)
    for column, name in enumerate(("x", "y", "z", "intensity")):
        values[name] = points[:, column]
    values["ring"] = 15 - beam  # Velodyne counts from the lowest
    values["time"] = np.linspace(0, 0.0999, len(points))
    values["x"][5] = np.nan
    return values


def clouds(types: Types, count: int, topic: str = POINTS) -> list[Sent]:
    """One every 0.1 s, received 5 ms after its stamp."""
    stamps = [START_NS + 100_000_000 * i + 30_000_000 for i in range(count)]
    return [
        Sent(topic, CLOUD, s + 5_000_000, types.cloud(s, scan(i))) for i, s in enumerate(stamps)
    ]


def motion(types: Types, seconds: float, by: str) -> list[Sent]:
    """Odometry or tf at 20 Hz, and the place of the sensor on the vehicle once."""
    sent = [
        Sent(
            TF_STATIC, "tf2_msgs/msg/TFMessage", START_NS,
            types.transforms(START_NS, {("base_link", "velodyne"): BASE_TO_LIDAR}),
        )
    ]  # fmt: skip
    for i in range(int(20 * seconds) + 1):
        stamp, pose = START_NS + 50_000_000 * i, vehicle(0.05 * i)
        if by == "odometry":
            content = types.odometry(stamp, pose, "odom", "base_link")
            sent.append(Sent(ODOMETRY, "nav_msgs/msg/Odometry", stamp, content))
        else:
            content = types.transforms(stamp, {("odom", "base_link"): pose})
            sent.append(Sent(TF, "tf2_msgs/msg/TFMessage", stamp, content))
    return sent


def write_bag(folder: Path, container: str, types: Types, sent: Iterable[Sent]) -> Path:
    """A bag ``drive`` in a folder; returns its path."""
    ordered = sorted(sent, key=lambda message: message.received)
    if container == "ros1":
        path = folder / "drive.bag"
        writer: Any = Writer1(path)
        serialise = types.store.serialize_ros1
    else:
        path = folder / "drive"
        plugin = StoragePlugin.MCAP if container == "mcap" else StoragePlugin.SQLITE3
        writer = Writer2(path, version=9, storage_plugin=plugin)
        serialise = types.store.serialize_cdr
    path.parent.mkdir(parents=True, exist_ok=True)
    with writer:
        connections: dict[str, Any] = {}
        for message in ordered:
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, message.type, typestore=types.store
                )
            raw = serialise(message.content, message.type)
            writer.write(connections[message.topic], message.received, raw)
    return path
