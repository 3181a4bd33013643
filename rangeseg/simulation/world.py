"""The street of one sequence, and the part that a scan can see."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from rangeseg.simulation.archetypes import plan_segment
from rangeseg.simulation.layout import SEGMENT, Segment
from rangeseg.simulation.placement import furnish
from rangeseg.simulation.raycast import Ground
from rangeseg.simulation.shapes import Primitives
from rangeseg.simulation.styles import draw_style, stream
from rangeseg.simulation.terrain import (
    ACROSS,
    CELL_T,
    CELL_X,
    CELLS_X,
    Course,
    Tile,
    make_tile,
)
from rangeseg.simulation.traffic import moving_things

REACH = 85.0
"""Range of a scan along x, metres."""

_KEPT_SEGMENTS = 12


@dataclass(frozen=True)
class Ego:
    """The pose of the sensor.

    Attributes:
        x: world metres.
        y: world metres.
        z: world metres of the sensor.
        yaw: heading in the world, radians.
        ahead: rise of the sensor's plane in metres per metre ahead, with the road's slope.
        left: the same to the left.
        t: distance from the road's centre line, metres.
    """

    x: float
    y: float
    z: float
    yaw: float
    ahead: float
    left: float
    t: float

    def to_sensor(self, points: np.ndarray) -> np.ndarray:
        """Transform world coordinates (...,3) to the sensor's frame.

        A slope shears z instead of rotating the frame: uprights stay upright, which keeps the ray
        caster exact and simple. For slopes of a few per cent the two differ by millimetres.
        """
        x, y = points[..., 0] - self.x, points[..., 1] - self.y
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        ahead, left = x * cosine + y * sine, y * cosine - x * sine
        up = points[..., 2] - self.z - self.ahead * ahead - self.left * left
        return np.stack([ahead, left, up], axis=-1)

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """The inverse of ``to_sensor``."""
        ahead, left = points[..., 0], points[..., 1]
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        x = self.x + ahead * cosine - left * sine
        y = self.y + ahead * sine + left * cosine
        z = self.z + points[..., 2] + self.ahead * ahead + self.left * left
        return np.stack([x, y, z], axis=-1)

    def pose(self) -> np.ndarray:
        """The pose (4,4) float64, sensor to world: ``to_world`` with rotation, not shear.

        The sensor's plane is exactly that of ``to_world``, so far points lie in it.
        """
        ahead, left, _ = self.to_world(np.eye(3)) - self.to_world(np.zeros(3))
        ahead /= np.linalg.norm(ahead)
        left -= ahead * (ahead @ left)
        left /= np.linalg.norm(left)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([ahead, left, np.cross(ahead, left)], axis=1)
        pose[:3, 3] = self.x, self.y, self.z
        return pose


@dataclass(frozen=True)
class Scene:
    """The visible part of a scan: shapes in the sensor's frame, ground in the world's."""

    ego: Ego
    primitives: Primitives
    ground: Ground


class World:
    """The endless street of one sequence; a pure function of its arguments.

    Args:
        seed: seed of the data set.
        sequence: name of the sequence, e.g. ``08``.
        spacing: metres driven between scans; None: the sequence's own.
    """

    def __init__(self, seed: int, sequence: str, spacing: float | None = None) -> None:
        self.seed, self.sequence, self.spacing = seed, sequence, spacing
        self.style = draw_style(seed, sequence, spacing)
        self.course = Course(self.style)
        self._segments: OrderedDict[int, tuple[Segment, Tile, Primitives]] = OrderedDict()

    def ego(self, frame: int) -> Ego:
        """The sensor's pose in a scan."""
        rng = stream(self.seed, self.sequence, purpose=6, number=frame)
        x = (frame + rng.uniform(0.0, 0.35)) * self.style.step
        segment, tile, _ = self.segment(int(np.floor(x / SEGMENT)))
        forward = [lane for lane in segment.lanes if lane < 0.0]
        lane = rng
        if self.spacing is not None:  # scans are near each other: the car stays in its lane
            lane = stream(self.seed, self.sequence, purpose=8, number=10_000 + segment.number)
        t = float(lane.choice(forward)) + rng.normal(0.0, 0.25)
        slope, cosine = float(self.course.slope(x)), float(self.course.cosine(x))
        foot = tile.height_at(x - segment.number * SEGMENT, t)
        return Ego(
            x=x,
            y=float(self.course.line(x)) + t / cosine,
            z=foot + self.style.sensor_height + rng.normal(0.0, 0.015),
            yaw=float(np.arctan(slope) + rng.normal(0.0, 0.02)),
            ahead=self.course.gradient(x) * cosine + self.style.pitch + rng.normal(0.0, 0.004),
            left=self.style.roll + rng.normal(0.0, 0.003),
            t=t,
        )

    def scene(self, frame: int) -> Scene:
        """Make the scene within reach of a scan."""
        ego = self.ego(frame)
        first = int(np.floor((ego.x - REACH) / SEGMENT))
        last = int(np.floor((ego.x + REACH) / SEGMENT))
        parts = [self.segment(number) for number in range(first, last + 1)]
        moving = moving_things(
            self.seed, self.sequence, self.style, frame, (ego.x, ego.t), 75.0,
            lambda x: self.segment(int(np.floor(x / SEGMENT)))[0], self._pose,
        )  # fmt: skip
        shapes = Primitives.concatenate([*(part[2] for part in parts), moving])
        return Scene(ego, _into_sensor(shapes, ego), self._ground(parts, first, ego))

    def segment(self, number: int) -> tuple[Segment, Tile, Primitives]:
        """Plan, ground and static shapes (world frame) of a segment; recent ones are cached."""
        if number in self._segments:
            self._segments.move_to_end(number)
            return self._segments[number]
        plan = plan_segment(self.seed, self.sequence, self.style, number)
        tile = make_tile(self.seed, self.sequence, number, plan, self.course)
        start = number * SEGMENT

        def pose(x: float, t: float, yaw: float) -> tuple[float, float, float, float]:
            return self._place(start + x, t, yaw, tile.height_at(x, t))

        shapes = furnish(self.seed, self.sequence, self.style, plan, pose)
        self._segments[number] = (plan, tile, shapes)
        if len(self._segments) > _KEPT_SEGMENTS:
            self._segments.popitem(last=False)
        return self._segments[number]

    def _pose(self, x: float, t: float, yaw: float) -> tuple[float, float, float, float]:
        plan, tile, _ = self.segment(int(np.floor(x / SEGMENT)))
        return self._place(x, t, yaw, tile.height_at(x - plan.number * SEGMENT, t))

    def _place(self, x: float, t: float, yaw: float, z: float) -> tuple[float, float, float, float]:
        slope = float(self.course.slope(x))
        y = float(self.course.line(x)) + t * np.sqrt(1.0 + slope * slope)
        return x, float(y), z, float(np.arctan(slope)) + yaw

    def _ground(
        self, parts: list[tuple[Segment, Tile, Primitives]], first: int, ego: Ego
    ) -> Ground:
        along = first * SEGMENT + (np.arange(len(parts) * CELLS_X) + 0.5) * CELL_X
        return Ground(
            height=np.concatenate([tile.height for _, tile, _ in parts]),
            surface=np.concatenate([tile.surface for _, tile, _ in parts]),
            line=np.stack([self.course.line(along), self.course.cosine(along)], axis=1),
            corner=np.array([along[0], CELL_X, ACROSS[0], CELL_T]),
            pose=np.array(
                [ego.x, ego.y, ego.z, np.cos(ego.yaw), np.sin(ego.yaw), ego.ahead, ego.left]
            ),
        )


def _into_sensor(shapes: Primitives, ego: Ego) -> Primitives:
    """Transform shapes within reach to the sensor's frame."""
    shape = shapes.shape.copy()
    shape[:, :3] = ego.to_sensor(shape[:, :3])
    shape[:, 6] -= ego.yaw
    distance = np.hypot(shape[:, 0], shape[:, 1]) - np.hypot(shape[:, 3], shape[:, 4])
    near = distance < 80.0
    return Primitives(shapes.kind, shape, shapes.optics, shapes.label).select(near)
