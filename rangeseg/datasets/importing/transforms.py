"""The LiDAR's poses from the transforms and the odometry of a recording."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rangeseg.errors import DataError

LONGEST_GAP_S = 1.5
"""Longest gap between poses that is interpolated."""

_FIXED = {"odom", "map", "world"}
"""Frames of reference that a vehicle moves in; between two of them a localisation may jump."""

_STILL = 1e-6
"""Largest change (metres, quaternion) in a rigid transform."""


class Track:
    """The poses of a frame in its parent over time.

    Args:
        origin: the topic, for messages.
        parent: the frame of reference.
        child: the frame that moves.
    """

    def __init__(self, origin: str, parent: str, child: str) -> None:
        self.origin, self.parent, self.child = origin, parent, child
        self._stamps, self._values = array("q"), array("d")

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, position: Any, orientation: Any) -> None:
        """Add a pose: a ROS vector and a ROS quaternion."""
        self._stamps.append(stamp_ns)
        self._values.extend((position.x, position.y, position.z))
        self._values.extend((orientation.x, orientation.y, orientation.z, orientation.w))

    def is_still(self) -> bool:
        """Whether all poses are the same."""
        values = self._sound()[1]
        return not len(values) or bool((np.ptp(values, axis=0) <= _STILL).all())

    def first(self) -> np.ndarray:
        """The first pose (4,4)."""
        stamps = self._sound()[0]
        return self.at(stamps[:1])[0] if len(stamps) else np.eye(4)

    def at(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Interpolate poses (n,4,4) at times (n,) int64: linear positions, shortest-arc rotations.

        They are NaN before the first and after the last pose, and in gaps over LONGEST_GAP_S.
        """
        from scipy.spatial.transform import Rotation, Slerp

        poses = np.full((len(stamps_ns), 4, 4), np.nan)
        known, values = self._sound()
        if not len(known):
            return poses
        known, first = np.unique(known, return_index=True)
        values = values[first]
        if len(known) == 1:  # Slerp needs two
            known, values = np.array([known[0], known[0] + 1]), np.repeat(values, 2, axis=0)
        after = np.searchsorted(known, stamps_ns).clip(1, len(known) - 1)
        gap = (known[after] - known[after - 1]) * 1e-9
        inside = (stamps_ns >= known[0]) & (stamps_ns <= known[-1]) & (gap <= LONGEST_GAP_S)
        inside |= np.isin(stamps_ns, known)
        if inside.any():
            start = known[0]  # nanoseconds since 1970 are beyond float64
            seconds, wanted = (known - start) * 1e-9, (stamps_ns[inside] - start) * 1e-9
            wanted = wanted.clip(seconds[0], seconds[-1])
            turned = Slerp(seconds, Rotation.from_quat(values[:, 3:]))(wanted)
            poses[inside] = np.eye(4)
            poses[inside, :3, :3] = turned.as_matrix()
            for axis in range(3):
                poses[inside, axis, 3] = np.interp(wanted, seconds, values[:, axis])
        return poses

    def _sound(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (n,) int64 and poses (n,7), without invalid ones."""
        stamps = np.frombuffer(self._stamps, dtype=np.int64)
        values = np.frombuffer(self._values, dtype=np.float64).reshape(-1, 7)
        sound = np.isfinite(values).all(axis=1) & (np.linalg.norm(values[:, 3:], axis=1) > 1e-3)
        return stamps[sound], values[sound]


class Link(NamedTuple):
    """One joint of a chain: ``rigid`` (4,4) maps the frame below to the track's child."""

    rigid: np.ndarray
    track: Track


class Transforms:
    """Collects transforms and odometry while a recording is read."""

    def __init__(self) -> None:
        self._static: dict[tuple[str, str], Track] = {}
        self._moving: dict[tuple[str, str], Track] = {}
        self._odometry: dict[str, Track] = {}

    def add_tf(self, topic: str, message: Any, received: int, static: bool) -> None:
        """Take a ``tf2_msgs/TFMessage``."""
        tracks = self._static if static else self._moving
        for transform in message.transforms:
            edge = frame_name(transform.header.frame_id), frame_name(transform.child_frame_id)
            track = tracks.setdefault(edge, Track(topic, *edge))
            if static and len(track):
                continue
            pose = transform.transform
            track.add(stamp_ns(transform.header, received), pose.translation, pose.rotation)

    def add_odometry(self, topic: str, message: Any, received: int) -> None:
        """Take a ``nav_msgs/Odometry``."""
        parent, child = frame_name(message.header.frame_id), frame_name(message.child_frame_id)
        track = self._odometry.setdefault(topic, Track(topic, parent, child))
        pose = message.pose.pose
        track.add(stamp_ns(message.header, received), pose.position, pose.orientation)

    def poses(self, frame: str, stamps_ns: np.ndarray) -> tuple[np.ndarray, str]:
        """Compute the poses of a frame at given times.

        Args:
            frame: frame of the LiDAR, ``frame_id`` of its points.
            stamps_ns: (n,) int64, nanoseconds.

        Returns:
            (n,4,4) float64 from the frame to its place in the first scan with a pose, NaN where
            unknown; and their origin.

        Raises:
            DataError: no pose is known; the message gives the reason.
        """
        world = frame_name(frame).rpartition("/")[2] in _FIXED
        links = [] if world else self._chain(frame_name(frame))
        if not links:
            raise DataError(self._why_not(frame_name(frame)), kind="missing")
        poses = np.broadcast_to(np.eye(4), (len(stamps_ns), 4, 4))
        for link in links:
            poses = link.track.at(stamps_ns) @ link.rigid @ poses
        known = np.isfinite(poses).all(axis=(1, 2))
        origin = " and ".join(dict.fromkeys(link.track.origin for link in links))
        if not known.any():
            raise DataError(
                f"{origin} has no pose at the times of the scans: are both of the same clock?",
                kind="missing",
            )
        first = poses[known][0]
        return np.linalg.inv(first) @ poses, f"{origin}: {frame} in {links[-1].track.parent}"

    def _chain(self, frame: str) -> list[Link]:
        """The joints from a frame up to the frame of reference; empty if it never moves."""
        links: list[Link] = []
        seen: set[str] = set()
        while not (links and frame.rpartition("/")[2] in _FIXED):
            rigid = self._rigid(frame)
            seen |= set(rigid)
            track = next((t for t in self._above(rigid) if t.parent not in seen), None)
            if track is None:
                break
            links.append(Link(rigid[track.child], track))
            frame = track.parent
        return links

    def _above(self, rigid: dict[str, np.ndarray]) -> Iterator[Track]:
        """Find the link that moves one of the frames."""
        return (t for t in self._tracks() if t.child in rigid and not t.is_still())

    def _tracks(self) -> list[Track]:
        """All moving tracks: tf, then odometry, the topic with most messages first."""
        odometry = sorted(self._odometry.values(), key=len, reverse=True)
        return [*self._moving.values(), *odometry]

    def _rigid(self, frame: str) -> dict[str, np.ndarray]:
        """Frames rigidly attached to a frame, each with the matrix (4,4) to it."""
        still = [t for t in (*self._static.values(), *self._moving.values()) if t.is_still()]
        found, new = {frame: np.eye(4)}, [frame]
        while new:
            here = new.pop()
            for track in still:
                for start, end in ((track.child, track.parent), (track.parent, track.child)):
                    if start == here and end not in found:
                        upward = track.first()
                        step = upward if start == track.child else np.linalg.inv(upward)
                        found[end] = step @ found[here]
                        new.append(end)
        return found

    def _why_not(self, frame: str) -> str:
        moving = [t for t in self._tracks() if not t.is_still()]
        rigid = self._rigid(frame)
        below = [t.child for t in moving if t.parent in rigid]
        if below or frame.rpartition("/")[2] in _FIXED:
            against = f" ('{below[0]}' moves in it)" if below else ""
            return (
                f"the points are in the frame of reference '{frame}'{against}, not in the sensor's:"
                " record the sensor's own topic"
            )
        for track in (t for t in moving if t.origin in self._odometry):
            child = f"'{track.child}'" if track.child else "a frame without a name"
            return (
                f"{track.origin} holds the poses of {child}, and no transform (/tf_static) leads "
                f"from there to the points' frame '{frame}'"
            )
        if self._moving or self._odometry:
            return f"no transform or odometry moves the points' frame '{frame}'"
        return "there is no odometry and no /tf"


def frame_name(frame_id: str) -> str:
    """A frame's name without the slash that ROS 1 may write before it."""
    return frame_id.lstrip("/")


def stamp_ns(header: Any, received: int) -> int:
    """The time of a ``std_msgs/Header`` in nanoseconds; the time of receipt if it is 0."""
    stamp: int = header.stamp.sec * 10**9 + header.stamp.nanosec
    return stamp or received


def pose_lines(poses: np.ndarray) -> str:
    """Format poses (n,4,4) as KITTI does, 12 numbers a line."""
    return "".join(" ".join(f"{v:.9g}" for v in pose[:3].ravel()) + "\n" for pose in poses)
