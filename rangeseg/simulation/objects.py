"""Street furniture, plants, vehicles and people: everything that can be put into a street."""

from __future__ import annotations

from collections.abc import Callable

from rangeseg.simulation.materials import Raw
from rangeseg.simulation.shapes import Pen


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


def car(pen: Pen) -> None:
    """A saloon, hatchback, estate or van-like car, centred on its foot."""
    rng = pen.rng
    length, width = rng.uniform(3.5, 4.9), rng.uniform(1.62, 1.95)
    height = rng.uniform(1.38, 1.85)
    waist = height * rng.uniform(0.52, 0.62)
    hood = rng.uniform(0.12, 0.28) * length  # from the front to the windscreen
    boot = rng.choice([0.02, 0.05, 0.18]) * length
    cabin, middle = length - hood - boot, (boot - hood) / 2
    pen.box("paint", 0.0, 0.0, 0.24, waist, length * 0.94, width)
    pen.ellipsoid("paint", 0.0, 0.0, 0.22, waist * 1.12, length, width * 1.02)
    pen.box("glass", middle, 0.0, waist, height - 0.06, cabin * 0.92, width * 0.86)
    pen.box("paint", middle, 0.0, height - 0.08, height, cabin * 0.78, width * 0.82)
    for end in (-1.0, 1.0):  # pillars and seats stop what passes through the glass
        pen.box("tyre", middle + end * cabin * 0.2, 0.0, waist, height - 0.25, 0.25, width * 0.7)
        pen.box("tyre", end * length * 0.31, 0.0, 0.0, 0.6, 0.6, width * 0.98)
        pen.box("plate", end * (length * 0.5 + 0.01), 0.0, 0.42, 0.56, 0.04, 0.5)


def truck(pen: Pen) -> None:
    """A lorry or a box van: a cab, a gap, a high body."""
    rng = pen.rng
    width, height = rng.uniform(2.1, 2.55), rng.uniform(2.6, 3.8)
    cab, body = rng.uniform(1.6, 2.3), rng.uniform(3.2, 8.5)
    total = cab + 0.35 + body
    front = total / 2
    pen.box("coach", front - cab / 2, 0.0, 0.45, min(height, 2.9) * 0.93, cab, width * 0.96)
    pen.box("glass", front - 0.1, 0.0, 1.5, 2.2, 0.3, width * 0.85)
    style = rng.random()
    if style < 0.7:
        pen.box("truck", front - cab - 0.35 - body / 2, 0.0, 0.95, height, body, width)
    elif style < 0.85:  # a flatbed with its load
        pen.box("truck", front - cab - 0.35 - body / 2, 0.0, 0.95, 1.5, body, width)
        pen.box("truck", -front + body * 0.4, 0.0, 1.5, height * 0.75, body * 0.6, width * 0.8)
    else:  # a tank
        pen.ellipsoid("truck", front - cab - 0.35 - body / 2, 0.0, 0.9, height, body, width)
    pen.box("tyre", -front + total / 2, 0.0, 0.6, 0.95, total * 0.9, width * 0.5)
    for u in (front - cab * 0.6, -front + 0.9, -front + 2.0):
        pen.box("tyre", u, 0.0, 0.0, 0.95, 0.9, width * 0.95)
    pen.box("plate", -front - 0.01, 0.0, 0.85, 1.0, 0.04, 0.5)


def other_vehicle(pen: Pen) -> None:
    """A bus, trailer, caravan, tractor or excavator."""
    rng = pen.rng
    choice = rng.random()
    if choice < 0.2:
        bus(pen)
    elif choice < 0.5:
        length, width = rng.uniform(2.0, 4.2), rng.uniform(1.4, 2.0)
        pen.box("coach", 0.0, 0.0, 0.55, rng.uniform(0.8, 1.5), length, width)
        pen.box("steel", length * 0.5 + 0.5, 0.0, 0.45, 0.55, 1.1, 0.12)
        pen.box("tyre", -0.2, 0.0, 0.0, 0.6, 0.6, width * 1.1)
    elif choice < 0.75:
        length, width, height = rng.uniform(3.5, 6.5), rng.uniform(2.0, 2.4), rng.uniform(2.2, 2.7)
        pen.box("coach", 0.0, 0.0, 0.45, height, length * 0.9, width)
        pen.ellipsoid("coach", 0.0, 0.0, 0.4, height, length * 1.08, width)
        pen.box("glass", 0.0, 0.0, height * 0.55, height * 0.8, length * 0.5, width * 1.01)
        pen.box("tyre", 0.0, 0.0, 0.0, 0.5, 0.7, width * 0.95)
    else:
        width = rng.uniform(1.8, 2.4)
        pen.box("coach", 0.9, 0.0, 0.7, 1.5, 2.0, width * 0.5)
        pen.box("coach", -0.6, 0.0, 0.8, rng.uniform(2.3, 2.9), 1.3, width * 0.7)
        for v in (-width * 0.45, width * 0.45):
            pen.box("tyre", -0.7, v, 0.0, 1.5, 1.5, 0.4)
            pen.box("tyre", 1.4, v, 0.0, 0.9, 0.9, 0.3)
        if rng.random() < 0.5:
            pen.box("coach", 2.8, 0.0, 1.0, 1.4, 2.4, 0.3, turn=rng.uniform(-0.3, 0.3))
            pen.box("coach", 3.9, 0.0, 0.1, 1.1, 0.4, width * 0.8)


def bus(pen: Pen) -> None:
    """A bus, or a tram's car: a long body with a band of windows."""
    rng = pen.rng
    length, width, height = rng.uniform(8.0, 13.0), rng.uniform(2.4, 2.6), rng.uniform(2.8, 3.2)
    pen.box("coach", 0.0, 0.0, 0.35, 1.25, length, width)
    pen.box("glass", 0.0, 0.0, 1.25, 2.2, length * 0.99, width * 0.98)
    pen.box("coach", 0.0, 0.0, 1.25, 2.2, length * 0.95, 0.5)
    pen.box("coach", 0.0, 0.0, 2.2, height, length, width)
    for u in (-length * 0.3, length * 0.32):
        pen.box("tyre", u, 0.0, 0.0, 0.9, 0.95, width * 0.97)


def bicycle(pen: Pen, u: float = 0.0, v: float = 0.0) -> None:
    """Two wheels, a frame, a handlebar; most pulses go through."""
    rng = pen.rng
    size = rng.uniform(0.85, 1.1)
    for end in (-0.52, 0.52):
        pen.box("spokes", u + end * size, v, 0.0, 0.68 * size, 0.68 * size, 0.07)
    pen.box("cycle_frame", u, v, 0.3 * size, 0.9 * size, 0.85 * size, 0.09)
    pen.box("cycle_frame", u + 0.42 * size, v, 0.85 * size, 1.08 * size, 0.15, 0.55)
    if rng.random() < 0.4:
        pen.box("cycle_frame", u + 0.6 * size, v, 0.7 * size, 0.95 * size, 0.35, 0.35)


def bicycle_rack(pen: Pen) -> None:
    """A few bicycles side by side."""
    for place in range(int(pen.rng.integers(2, 6))):
        bicycle(pen, u=float(pen.rng.normal(0.0, 0.08)), v=0.55 * place)


def motorcycle(pen: Pen) -> None:
    """A motorcycle or a scooter."""
    rng = pen.rng
    length, high = rng.uniform(1.7, 2.2), rng.uniform(0.75, 0.95)
    for end in (-0.36, 0.36):
        pen.box("engine", end * length, 0.0, 0.0, 0.62, 0.6, 0.16)
    pen.ellipsoid("leather", 0.0, 0.0, 0.22, high + 0.12, length * 0.75, 0.5)
    pen.box("leather", -length * 0.2, 0.0, high * 0.75, high + 0.05, length * 0.4, 0.34)
    pen.box("engine", length * 0.25, 0.0, high, high + 0.25, 0.18, 0.75)
    if rng.random() < 0.4:
        pen.box("engine", length * 0.3, 0.0, high + 0.1, high + 0.5, 0.06, 0.45)


def _torso(pen: Pen, clothes: str, u: float, seat: float, lean: float) -> None:
    """The upper body of somebody who sits: hips, chest, arms, head."""
    rng = pen.rng
    chest = rng.uniform(0.55, 0.68)
    pen.ellipsoid(clothes, u + 0.5 * lean, 0.0, seat - 0.08, seat + chest, 0.38, 0.48)
    pen.ellipsoid(clothes, u + 0.25 + lean, 0.0, seat + 0.2, seat + 0.5, 0.7, 0.5)
    pen.ellipsoid("skin", u + 0.1 + lean, 0.0, seat + chest, seat + chest + 0.26, 0.24, 0.2)
    for v in (-0.13, 0.13):
        pen.ellipsoid(clothes, u + 0.15, v, seat - 0.55, seat + 0.08, 0.35, 0.17)


def person(pen: Pen) -> None:
    """Somebody who stands or walks; a child or an adult, with a bag or without."""
    rng = pen.rng
    height = rng.uniform(1.2, 1.95)
    stride, broad = rng.uniform(0.0, 0.25), rng.uniform(0.4, 0.55)
    for step in (-1.0, 1.0):
        pen.cylinder("clothes", step * stride, step * 0.1, 0.0, height * 0.5, 0.085)
    pen.ellipsoid("clothes", 0.0, 0.0, height * 0.43, height * 0.88, broad * 0.65, broad)
    pen.ellipsoid("skin", 0.0, 0.0, height * 0.86, height, 0.23, 0.2)
    if rng.random() < 0.3:
        pen.box("bin", -0.2, 0.0, height * 0.5, height * 0.8, 0.22, 0.32)
    if rng.random() < 0.12:
        pen.box("bin", 0.75, 0.0, 0.25, 0.95, 0.8, 0.5)


def bicyclist(pen: Pen) -> None:
    """A bicycle and who rides it, one class together."""
    bicycle(pen)
    _torso(pen, "sportswear", -0.2, pen.rng.uniform(0.85, 1.0), pen.rng.uniform(0.0, 0.25))


def motorcyclist(pen: Pen) -> None:
    """A motorcycle and who rides it, one class together."""
    motorcycle(pen)
    _torso(pen, "leather", -0.25, pen.rng.uniform(0.72, 0.85), pen.rng.uniform(0.0, 0.15))


Draw = Callable[[Pen], None]

THINGS: dict[str, tuple[Draw, Raw, tuple[float, float], bool]] = {
    "car": (car, Raw.CAR, (2.5, 1.1), True),
    "truck": (truck, Raw.TRUCK, (5.2, 1.4), True),
    "other_vehicle": (other_vehicle, Raw.OTHER_VEHICLE, (4.5, 1.4), True),
    "bus": (bus, Raw.BUS, (6.5, 1.5), True),
    "bicycle": (bicycle, Raw.BICYCLE, (1.0, 0.4), True),
    "bicycle_rack": (bicycle_rack, Raw.BICYCLE, (1.5, 1.6), True),
    "motorcycle": (motorcycle, Raw.MOTORCYCLE, (1.2, 0.5), True),
    "person": (person, Raw.PERSON, (0.4, 0.4), True),
    "bicyclist": (bicyclist, Raw.BICYCLIST, (1.0, 0.5), True),
    "motorcyclist": (motorcyclist, Raw.MOTORCYCLIST, (1.2, 0.5), True),
    "pole": (pole, Raw.POLE, (0.3, 0.3), False),
    "sign": (sign, Raw.TRAFFIC_SIGN, (0.3, 0.5), False),
    "tree": (tree, Raw.TRUNK, (0.6, 0.6), False),
    "bush": (bush, Raw.VEGETATION, (1.0, 1.0), False),
    "hedge": (hedge, Raw.VEGETATION, (4.0, 0.5), False),
    "bin": (bin, Raw.OTHER_OBJECT, (0.7, 0.5), False),
    "shelter": (shelter, Raw.OTHER_STRUCTURE, (2.0, 0.9), False),
}
"""Thing -> how it is drawn, its raw id, its half size on the ground, whether it has an instance."""
