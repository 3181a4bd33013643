"""Five kinds of place, and the random plan of a segment from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rangeseg.simulation.layout import HALF_WIDTH, SEGMENT, Band, Patch, Segment, Side, Span
from rangeseg.simulation.styles import SequenceStyle, stream

RUN = 2
"""Number of successive segments that share an archetype and a cross section."""

_SHIFT = 10_000  # segment numbers before the start are negative, streams count from 0


@dataclass(frozen=True)
class Archetype:
    """A kind of place. Pairs are ranges to draw from; counts are per side and segment.

    Attributes:
        lanes: lanes per direction.
        median: half width of the strip between the directions, 0 for a painted line.
        parking: chance of a parking lane, and its occupancy.
        verge: width of the green strip beside the road.
        walk: width of the sidewalk; 0 is none.
        front: depth of the ground before the buildings.
        kerb_rise: height of the kerb.
        front_material: shares of the front's materials.
        bank: heights of the embankment behind.
        crossing: chance of a cross street on a side of a segment.
        lot: chance of a car park.
        buildings: share of the building line that is built on.
        house: (length, depth, height) ranges of the buildings.
        fence: chance of a fence along the front.
        thicket: chance of a row of shrubs along the front.
        counts: thing -> expected number.
    """

    lanes: int
    median: float
    parking: tuple[float, float]
    verge: tuple[float, float]
    walk: tuple[float, float]
    front: tuple[float, float]
    kerb_rise: float
    front_material: Mapping[str, float]
    bank: tuple[float, float]
    crossing: float
    lot: float
    buildings: float
    house: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    fence: float
    thicket: float
    counts: Mapping[str, float]


ARCHETYPES: dict[str, Archetype] = {
    "urban": Archetype(
        lanes=1, median=0.0, parking=(0.60, 0.45), verge=(0.0, 1.2), walk=(2.4, 5.5),
        front=(0.0, 4.0), kerb_rise=0.14, front_material={"paving": 0.5, "gravel": 0.5},
        bank=(0.0, 0.0), crossing=0.4, lot=0.10, buildings=0.80,
        house=((9.0, 22.0), (8.0, 14.0), (8.0, 18.0)), fence=0.25, thicket=0.25,
        counts={
            "car": 0.3, "truck": 0.25, "other_vehicle": 0.25, "bicycle": 1.6, "motorcycle": 0.9,
            "person": 1.6, "bicyclist": 0.35, "motorcyclist": 0.3, "sign": 1.5, "pole": 2.2,
            "tree": 2.0, "bush": 1.5, "bin": 0.8, "shelter": 0.25, "hedge": 0.2,
        },
    ),
    "residential": Archetype(
        lanes=1, median=0.0, parking=(0.40, 0.40), verge=(0.0, 2.2), walk=(1.5, 3.2),
        front=(3.0, 8.0), kerb_rise=0.11, front_material={"grass": 0.75, "gravel": 0.25},
        bank=(-0.5, 2.0), crossing=0.4, lot=0.05, buildings=0.65,
        house=((8.0, 14.0), (7.0, 11.0), (4.5, 8.0)), fence=0.50, thicket=0.55,
        counts={
            "car": 0.4, "truck": 0.2, "other_vehicle": 0.3, "bicycle": 1.1, "motorcycle": 0.7,
            "person": 1.0, "bicyclist": 0.35, "motorcyclist": 0.3, "sign": 1.0, "pole": 1.6,
            "tree": 3.0, "bush": 3.5, "bin": 0.8, "shelter": 0.05, "hedge": 0.9,
        },
    ),
    "highway": Archetype(
        lanes=2, median=1.4, parking=(0.0, 0.0), verge=(2.0, 5.0), walk=(0.0, 0.0),
        front=(6.0, 14.0), kerb_rise=0.0, front_material={"grass": 1.0},
        bank=(-3.0, 5.0), crossing=0.0, lot=0.05, buildings=0.1,
        house=((15.0, 30.0), (10.0, 20.0), (6.0, 12.0)), fence=0.40, thicket=0.75,
        counts={
            "car": 0.2, "truck": 0.3, "other_vehicle": 0.2, "bicycle": 0.1, "motorcycle": 0.25,
            "person": 0.2, "bicyclist": 0.05, "motorcyclist": 0.3, "sign": 1.5, "pole": 1.4,
            "tree": 2.5, "bush": 4.0, "bin": 0.2, "shelter": 0.1, "hedge": 0.3,
        },
    ),
    "country": Archetype(
        lanes=1, median=0.0, parking=(0.1, 0.3), verge=(1.0, 3.0), walk=(0.0, 0.0),
        front=(6.0, 16.0), kerb_rise=0.0, front_material={"grass": 0.9, "gravel": 0.1},
        bank=(-1.5, 6.0), crossing=0.2, lot=0.08, buildings=0.15,
        house=((8.0, 18.0), (8.0, 12.0), (4.0, 8.0)), fence=0.40, thicket=0.80,
        counts={
            "car": 0.35, "truck": 0.2, "other_vehicle": 0.4, "bicycle": 0.5, "motorcycle": 0.4,
            "person": 0.5, "bicyclist": 0.4, "motorcyclist": 0.35, "sign": 0.9, "pole": 1.3,
            "tree": 5.0, "bush": 5.0, "bin": 0.3, "shelter": 0.05, "hedge": 0.8,
        },
    ),
    "industrial": Archetype(
        lanes=1, median=0.0, parking=(0.35, 0.5), verge=(0.0, 3.0), walk=(0.0, 3.5),
        front=(8.0, 20.0), kerb_rise=0.08,
        front_material={"gravel": 0.5, "grass": 0.3, "parking": 0.2},
        bank=(-0.5, 1.0), crossing=0.3, lot=0.30, buildings=0.6,
        house=((18.0, 36.0), (12.0, 24.0), (6.0, 12.0)), fence=0.55, thicket=0.45,
        counts={
            "car": 0.5, "truck": 0.8, "other_vehicle": 0.7, "bicycle": 0.6, "motorcycle": 0.5,
            "person": 0.8, "bicyclist": 0.25, "motorcyclist": 0.25, "sign": 1.1, "pole": 1.8,
            "tree": 1.8, "bush": 2.5, "bin": 1.2, "shelter": 0.2, "hedge": 0.3,
        },
    ),
}  # fmt: skip
"""The family of places. Rare classes are deliberately more frequent than in a real street: four
labelled scans must show most of them."""


def archetype_of(style: SequenceStyle, offset: float, number: int) -> str:
    """The archetype of a segment; runs are distributed evenly in the mix's proportions."""
    share = (offset + (number // RUN) * 0.6180339887498949) % 1.0
    total = 0.0
    for name, part in style.mix.items():
        total += part
        if share < total:
            return name
    return next(reversed(list(style.mix)))


def plan_segment(seed: int, sequence: str, style: SequenceStyle, number: int) -> Segment:
    """Draw the plan of a segment, as a function of the arguments alone."""
    whole = stream(seed, sequence, purpose=2)
    offset = whole.random()
    relief = np.stack(
        [
            whole.uniform(0.05, 0.35, 4),
            2 * np.pi / whole.uniform(15.0, 70.0, 4),
            2 * np.pi / whole.uniform(20.0, 80.0, 4),
            whole.uniform(0.0, 2 * np.pi, 4),
        ],
        axis=1,
    )
    name = archetype_of(style, offset, number)
    kind = ARCHETYPES[name]
    run = stream(seed, sequence, purpose=2, number=_SHIFT + number // RUN)
    shoulder = 2.2 if kind.median else run.uniform(0.1, 0.7)
    lanes_wide = kind.lanes + (1 if name == "urban" and run.random() < 0.3 else 0)
    median = run.uniform(0.8, 2.2) if kind.median else 0.0
    road_half = median + lanes_wide * style.lane_width + shoulder
    middles = [median + (lane + 0.5) * style.lane_width for lane in range(lanes_wide)]
    lines = [(median, True)] if median else [(0.0, run.random() < 0.2)]
    lines += [(median + lane * style.lane_width, False) for lane in range(1, lanes_wide)]
    lines += [(median + lanes_wide * style.lane_width, True)] if run.random() < 0.7 else []
    own = stream(seed, sequence, purpose=3, number=_SHIFT + number)
    sides = []
    for sign in (-1, 1):
        side = _draw_side(kind, sign, road_half, median, run)
        sides.append(_open_side(side, kind, road_half, own))
    return Segment(
        number=number,
        archetype=name,
        road_half=road_half,
        lanes=tuple(sign * middle for middle in middles for sign in (-1.0, 1.0)),
        lines=tuple((sign * t, full) for t, full in lines for sign in (-1, 1)),
        sides=(sides[0], sides[1]),
        relief=relief,
    )


def _draw_side(
    kind: Archetype, sign: int, road_half: float, median: float, rng: np.random.Generator
) -> Side:
    """The cross section of one side, the same for a whole run."""
    bands = [Band("asphalt", -0.01, road_half, 0.0)]
    if median:
        bands.append(Band("gravel" if rng.random() < 0.6 else "grass", -0.01, median - 0.2, 0.12))
    edge = road_half
    parking = None
    if rng.random() < kind.parking[0]:
        parking = Span(edge, edge + rng.uniform(2.1, 2.6))
        bands.append(Band("parking", parking.start, parking.end, 0.02))
        edge = parking.end
    verge = max(0.0, rng.uniform(*kind.verge))
    walk_width = rng.uniform(*kind.walk)
    walk_width = walk_width if walk_width > 0.9 else 0.0
    start = edge
    if verge > 0.3:
        bands.append(Band("grass", edge, edge + verge, kind.kerb_rise))
        edge += verge
    walk = Span(edge, edge + max(walk_width, 1.5))
    if walk_width:
        bands.append(Band("paving", edge, edge + walk_width, kind.kerb_rise))
        edge += walk_width
    kerb = Span(start + 0.35, start + max(verge, 0.9))
    front = Span(edge, edge + rng.uniform(*kind.front))
    material = str(rng.choice(list(kind.front_material), p=list(kind.front_material.values())))
    bands.append(Band(material, front.start, front.end, kind.kerb_rise + 0.02))
    bands.append(Band("grass", front.end, HALF_WIDTH + 1.0, kind.kerb_rise))
    bank_height = rng.uniform(*kind.bank)
    if abs(bank_height) < 0.3:
        bank_height = 0.0
    return Side(
        sign=sign, bands=tuple(bands), patches=(), parking=parking, kerb=kerb, walk=walk,
        front=front, build=front.end, bank_from=front.start + 0.5,
        bank_slope=rng.uniform(0.08, 0.35), bank_height=bank_height,
    )  # fmt: skip


def _open_side(side: Side, kind: Archetype, road_half: float, rng: np.random.Generator) -> Side:
    """Cross streets, driveways, car parks and squares of one segment."""
    patches: list[Patch] = []
    openings: list[tuple[float, float]] = []
    lots: list[Patch] = []
    if side.front.width > 2.0 and rng.random() < 0.35:
        material = str(rng.choice(["gravel", "gravel", "grass", "paving"]))
        x0 = rng.uniform(0.0, SEGMENT - 12.0)
        patches.append(
            Patch(material, x0, x0 + rng.uniform(6.0, 12.0), side.front.start, side.front.end)
        )
    if kind.kerb_rise and side.front.width > 2.5 and rng.random() < 0.5:
        x0 = rng.uniform(2.0, SEGMENT - 6.0)
        patches.append(Patch("parking", x0, x0 + 3.2, side.front.start, side.front.end))
    if rng.random() < kind.lot:
        x0, start = rng.uniform(1.0, 12.0), side.walk.end + 0.5
        lot = Patch("parking", x0, x0 + rng.uniform(16.0, 26.0), start, start + 13.0, 0.05)
        patches.append(lot)
        lots.append(lot)
    if rng.random() < kind.crossing:
        width = rng.uniform(5.0, 9.0)
        x0 = rng.uniform(2.0, SEGMENT - width - 2.0)
        patches.append(Patch("asphalt", x0, x0 + width, road_half, side.bank_from, 0.0))
        patches.append(Patch("asphalt", x0, x0 + width, side.bank_from, HALF_WIDTH + 1.0))
        openings.append((x0 - 1.0, x0 + width + 1.0))
    return replace(side, patches=tuple(patches), openings=tuple(openings), lots=tuple(lots))
