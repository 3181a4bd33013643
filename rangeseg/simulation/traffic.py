"""Moving vehicles and people: slots that move along lanes, so instances persist over scans."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rangeseg.simulation.layout import Segment
from rangeseg.simulation.materials import MOVING, Raw
from rangeseg.simulation.objects import THINGS
from rangeseg.simulation.shapes import Primitives, ShapeBuilder
from rangeseg.simulation.styles import SequenceStyle, stream

SLOT = 23.0
"""Metres between two slots of a lane, occupied or not."""

_KEEP_CLEAR = 9.0  # metres ahead of and behind the sensor's own car
_FIRST_INSTANCE = 60_001
_KINDS = ("car", "truck", "other_vehicle", "bus", "motorcyclist", "bicyclist")
_SHARES = (0.50, 0.08, 0.06, 0.06, 0.15, 0.15)
_WALKERS = ("person", "bicyclist")

Pose = Callable[[float, float, float], tuple[float, float, float, float]]
"""(world x, t, yaw to the road) -> x, y, z, yaw in the world."""


def moving_things(
    seed: int,
    sequence: str,
    style: SequenceStyle,
    frame: int,
    ego: tuple[float, float],
    reach: float,
    segment_at: Callable[[float], Segment],
    pose: Pose,
) -> Primitives:
    """Make all moving objects near the sensor in one scan.

    Args:
        seed: seed of the data set.
        sequence: name of the sequence.
        style: style of the sequence.
        frame: number of the scan.
        ego: x and t of the sensor.
        reach: range of interest along x, metres.
        segment_at: gives the plan at a world x.
        pose: places an object on the ground.

    Returns:
        Shapes in the world's frame, labelled with moving ids.
    """
    parts: list[Primitives] = []
    # Lanes 0 and 1 run forward, 2 and 3 backward; 4 and 5 are the sidewalks.
    speeds = (0.8, 0.9, -0.9, -1.05, 0.11, -0.13)
    for lane, share in enumerate(speeds):
        drift = share * style.step * frame
        first = int(np.floor((ego[0] - reach - drift) / SLOT))
        last = int(np.ceil((ego[0] + reach - drift) / SLOT))
        for slot in range(first, last + 1):
            rng = stream(seed, sequence, purpose=10 + lane, number=100_000 + slot)
            chance = 0.30 if lane < 4 else 0.35
            if rng.random() > chance * style.traffic:
                continue
            on_rails = rng.random() < 0.3
            x = slot * SLOT + rng.uniform(0.0, SLOT - 14.0) + drift
            if abs(x - ego[0]) > reach:
                continue
            segment = segment_at(x)
            if lane < 4:
                name = str(rng.choice(_KINDS, p=_SHARES))
                t = _lane_centre(segment, lane)
                aside = rng.normal(0.0, 0.2) - (0.8 if name == "bicyclist" else 0.0)
            else:
                name = str(rng.choice(_WALKERS, p=[0.8, 0.2]))
                side = segment.sides[0 if rng.random() < 0.5 else 1]
                t = side.sign * (side.walk.middle + rng.normal(0.0, 0.25))
                aside = 0.0
            if t is None or (
                abs(x - ego[0]) < _KEEP_CLEAR and abs(t - ego[1]) < style.lane_width * 0.8
            ):
                continue
            forward = share > 0.0
            thing = THINGS[name]
            raw = thing.raw
            if on_rails and name == "bus" and segment.archetype == "urban":
                raw = Raw.ON_RAILS
            instance = _FIRST_INSTANCE + (slot * 6 + lane) % 5000
            builder = ShapeBuilder(style, rng)
            # Keep to the right: aside is positive towards the left of the direction of travel.
            builder.place(
                pose(x, t + (aside if forward else -aside), 0.0 if forward else np.pi),
                MOVING[raw],
                instance,
            )
            thing.draw(builder)
            parts.append(builder.finish())
    return Primitives.concatenate([Primitives.from_rows([]), *parts])


def _lane_centre(segment: Segment, lane: int) -> float | None:
    """T of a driving lane, or None if the road is narrower."""
    forward = lane < 2
    lanes = sorted((t for t in segment.lanes if (t < 0.0) == forward), key=abs, reverse=True)
    position = lane if forward else lane - 2
    return lanes[position] if position < len(lanes) else None
