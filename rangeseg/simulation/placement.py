"""Place buildings, plants, vehicles, people and street furniture on a segment's plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from rangeseg.simulation.archetypes import ARCHETYPES, Archetype
from rangeseg.simulation.layout import SEGMENT, Segment, Side, Span
from rangeseg.simulation.materials import Raw
from rangeseg.simulation.objects import THINGS
from rangeseg.simulation.shapes import Primitives, ShapeBuilder
from rangeseg.simulation.styles import SequenceStyle, stream

Pose = Callable[[float, float, float], tuple[float, float, float, float]]
"""(x from the segment's start, t, yaw to the road) -> x, y, z, yaw in the world."""

_ATTEMPTS = 6
_GREEN = ("tree", "bush", "hedge")


class _Plot:
    """The occupied ground of one side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self._taken: list[tuple[float, float, float, float]] = []

    def take(self, x: float, t: float, half: tuple[float, float]) -> bool:
        """Claim a rectangle around (x, |t|), unless a street or an object occupies it."""
        x0, x1, t0, t1 = x - half[0], x + half[0], t - half[1], t + half[1]
        if x0 < 0.0 or x1 > SEGMENT:
            return False
        if any(x0 < b and x1 > a for a, b in self.side.openings):
            return False
        if any(x0 < b and x1 > a and t0 < d and t1 > c for a, b, c, d in self._taken):
            return False
        self._taken.append((x0, x1, t0, t1))
        return True

    def reserve(self, x0: float, x1: float, t0: float, t1: float) -> None:
        """Claim a free rectangle."""
        self._taken.append((x0, x1, t0, t1))


def furnish(
    seed: int, sequence: str, style: SequenceStyle, segment: Segment, pose: Pose
) -> Primitives:
    """Make all static shapes of a segment, in the world's frame."""
    rng = stream(seed, sequence, purpose=5, number=10_000 + segment.number)
    builder = ShapeBuilder(style, rng)
    kind = ARCHETYPES[segment.archetype]
    first = (segment.number % 500) * 120 + 1
    instances = iter(range(first, first + 119))
    for side in segment.sides:
        plot = _Plot(side)
        maker = _Maker(builder, plot, pose, instances, style)
        maker.parking(kind)
        maker.lots()
        maker.buildings(kind)
        maker.fences(kind, segment.archetype)
        maker.thicket(kind)
        maker.things(kind)
        maker.crossing_traffic()
        maker.backdrop(segment.archetype)
    return builder.finish()


class _Maker:
    """Furnishes one side."""

    def __init__(
        self,
        builder: ShapeBuilder,
        plot: _Plot,
        pose: Pose,
        instances: Iterator[int],
        style: SequenceStyle,
    ) -> None:
        self.builder, self.plot, self.pose, self.style = builder, plot, pose, style
        self.instances = instances
        self.rng, self.side = builder.rng, plot.side

    def put(self, name: str, x: float, t: float, yaw: float) -> None:
        """Draw a thing at |t| on this side."""
        thing = THINGS[name]
        instance = next(self.instances, 0) if thing.counted else 0
        self.builder.place(self.pose(x, self.side.sign * t, yaw), thing.raw, instance)
        thing.draw(self.builder)

    def along(self) -> float:
        """Yaw nearly parallel to the road, facing either way."""
        with_traffic = 0.0 if self.side.sign < 0 else np.pi
        flip = np.pi if self.rng.random() < 0.15 else 0.0
        return float(with_traffic + flip + self.rng.normal(0.0, 0.04))

    def parking(self, kind: Archetype) -> None:
        """Parked vehicles, mostly cars, along the parking lane."""
        lane = self.side.parking
        if lane is None:
            return
        x = self.rng.uniform(0.3, 3.0)
        while x < SEGMENT - 2.6:
            if self.rng.random() < kind.parking[1] * self.style.traffic:
                name = str(
                    self.rng.choice(
                        ["car", "truck", "other_vehicle", "motorcycle", "bicycle"],
                        p=[0.80, 0.06, 0.06, 0.05, 0.03],
                    )
                )
                half = THINGS[name].half
                if self.plot.take(x + half[0], lane.middle, half):
                    self.put(name, x + half[0], lane.middle, self.along())
                x += 2 * half[0]
            else:
                x += 3.0
            x += self.rng.uniform(0.3, 1.2)

    def lots(self) -> None:
        """Rows of cars across the road on car parks."""
        for lot in self.side.lots:
            for row in (lot.t0 + 2.7, lot.t1 - 2.7):
                x = lot.x0 + 1.3
                while x < lot.x1 - 1.0:
                    if self.rng.random() < 0.45 and self.plot.take(x, row, (1.1, 2.4)):
                        turn = np.pi / 2 if self.rng.random() < 0.7 else -np.pi / 2
                        name = "car" if self.rng.random() < 0.9 else "motorcycle"
                        self.put(name, x, row, turn + self.rng.normal(0.0, 0.04))
                    x += 2.7
            self.plot.reserve(lot.x0, lot.x1, lot.t0, lot.t1)

    def buildings(self, kind: Archetype) -> None:
        """Houses along the building line, with bays and steps in front."""
        (l0, l1), (d0, d1), (h0, h1) = kind.house
        x = self.rng.uniform(0.0, 3.0)
        while x < SEGMENT - 5.0:
            length = min(self.rng.uniform(l0, l1), SEGMENT - x)
            depth, height = self.rng.uniform(d0, d1), self.rng.uniform(h0, h1)
            back = self.side.build + self.rng.uniform(0.0, 2.0) + depth / 2
            place = x + length / 2
            if self.rng.random() < kind.buildings and self.plot.take(
                place, back, (length / 2 - 0.05, depth / 2)
            ):
                skin = "facade" if self.rng.random() < 0.75 else "plain_facade"
                self.builder.place(
                    self.pose(place, self.side.sign * back, 0.0), Raw.BUILDING, scale=1.0
                )
                self.builder.box(skin, 0.0, 0.0, -2.0, height, length, depth)
                toward = -self.side.sign * depth / 2
                for _ in range(int(self.rng.integers(0, 3))):  # bays, porches, steps
                    u = self.rng.uniform(-0.4, 0.4) * length
                    high = self.rng.choice([0.6, 2.6, height * 0.8])
                    size = self.rng.uniform(1.2, 3.5), self.rng.uniform(0.8, 2.4)
                    self.builder.box("plain_facade", u, toward, -1.0, high, *size)
            x += length + (
                self.rng.uniform(0.0, 0.6)
                if self.rng.random() < 0.5
                else self.rng.uniform(1.0, 6.0)
            )

    def fences(self, kind: Archetype, archetype: str) -> None:
        """Garden fences, walls, crash barriers."""
        sign = self.side.sign
        if archetype == "highway":
            t = self.side.kerb.start - 0.1
            if self.rng.random() < 0.55:
                self._barrier(t * sign, 0.0, SEGMENT)
            if sign > 0:
                self._barrier(0.0, 0.0, SEGMENT)
        if self.rng.random() > kind.fence:
            return
        t = self.side.front.start + 0.15 if self.rng.random() < 0.7 else self.side.front.end - 0.4
        material = str(self.rng.choice(["wood_fence", "mesh_fence", "wall"], p=[0.45, 0.35, 0.2]))
        height, thick = self.rng.uniform(0.8, 2.2), 0.3 if material == "wall" else 0.08
        x = 0.0
        while x < SEGMENT:
            length = self.rng.uniform(3.0, 8.0)
            place = x + length / 2
            if self.rng.random() < 0.85 and self.plot.take(place, t, (length / 2, 0.2)):
                self.builder.place(self.pose(place, sign * t, 0.0), Raw.FENCE, scale=1.0)
                self.builder.box(material, 0.0, 0.0, -0.3, height, length, thick)
                if material != "wall":
                    for end in (-0.48, 0.0, 0.48):
                        self.builder.box("rail", end * length, 0.0, 0.0, height + 0.05, 0.1, 0.1)
            x += length

    def _barrier(self, t: float, x0: float, x1: float) -> None:
        """A crash barrier: a rail on posts, in pieces that follow the bend."""
        for x in np.arange(x0, x1, 5.0):
            self.builder.place(self.pose(float(x) + 2.5, t, 0.0), Raw.FENCE, scale=1.0)
            self.builder.box("rail", 0.0, 0.0, 0.42, 0.78, 5.05, 0.12)
            for u in (-1.25, 1.25):
                self.builder.box("rail", u, 0.0, 0.0, 0.7, 0.12, 0.12)

    def thicket(self, kind: Archetype) -> None:
        """An unbroken row of shrubs before the buildings or along the fields."""
        if self.rng.random() > kind.thicket * self.style.greenery:
            return
        t = max(self.side.front.end - self.rng.uniform(0.5, 4.0), self.side.walk.end + 1.5)
        x, tall = 0.0, self.rng.uniform(1.2, 4.5)
        while x < SEGMENT:
            wide = self.rng.uniform(1.5, 4.0)
            if self.rng.random() < 0.85 and self.plot.take(x + wide / 2, t, (wide / 2 - 0.05, 0.5)):
                out = self.side.sign * (t + self.rng.normal(0.0, 0.3))
                self.builder.place(self.pose(x + wide / 2, out, 0.0), Raw.VEGETATION)
                high = tall * self.rng.uniform(0.6, 1.3)
                self.builder.ellipsoid("leaves", 0.0, 0.0, -0.5, high, wide * 1.3,
                                   self.rng.uniform(1.4, 3.0))  # fmt: skip
            x += wide

    def things(self, kind: Archetype) -> None:
        """All objects counted by the archetype."""
        for name, expected in kind.counts.items():
            factor = self.style.greenery if name in _GREEN else 1.0
            if name in ("car", "truck", "other_vehicle", "bicycle", "motorcycle", "person"):
                factor = self.style.traffic
            for _ in range(int(self.rng.poisson(expected * factor))):
                thing = name
                if name == "bicycle" and self.rng.random() < 0.3:
                    thing = "bicycle_rack"
                if name == "other_vehicle" and self.rng.random() < 0.2:
                    thing = "bus"
                self._try(thing)

    def _try(self, name: str) -> None:
        half = THINGS[name].half
        for _ in range(_ATTEMPTS):
            place = self._span(name)
            x, t = self.rng.uniform(0.0, SEGMENT), self.rng.uniform(place.start, place.end)
            turned = name in ("person", "bush", "bin") or (
                name in ("car", "truck", "other_vehicle", "motorcycle", "bicycle")
                and self.rng.random() < 0.25
            )
            yaw = self.rng.uniform(0.0, 2 * np.pi) if turned else self.along()
            claim = (max(half), max(half)) if turned else half
            if t - claim[1] < self.side.kerb.start - 0.6:
                t = self.side.kerb.start - 0.3 + claim[1]
            if self.plot.take(x, t, claim):
                self.put(name, x, t, yaw)
                return

    def _span(self, name: str) -> Span:
        """The range of an object on this side."""
        side, toss = self.side, self.rng.random()
        if name in ("pole", "sign", "bin", "shelter"):
            return side.kerb if toss < 0.8 else side.walk
        if name in ("person", "bicyclist", "bicycle", "motorcycle", "motorcyclist"):
            if toss < 0.7:
                return Span(side.kerb.start, side.walk.end)
            return Span(side.walk.start, max(side.front.end - 0.5, side.walk.end))
        if name == "tree" and toss < 0.4:
            return side.kerb
        if name in _GREEN:
            return Span(side.walk.end + 0.5, side.build + 12.0)
        return Span(side.walk.end + 1.0, max(side.front.end, side.walk.end + 3.0))

    def crossing_traffic(self) -> None:
        """People who wait or cross at a joining street."""
        for x0, x1 in self.side.openings:
            middle, start = 0.5 * (x0 + x1), self.side.walk.end
            name = str(
                self.rng.choice(
                    ["car", "truck", "bicyclist", "motorcyclist", "bus", ""],
                    p=[0.3, 0.08, 0.15, 0.12, 0.05, 0.3],
                )
            )
            if name:
                t = start + 7.0 + self.rng.uniform(0.0, 14.0)
                lane = 0.22 * (x1 - x0) * self.rng.choice([-1.0, 1.0])
                self.put(name, middle + lane, t, np.pi / 2 * self.rng.choice([-1.0, 1.0]))

    def backdrop(self, archetype: str) -> None:
        """A backdrop far from the road, so that every beam has returns."""
        built = {"urban": 0.7, "residential": 0.4, "industrial": 0.5}.get(archetype, 0.05)
        sign, x = self.side.sign, 0.0
        start = max(self.side.build + 16.0, 40.0)
        while x < SEGMENT:
            t = start + self.rng.uniform(0.0, 10.0)
            if self.rng.random() < built:
                length = self.rng.uniform(8.0, 18.0)
                self.builder.place(
                    self.pose(x + length / 2, sign * (t + 4.0), 0.0), Raw.BUILDING, scale=1.0
                )
                self.builder.box("facade", 0.0, 0.0, -3.0, self.rng.uniform(7.0, 14.0), length, 8.0)
                x += length + self.rng.uniform(0.0, 4.0)
            else:
                wide = self.rng.uniform(4.0, 8.0)
                self.builder.place(
                    self.pose(x + wide / 2, sign * t, 0.0), Raw.VEGETATION, scale=1.0
                )
                self.builder.ellipsoid("leaves", 0.0, 0.0, -2.0, self.rng.uniform(7.0, 13.0),
                                   wide * 1.3, wide)  # fmt: skip
                x += wide * self.rng.uniform(0.6, 1.1)
