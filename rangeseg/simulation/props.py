"""Street furniture and plants, and the table of everything that can be put into a street."""

from __future__ import annotations

from collections.abc import Callable

from rangeseg.simulation import movers
from rangeseg.simulation.materials import Raw
from rangeseg.simulation.pen import Pen


def pole(pen: Pen) -> None:
    """A street lamp, a traffic light's or wire's mast, or a row of bollards."""
    rng = pen.rng
    choice = rng.random()
    if choice < 0.2:
        for place in range(int(rng.integers(2, 5))):
            pen.cylinder("steel", 1.6 * place, 0.0, 0.0, rng.uniform(0.8, 1.1), 0.08)
        return
    radius, height = rng.uniform(0.06, 0.17), rng.uniform(3.0, 9.0)
    pen.cylinder("steel", 0.0, 0.0, 0.0, height, radius)
    if choice < 0.5:
        pen.cylinder("steel", 0.0, 0.0, 0.0, rng.uniform(0.6, 1.2), radius * 1.5)
    elif choice < 0.7:
        pen.box("steel", 0.0, 0.0, 2.2, 3.1, 0.3, 0.32)


def sign(pen: Pen) -> None:
    """A traffic sign that faces along the road, on one post or two."""
    rng = pen.rng
    low = rng.uniform(1.5, 2.3)
    pen.relabel(Raw.POLE)
    if rng.random() < 0.25:  # a large board
        width, height = rng.uniform(1.4, 3.2), rng.uniform(0.9, 1.8)
        for v in (-0.4 * width, 0.4 * width):
            pen.cylinder("steel", 0.0, v, 0.0, low + height, 0.06)
    else:
        width, height = rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95)
        pen.cylinder("steel", 0.0, 0.0, 0.0, low + height, rng.uniform(0.035, 0.06))
    pen.relabel(Raw.TRAFFIC_SIGN)
    turn = rng.normal(0.0, 0.15)
    pen.box("sign", 0.0, 0.0, low, low + height, 0.16, width, turn=turn)
    if rng.random() < 0.3:
        pen.box("sign", 0.0, 0.0, low - 0.45, low - 0.08, 0.16, width * 0.9, turn=turn)


def tree(pen: Pen) -> None:
    """A trunk and a crown: round, conical or columnar, of several clumps."""
    rng = pen.rng
    kind = int(rng.choice(3, p=pen.style.crowns))
    radius = rng.uniform(0.09, 0.32)
    if kind == 0:
        foot, height, spread = rng.uniform(0.9, 2.5), rng.uniform(5.0, 11.0), rng.uniform(2.5, 6.5)
        clumps = int(rng.integers(3, 6))
    elif kind == 1:
        foot, height, spread = rng.uniform(0.4, 1.4), rng.uniform(6.0, 13.0), rng.uniform(2.5, 4.5)
        clumps = 3
    else:
        foot, height, spread = rng.uniform(0.8, 2.0), rng.uniform(5.0, 12.0), rng.uniform(1.2, 2.2)
        clumps = 2
    pen.cylinder("bark", 0.0, 0.0, 0.0, min(height * 0.7, foot + 2.5), radius)
    pen.relabel(Raw.VEGETATION)
    for clump in range(clumps):
        if kind == 0:
            u, v = rng.normal(0.0, 0.17 * spread, 2)
            low = foot + rng.uniform(0.0, 0.25) * (height - foot)
            size = spread * rng.uniform(0.55, 0.95, 2)
            pen.ellipsoid("leaves", u, v, low, low + 0.75 * (height - foot), size[0], size[1])
        else:
            low = foot + clump / clumps * (height - foot)
            wide = spread * (1.0 - 0.7 * clump / clumps if kind == 1 else 1.0)
            pen.ellipsoid("leaves", 0.0, 0.0, low - 0.2, low + 1.3 * (height - foot) / clumps,
                          wide, wide * rng.uniform(0.85, 1.0))  # fmt: skip


def bush(pen: Pen) -> None:
    """One to three clumps of leaves on the ground."""
    rng = pen.rng
    for _ in range(int(rng.integers(1, 4))):
        wide, high = rng.uniform(0.8, 3.0), rng.uniform(0.5, 2.6)
        u, v = rng.normal(0.0, 0.6, 2)
        pen.ellipsoid("leaves", u, v, -0.3 * high, high, wide, wide * rng.uniform(0.7, 1.3))


def hedge(pen: Pen) -> None:
    """A clipped hedge along the road."""
    rng = pen.rng
    pen.box("hedge", 0.0, 0.0, -0.1, rng.uniform(0.7, 2.0), rng.uniform(3.0, 10.0),
            rng.uniform(0.5, 1.0))  # fmt: skip


def bin(pen: Pen) -> None:
    """A waste bin, box, bench or electrical cabinet: an object of no class of its own."""
    rng = pen.rng
    pen.box(
        "bin", 0.0, 0.0, 0.0, rng.uniform(0.5, 1.5), rng.uniform(0.4, 1.4), rng.uniform(0.4, 0.8)
    )


def shelter(pen: Pen) -> None:
    """A bus shelter: panes on three sides and a roof."""
    width = pen.rng.uniform(2.5, 4.0)
    pen.box("shelter", 0.0, 0.6, 0.0, 2.2, width, 0.06)
    for end in (-0.5, 0.5):
        pen.box("shelter", end * width, 0.0, 0.0, 2.2, 0.06, 1.2)
    pen.box("wall", 0.0, 0.0, 2.2, 2.35, width, 1.4)


Draw = Callable[[Pen], None]

THINGS: dict[str, tuple[Draw, Raw, tuple[float, float], bool]] = {
    "car": (movers.car, Raw.CAR, (2.5, 1.1), True),
    "truck": (movers.truck, Raw.TRUCK, (5.2, 1.4), True),
    "other_vehicle": (movers.other_vehicle, Raw.OTHER_VEHICLE, (4.5, 1.4), True),
    "bus": (movers.bus, Raw.BUS, (6.5, 1.5), True),
    "bicycle": (movers.bicycle, Raw.BICYCLE, (1.0, 0.4), True),
    "bicycle_rack": (movers.bicycle_rack, Raw.BICYCLE, (1.5, 1.6), True),
    "motorcycle": (movers.motorcycle, Raw.MOTORCYCLE, (1.2, 0.5), True),
    "person": (movers.person, Raw.PERSON, (0.4, 0.4), True),
    "bicyclist": (movers.bicyclist, Raw.BICYCLIST, (1.0, 0.5), True),
    "motorcyclist": (movers.motorcyclist, Raw.MOTORCYCLIST, (1.2, 0.5), True),
    "pole": (pole, Raw.POLE, (0.3, 0.3), False),
    "sign": (sign, Raw.TRAFFIC_SIGN, (0.3, 0.5), False),
    "tree": (tree, Raw.TRUNK, (0.6, 0.6), False),
    "bush": (bush, Raw.VEGETATION, (1.0, 1.0), False),
    "hedge": (hedge, Raw.VEGETATION, (4.0, 0.5), False),
    "bin": (bin, Raw.OTHER_OBJECT, (0.7, 0.5), False),
    "shelter": (shelter, Raw.OTHER_STRUCTURE, (2.0, 0.9), False),
}
"""Thing -> how it is drawn, its raw id, its half size on the ground, whether it has an instance."""
