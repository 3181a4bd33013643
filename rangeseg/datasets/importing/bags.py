"""ROS 1 and ROS 2 bags and ``.mcap`` files, read with rosbags."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rangeseg.datasets.formats.files import reason
from rangeseg.errors import ConfigError, DataError, one_line

METADATA = "metadata.yaml"
"""Lists the files of a ROS 2 bag, in its folder."""

_ROS1, _SQLITE, _MCAP = b"#ROSBAG V", b"SQLite format 3\0", b"\x89MCAP0\r\n"

_REPAIR = {
    _ROS1: "copy it again, or mend it with `rosbag reindex`",
    _SQLITE: "copy it again, or mend it with `ros2 bag reindex`",
    _MCAP: "copy it again, or mend it with `mcap recover`",
}


TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
"""The second is from ROS 1 before tf2."""

_TF_DEFINITION = "geometry_msgs/TransformStamped[] transforms"


class Topic(NamedTuple):
    """A topic of a bag.

    Attributes:
        name: such as ``/velodyne_points``.
        type: type in ROS 2's form, e.g. ``sensor_msgs/msg/PointCloud2``.
        messages: number of messages in the bag's index.
    """

    name: str
    type: str
    messages: int

    def __str__(self) -> str:
        return f"{self.name} ({self.type.replace('/msg/', '/')}, {self.messages:,} messages)"


class Message(NamedTuple):
    """A decoded message, and its time of receipt in nanoseconds."""

    topic: str
    received: int
    content: Any


def is_bag(path: Path) -> bool:
    """Whether a file (by its first bytes) or a folder (by its metadata) is a bag.

    Raises:
        DataError: the file cannot be read.
    """
    if path.is_dir():
        return (path / METADATA).is_file()
    return _magic(path) is not None


def _magic(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise DataError(f"{path} {reason(error)}", kind="missing") from None
    return next((magic for magic in _REPAIR if start.startswith(magic)), None)


class Bag:
    """An open bag; see ``open_bag``."""

    def __init__(self, path: Path, reader: Any, types: Any, ros1: bool, repair: str) -> None:
        self.path, self._reader, self._repair = path, reader, repair
        self._deserialise = types.deserialize_ros1 if ros1 else types.deserialize_cdr
        self._types = {c.topic: c.msgtype for c in reader.connections}

    def topics(self) -> list[Topic]:
        """All topics, by name."""
        counts = dict.fromkeys(sorted(self._types), 0)
        for connection in self._reader.connections:
            counts[connection.topic] += connection.msgcount
        return [Topic(name, self._types[name], count) for name, count in counts.items()]

    def messages(self, names: Collection[str]) -> Iterator[Message]:
        """The messages of topics, in order of receipt.

        Raises:
            DataError: the bag cannot be read any further.
        """
        connections = [c for c in self._reader.connections if c.topic in names]
        done = 0
        try:
            for connection, received, raw in self._reader.messages(connections):
                content = self._deserialise(raw, connection.msgtype)
                yield Message(connection.topic, received, content)
                done += 1
        except Exception as error:  # the library, SQLite and decompressors raise different types
            raise self.broken(f"reading stops after {done:,} messages: {one_line(error)}") from None

    def broken(self, what: str) -> DataError:
        """The error for a bag that cannot be read to its end."""
        return DataError(f"{self.path} is damaged ({what}): {self._repair}", kind="truncated")


@contextmanager
def open_bag(path: Path) -> Iterator[Bag]:
    """Open a bag; see ``is_bag``.

    Message types come from the distribution, not from the bag: older bags hold none. The few types
    read here are the same in all distributions.

    Raises:
        ConfigError: rosbags is not installed.
        DataError: the bag is damaged, or rosbags does not read its kind.
    """
    try:
        from rosbags.rosbag1 import Reader as Reader1
        from rosbags.rosbag2 import Reader as Reader2
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError:
        raise ConfigError(
            "bags are read by rosbags, which is not installed: pip install 'rangeseg[bags]'"
        ) from None
    magic = None if path.is_dir() else _magic(path)
    ros1 = magic == _ROS1
    repair = _REPAIR.get(magic or _SQLITE, "")
    try:
        reader = Reader1(path) if ros1 else Reader2(path)
        reader.open()
    except Exception as error:  # see messages()
        raise DataError(
            f"{path} cannot be read ({one_line(error)}): {repair}", kind="truncated"
        ) from None
    try:
        types = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
        for name in set(TF_TYPES) - set(types.fielddefs):
            types.register(get_types_from_msg(_TF_DEFINITION, name))
        yield Bag(path, reader, types, ros1, repair)
    finally:
        reader.close()
