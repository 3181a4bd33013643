"""The point clouds of a bag as a recording."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.importing.bags import TF_TYPES, Bag, Message, open_bag
from rangeseg.datasets.importing.clouds import cloud_fields
from rangeseg.datasets.importing.recording import Frame, Recording, by_stamp
from rangeseg.datasets.importing.topics import choose_topic
from rangeseg.datasets.importing.transforms import Transforms, stamp_ns

_ODOMETRY = "nav_msgs/msg/Odometry"


class BagRecording(Recording):
    """One topic of a bag.

    Args:
        path: path of the bag.
        topic: name of the topic; None takes the only topic with points.

    Raises:
        ConfigError: see ``choose_topic`` and ``open_bag``.
        DataError: see ``choose_topic`` and ``open_bag``.
    """

    unit = "messages"

    def __init__(self, path: Path, topic: str | None) -> None:
        self.path = path
        with open_bag(path) as bag:
            topics = bag.topics()
        self._topic = choose_topic(path, topics, topic)
        self.total = self._topic.messages
        self._tf = {t.name for t in topics if t.type in TF_TYPES}
        self._odometry = {t.name for t in topics if t.type == _ODOMETRY}
        self._transforms, self._frame_ids = Transforms(), set[str]()

    @property
    def described(self) -> str:
        """The topic and its type."""
        return str(self._topic)

    def identity(self) -> dict[str, Any]:
        """The bag, its size, the topic."""
        files = self.path.iterdir() if self.path.is_dir() else [self.path]
        size = sum(file.stat().st_size for file in files if file.is_file())
        return {"source": str(self.path.resolve()), "bytes": size, "topic": self._topic.name}

    def frames(self) -> Iterator[Frame]:
        """All clouds in the order of their stamps; see ``Recording``."""
        self._transforms, self._frame_ids = Transforms(), set()
        with open_bag(self.path) as bag:
            yield from by_stamp(self._received(bag))

    def _received(self, bag: Bag) -> Iterator[Frame]:
        """The clouds in order of receipt; collects the transforms between them."""
        wanted = {self._topic.name, *self._tf, *self._odometry}
        seen = 0
        for message in bag.messages(wanted):
            if message.topic == self._topic.name:
                seen += 1
                yield self._frame(message, seen)
            elif message.topic in self._tf:
                static = message.topic.rpartition("/")[2] == "tf_static"
                self._transforms.add_tf(message.topic, message.content, message.received, static)
            else:
                self._transforms.add_odometry(message.topic, message.content, message.received)
        if seen < self.total:
            raise bag.broken(f"it holds {seen:,} of {self.total:,} messages of {self._topic.name}")

    def _frame(self, message: Message, number: int) -> Frame:
        cloud = message.content
        self._frame_ids.add(cloud.header.frame_id)
        stamp = stamp_ns(cloud.header, message.received)
        name = f"message {number} of {self._topic.name} in {self.path}"
        return Frame(name, stamp, cloud.width * cloud.height, partial(cloud_fields, cloud))

    def poses(self, names: list[str], stamps_ns: list[int | None]) -> tuple[np.ndarray, str]:
        """Poses from tf and odometry at the times of the clouds; see ``Recording``."""
        frame_id = sorted(self._frame_ids)[0] if self._frame_ids else ""
        stamps = np.array([stamp or 0 for stamp in stamps_ns], dtype=np.int64)
        return self._transforms.poses(frame_id, stamps)
