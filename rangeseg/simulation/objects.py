"""Street furniture, plants, vehicles and people; THINGS lists all objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rangeseg.simulation.materials import Raw
from rangeseg.simulation.shapes import ShapeBuilder


class Thing(NamedTuple):
    """A kind of object.

    Attributes:
        draw: adds its shapes to a builder.
        raw: raw id.
        half: half length and width on the ground, metres.
        counted: whether each has its own instance.
    """

    draw: Callable[[ShapeBuilder], None]
    raw: Raw
    half: tuple[float, float]
    counted: bool = False


def pole(builder: ShapeBuilder) -> None:
    """A street lamp, a traffic light's or wire's mast, or a row of bollards."""
    rng = builder.rng
    choice = rng.random()
    if choice < 0.2:
        for place in range(int(rng.integers(2, 5))):
            builder.cylinder("steel", 1.6 * place, 0.0, 0.0, rng.uniform(0.8, 1.1), 0.08)
        return
    radius, height = rng.uniform(0.06, 0.17), rng.uniform(3.0, 9.0)
    builder.cylinder("steel", 0.0, 0.0, 0.0, height, radius)
    if choice < 0.5:
        builder.cylinder("steel", 0.0, 0.0, 0.0, rng.uniform(0.6, 1.2), radius * 1.5)
    elif choice < 0.7:
        builder.box("steel", 0.0, 0.0, 2.2, 3.1, 0.3, 0.32)


def sign(builder: ShapeBuilder) -> None:
    """A traffic sign that faces along the road, on one post or two."""
    rng = builder.rng
    low = rng.uniform(1.5, 2.3)
    builder.relabel(Raw.POLE)
    if rng.random() < 0.25:  # a large board
        width, height = rng.uniform(1.4, 3.2), rng.uniform(0.9, 1.8)
        for v in (-0.4 * width, 0.4 * width):
            builder.cylinder("steel", 0.0, v, 0.0, low + height, 0.06)
    else:
        width, height = rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95)
        builder.cylinder("steel", 0.0, 0.0, 0.0, low + height, rng.uniform(0.035, 0.06))
    builder.relabel(Raw.TRAFFIC_SIGN)
    turn = rng.normal(0.0, 0.15)
    builder.box("sign", 0.0, 0.0, low, low + height, 0.16, width, turn=turn)
    if rng.random() < 0.3:
        builder.box("sign", 0.0, 0.0, low - 0.45, low - 0.08, 0.16, width * 0.9, turn=turn)


def tree(builder: ShapeBuilder) -> None:
    """A trunk and a crown: round, conical or columnar, of several clumps."""
    rng = builder.rng
    kind = int(rng.choice(3, p=builder.style.crowns))
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
    builder.cylinder("bark", 0.0, 0.0, 0.0, min(height * 0.7, foot + 2.5), radius)
    builder.relabel(Raw.VEGETATION)
    for clump in range(clumps):
        if kind == 0:
            u, v = rng.normal(0.0, 0.17 * spread, 2)
            low = foot + rng.uniform(0.0, 0.25) * (height - foot)
            size = spread * rng.uniform(0.55, 0.95, 2)
            builder.ellipsoid("leaves", u, v, low, low + 0.75 * (height - foot), size[0], size[1])
        else:
            low = foot + clump / clumps * (height - foot)
            wide = spread * (1.0 - 0.7 * clump / clumps if kind == 1 else 1.0)
            builder.ellipsoid("leaves", 0.0, 0.0, low - 0.2, low + 1.3 * (height - foot) / clumps,
                          wide, wide * rng.uniform(0.85, 1.0))  # fmt: skip


def bush(builder: ShapeBuilder) -> None:
    """One to three clumps of leaves on the ground."""
    rng = builder.rng
    for _ in range(int(rng.integers(1, 4))):
        wide, high = rng.uniform(0.8, 3.0), rng.uniform(0.5, 2.6)
        u, v = rng.normal(0.0, 0.6, 2)
        builder.ellipsoid("leaves", u, v, -0.3 * high, high, wide, wide * rng.uniform(0.7, 1.3))


def hedge(builder: ShapeBuilder) -> None:
    """A clipped hedge along the road."""
    rng = builder.rng
    builder.box("hedge", 0.0, 0.0, -0.1, rng.uniform(0.7, 2.0), rng.uniform(3.0, 10.0),
            rng.uniform(0.5, 1.0))  # fmt: skip


def bin(builder: ShapeBuilder) -> None:
    """A waste bin, box, bench or electrical cabinet, without its own class."""
    rng = builder.rng
    builder.box(
        "bin", 0.0, 0.0, 0.0, rng.uniform(0.5, 1.5), rng.uniform(0.4, 1.4), rng.uniform(0.4, 0.8)
    )


def shelter(builder: ShapeBuilder) -> None:
    """A bus shelter: panes on three sides and a roof."""
    width = builder.rng.uniform(2.5, 4.0)
    builder.box("shelter", 0.0, 0.6, 0.0, 2.2, width, 0.06)
    for end in (-0.5, 0.5):
        builder.box("shelter", end * width, 0.0, 0.0, 2.2, 0.06, 1.2)
    builder.box("wall", 0.0, 0.0, 2.2, 2.35, width, 1.4)


def car(builder: ShapeBuilder) -> None:
    """A saloon, hatchback, estate or van-like car, centred on its foot."""
    rng = builder.rng
    length, width = rng.uniform(3.5, 4.9), rng.uniform(1.62, 1.95)
    height = rng.uniform(1.38, 1.85)
    waist = height * rng.uniform(0.52, 0.62)
    hood = rng.uniform(0.12, 0.28) * length  # from the front to the windscreen
    boot = rng.choice([0.02, 0.05, 0.18]) * length
    cabin, middle = length - hood - boot, (boot - hood) / 2
    builder.box("paint", 0.0, 0.0, 0.24, waist, length * 0.94, width)
    builder.ellipsoid("paint", 0.0, 0.0, 0.22, waist * 1.12, length, width * 1.02)
    builder.box("glass", middle, 0.0, waist, height - 0.06, cabin * 0.92, width * 0.86)
    builder.box("paint", middle, 0.0, height - 0.08, height, cabin * 0.78, width * 0.82)
    for end in (-1.0, 1.0):  # pillars and seats stop pulses that pass the glass
        builder.box(
            "tyre", middle + end * cabin * 0.2, 0.0, waist, height - 0.25, 0.25, width * 0.7
        )
        builder.box("tyre", end * length * 0.31, 0.0, 0.0, 0.6, 0.6, width * 0.98)
        builder.box("plate", end * (length * 0.5 + 0.01), 0.0, 0.42, 0.56, 0.04, 0.5)


def truck(builder: ShapeBuilder) -> None:
    """A lorry or a box van: a cab, a gap, a high body."""
    rng = builder.rng
    width, height = rng.uniform(2.1, 2.55), rng.uniform(2.6, 3.8)
    cab, body = rng.uniform(1.6, 2.3), rng.uniform(3.2, 8.5)
    total = cab + 0.35 + body
    front = total / 2
    builder.box("coach", front - cab / 2, 0.0, 0.45, min(height, 2.9) * 0.93, cab, width * 0.96)
    builder.box("glass", front - 0.1, 0.0, 1.5, 2.2, 0.3, width * 0.85)
    style = rng.random()
    if style < 0.7:
        builder.box("truck", front - cab - 0.35 - body / 2, 0.0, 0.95, height, body, width)
    elif style < 0.85:  # a flatbed with its load
        builder.box("truck", front - cab - 0.35 - body / 2, 0.0, 0.95, 1.5, body, width)
        builder.box("truck", -front + body * 0.4, 0.0, 1.5, height * 0.75, body * 0.6, width * 0.8)
    else:  # a tank
        builder.ellipsoid("truck", front - cab - 0.35 - body / 2, 0.0, 0.9, height, body, width)
    builder.box("tyre", -front + total / 2, 0.0, 0.6, 0.95, total * 0.9, width * 0.5)
    for u in (front - cab * 0.6, -front + 0.9, -front + 2.0):
        builder.box("tyre", u, 0.0, 0.0, 0.95, 0.9, width * 0.95)
    builder.box("plate", -front - 0.01, 0.0, 0.85, 1.0, 0.04, 0.5)


def other_vehicle(builder: ShapeBuilder) -> None:
    """A bus, trailer, caravan, tractor or excavator."""
    rng = builder.rng
    choice = rng.random()
    if choice < 0.2:
        bus(builder)
    elif choice < 0.5:
        length, width = rng.uniform(2.0, 4.2), rng.uniform(1.4, 2.0)
        builder.box("coach", 0.0, 0.0, 0.55, rng.uniform(0.8, 1.5), length, width)
        builder.box("steel", length * 0.5 + 0.5, 0.0, 0.45, 0.55, 1.1, 0.12)
        builder.box("tyre", -0.2, 0.0, 0.0, 0.6, 0.6, width * 1.1)
    elif choice < 0.75:
        length, width, height = rng.uniform(3.5, 6.5), rng.uniform(2.0, 2.4), rng.uniform(2.2, 2.7)
        builder.box("coach", 0.0, 0.0, 0.45, height, length * 0.9, width)
        builder.ellipsoid("coach", 0.0, 0.0, 0.4, height, length * 1.08, width)
        builder.box("glass", 0.0, 0.0, height * 0.55, height * 0.8, length * 0.5, width * 1.01)
        builder.box("tyre", 0.0, 0.0, 0.0, 0.5, 0.7, width * 0.95)
    else:
        width = rng.uniform(1.8, 2.4)
        builder.box("coach", 0.9, 0.0, 0.7, 1.5, 2.0, width * 0.5)
        builder.box("coach", -0.6, 0.0, 0.8, rng.uniform(2.3, 2.9), 1.3, width * 0.7)
        for v in (-width * 0.45, width * 0.45):
            builder.box("tyre", -0.7, v, 0.0, 1.5, 1.5, 0.4)
            builder.box("tyre", 1.4, v, 0.0, 0.9, 0.9, 0.3)
        if rng.random() < 0.5:
            builder.box("coach", 2.8, 0.0, 1.0, 1.4, 2.4, 0.3, turn=rng.uniform(-0.3, 0.3))
            builder.box("coach", 3.9, 0.0, 0.1, 1.1, 0.4, width * 0.8)


def bus(builder: ShapeBuilder) -> None:
    """A bus, or a tram's car: a long body with a band of windows."""
    rng = builder.rng
    length, width, height = rng.uniform(8.0, 13.0), rng.uniform(2.4, 2.6), rng.uniform(2.8, 3.2)
    builder.box("coach", 0.0, 0.0, 0.35, 1.25, length, width)
    builder.box("glass", 0.0, 0.0, 1.25, 2.2, length * 0.99, width * 0.98)
    builder.box("coach", 0.0, 0.0, 1.25, 2.2, length * 0.95, 0.5)
    builder.box("coach", 0.0, 0.0, 2.2, height, length, width)
    for u in (-length * 0.3, length * 0.32):
        builder.box("tyre", u, 0.0, 0.0, 0.9, 0.95, width * 0.97)


def bicycle(builder: ShapeBuilder, u: float = 0.0, v: float = 0.0) -> None:
    """Two wheels, a frame, a handlebar; most pulses go through."""
    rng = builder.rng
    size = rng.uniform(0.85, 1.1)
    for end in (-0.52, 0.52):
        builder.box("spokes", u + end * size, v, 0.0, 0.68 * size, 0.68 * size, 0.07)
    builder.box("cycle_frame", u, v, 0.3 * size, 0.9 * size, 0.85 * size, 0.09)
    builder.box("cycle_frame", u + 0.42 * size, v, 0.85 * size, 1.08 * size, 0.15, 0.55)
    if rng.random() < 0.4:
        builder.box("cycle_frame", u + 0.6 * size, v, 0.7 * size, 0.95 * size, 0.35, 0.35)


def bicycle_rack(builder: ShapeBuilder) -> None:
    """A few bicycles side by side."""
    for place in range(int(builder.rng.integers(2, 6))):
        bicycle(builder, u=float(builder.rng.normal(0.0, 0.08)), v=0.55 * place)


def motorcycle(builder: ShapeBuilder) -> None:
    """A motorcycle or a scooter."""
    rng = builder.rng
    length, high = rng.uniform(1.7, 2.2), rng.uniform(0.75, 0.95)
    for end in (-0.36, 0.36):
        builder.box("engine", end * length, 0.0, 0.0, 0.62, 0.6, 0.16)
    builder.ellipsoid("leather", 0.0, 0.0, 0.22, high + 0.12, length * 0.75, 0.5)
    builder.box("leather", -length * 0.2, 0.0, high * 0.75, high + 0.05, length * 0.4, 0.34)
    builder.box("engine", length * 0.25, 0.0, high, high + 0.25, 0.18, 0.75)
    if rng.random() < 0.4:
        builder.box("engine", length * 0.3, 0.0, high + 0.1, high + 0.5, 0.06, 0.45)


def _torso(builder: ShapeBuilder, clothes: str, u: float, seat: float, lean: float) -> None:
    """The upper body of a sitting person: hips, chest, arms, head."""
    rng = builder.rng
    chest = rng.uniform(0.55, 0.68)
    builder.ellipsoid(clothes, u + 0.5 * lean, 0.0, seat - 0.08, seat + chest, 0.38, 0.48)
    builder.ellipsoid(clothes, u + 0.25 + lean, 0.0, seat + 0.2, seat + 0.5, 0.7, 0.5)
    builder.ellipsoid("skin", u + 0.1 + lean, 0.0, seat + chest, seat + chest + 0.26, 0.24, 0.2)
    for v in (-0.13, 0.13):
        builder.ellipsoid(clothes, u + 0.15, v, seat - 0.55, seat + 0.08, 0.35, 0.17)


def person(builder: ShapeBuilder) -> None:
    """A standing or walking child or adult, with or without a bag."""
    rng = builder.rng
    height = rng.uniform(1.2, 1.95)
    stride, broad = rng.uniform(0.0, 0.25), rng.uniform(0.4, 0.55)
    for step in (-1.0, 1.0):
        builder.cylinder("clothes", step * stride, step * 0.1, 0.0, height * 0.5, 0.085)
    builder.ellipsoid("clothes", 0.0, 0.0, height * 0.43, height * 0.88, broad * 0.65, broad)
    builder.ellipsoid("skin", 0.0, 0.0, height * 0.86, height, 0.23, 0.2)
    if rng.random() < 0.3:
        builder.box("bin", -0.2, 0.0, height * 0.5, height * 0.8, 0.22, 0.32)
    if rng.random() < 0.12:
        builder.box("bin", 0.75, 0.0, 0.25, 0.95, 0.8, 0.5)


def bicyclist(builder: ShapeBuilder) -> None:
    """A bicycle and its rider, one class together."""
    bicycle(builder)
    _torso(
        builder, "sportswear", -0.2, builder.rng.uniform(0.85, 1.0), builder.rng.uniform(0.0, 0.25)
    )


def motorcyclist(builder: ShapeBuilder) -> None:
    """A motorcycle and its rider, one class together."""
    motorcycle(builder)
    _torso(
        builder, "leather", -0.25, builder.rng.uniform(0.72, 0.85), builder.rng.uniform(0.0, 0.15)
    )


THINGS: dict[str, Thing] = {
    "car": Thing(car, Raw.CAR, (2.5, 1.1), counted=True),
    "truck": Thing(truck, Raw.TRUCK, (5.2, 1.4), counted=True),
    "other_vehicle": Thing(other_vehicle, Raw.OTHER_VEHICLE, (4.5, 1.4), counted=True),
    "bus": Thing(bus, Raw.BUS, (6.5, 1.5), counted=True),
    "bicycle": Thing(bicycle, Raw.BICYCLE, (1.0, 0.4), counted=True),
    "bicycle_rack": Thing(bicycle_rack, Raw.BICYCLE, (1.5, 1.6), counted=True),
    "motorcycle": Thing(motorcycle, Raw.MOTORCYCLE, (1.2, 0.5), counted=True),
    "person": Thing(person, Raw.PERSON, (0.4, 0.4), counted=True),
    "bicyclist": Thing(bicyclist, Raw.BICYCLIST, (1.0, 0.5), counted=True),
    "motorcyclist": Thing(motorcyclist, Raw.MOTORCYCLIST, (1.2, 0.5), counted=True),
    "pole": Thing(pole, Raw.POLE, (0.3, 0.3)),
    "sign": Thing(sign, Raw.TRAFFIC_SIGN, (0.3, 0.5)),
    "tree": Thing(tree, Raw.TRUNK, (0.6, 0.6)),
    "bush": Thing(bush, Raw.VEGETATION, (1.0, 1.0)),
    "hedge": Thing(hedge, Raw.VEGETATION, (4.0, 0.5)),
    "bin": Thing(bin, Raw.OTHER_OBJECT, (0.7, 0.5)),
    "shelter": Thing(shelter, Raw.OTHER_STRUCTURE, (2.0, 0.9)),
}
