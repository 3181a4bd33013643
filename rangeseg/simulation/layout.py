"""The plan of a segment: its strips of ground. Plain data, drawn by archetypes.py."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SEGMENT = 40.0
"""Length of a segment in metres along x."""

HALF_WIDTH = 60.0
"""Width of the modelled ground across the road; beyond, its rim continues."""


@dataclass(frozen=True)
class Band:
    """A strip along the road: ``start <= |t| < end`` metres, ``rise`` metres above the road."""

    material: str
    start: float
    end: float
    rise: float


@dataclass(frozen=True)
class Patch:
    """A rectangle of ground in a segment; ``rise`` None keeps the existing height."""

    material: str
    x0: float
    x1: float
    t0: float
    t1: float
    rise: float | None = None


@dataclass(frozen=True)
class Span:
    """A range of |t| in metres."""

    start: float
    end: float

    @property
    def width(self) -> float:
        """Metres."""
        return self.end - self.start

    @property
    def middle(self) -> float:
        """Metres from the centre line."""
        return 0.5 * (self.start + self.end)


@dataclass(frozen=True)
class Side:
    """One side of a segment's road.

    Attributes:
        sign: +1 left, -1 right; t = sign * |t|.
        bands: strips from the road outward.
        patches: rectangles on top of them.
        parking: lane of parked cars, if any.
        kerb: strip of poles, signs, bins and street trees.
        walk: strip of pedestrians.
        front: gardens, yards or fields before the buildings.
        build: distance of the building line, |t|.
        bank_from: start of an embankment, |t|.
        bank_slope: steepness of the embankment, metres per metre.
        bank_height: full height of the embankment in metres, negative for a ditch.
        openings: (x0, x1) ranges kept free by cross streets.
        lots: car parks: patches whose cars stand across the road.
    """

    sign: int
    bands: tuple[Band, ...]
    patches: tuple[Patch, ...]
    parking: Span | None
    kerb: Span
    walk: Span
    front: Span
    build: float
    bank_from: float
    bank_slope: float
    bank_height: float
    openings: tuple[tuple[float, float], ...] = ()
    lots: tuple[Patch, ...] = ()


@dataclass(frozen=True)
class Segment:
    """The plan of one segment.

    Attributes:
        number: position along the road; x runs from SEGMENT * number.
        archetype: key in ARCHETYPES.
        road_half: half the carriageway in metres.
        lanes: t of the middle of each lane; negative ones run forward.
        lines: (t, whether full) of the painted lines.
        sides: right and left.
        relief: (K,4) waves of the open land: amplitude, two wave numbers, phase.
    """

    number: int
    archetype: str
    road_half: float
    lanes: tuple[float, ...]
    lines: tuple[tuple[float, bool], ...]
    sides: tuple[Side, Side]
    relief: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
