"""Materials of the simulated street: raw SemanticKITTI ids, reflectance, porosity.

The albedos of classes are deliberately distinct. With wide, overlapping albedos a network with few
labelled scans cannot separate kerb stone from asphalt, and neither can its pseudo-labels. Real
surfaces are about as separable.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Raw(IntEnum):
    """Raw SemanticKITTI ids that the simulator writes."""

    UNLABELLED = 0
    OUTLIER = 1
    CAR = 10
    BICYCLE = 11
    BUS = 13
    MOTORCYCLE = 15
    ON_RAILS = 16
    TRUCK = 18
    OTHER_VEHICLE = 20
    PERSON = 30
    BICYCLIST = 31
    MOTORCYCLIST = 32
    ROAD = 40
    PARKING = 44
    SIDEWALK = 48
    OTHER_GROUND = 49
    BUILDING = 50
    FENCE = 51
    OTHER_STRUCTURE = 52
    LANE_MARKING = 60
    VEGETATION = 70
    TRUNK = 71
    TERRAIN = 72
    POLE = 80
    TRAFFIC_SIGN = 81
    OTHER_OBJECT = 99
    MOVING_CAR = 252
    MOVING_BICYCLIST = 253
    MOVING_PERSON = 254
    MOVING_MOTORCYCLIST = 255
    MOVING_ON_RAILS = 256
    MOVING_BUS = 257
    MOVING_TRUCK = 258
    MOVING_OTHER_VEHICLE = 259


MOVING: dict[Raw, Raw] = {
    Raw.CAR: Raw.MOVING_CAR,
    Raw.BICYCLIST: Raw.MOVING_BICYCLIST,
    Raw.PERSON: Raw.MOVING_PERSON,
    Raw.MOTORCYCLIST: Raw.MOVING_MOTORCYCLIST,
    Raw.ON_RAILS: Raw.MOVING_ON_RAILS,
    Raw.BUS: Raw.MOVING_BUS,
    Raw.TRUCK: Raw.MOVING_TRUCK,
    Raw.OTHER_VEHICLE: Raw.MOVING_OTHER_VEHICLE,
}
"""Raw id of a standing object -> raw id of the same object in motion."""


@dataclass(frozen=True)
class Material:
    """The response of a substance to a laser pulse.

    Attributes:
        albedo: centre of the reflectance, 0..1.
        spread: standard deviation of log(albedo) from object to object.
        free_path: mean free path in metres inside the shape; 0 is solid.
        pass_through: probability that a ray ignores the shape (glass).
        windows: distance of the window columns of a facade in metres; 0 is none.
    """

    albedo: float
    spread: float = 0.12
    free_path: float = 0.0
    pass_through: float = 0.0
    windows: float = 0.0


MATERIALS: dict[str, Material] = {
    # surfaces of the ground
    "asphalt": Material(0.20),
    "marking": Material(0.62),
    "parking": Material(0.29),
    "paving": Material(0.40),
    "gravel": Material(0.52),
    "grass": Material(0.34),
    # static objects
    "facade": Material(0.46, 0.22, windows=3.0),
    "plain_facade": Material(0.50, 0.20),
    "wood_fence": Material(0.30, 0.12, free_path=0.05),
    "mesh_fence": Material(0.26, 0.12, free_path=0.16),
    "wall": Material(0.33, 0.12),
    "rail": Material(0.36, 0.12),
    "leaves": Material(0.36, 0.14, free_path=0.75),
    "hedge": Material(0.34, 0.14, free_path=0.20),
    "bark": Material(0.22, 0.14),
    "steel": Material(0.15, 0.16),
    "sign": Material(0.88, 0.10),
    "shelter": Material(0.35, 0.25, pass_through=0.4),
    "bin": Material(0.25, 0.40),
    # vehicles and people
    "paint": Material(0.11, 0.50),
    "glass": Material(0.05, 0.20, pass_through=0.55),
    "plate": Material(0.95, 0.02),
    "tyre": Material(0.05, 0.10),
    "truck": Material(0.62, 0.22),
    "coach": Material(0.26, 0.25),
    "spokes": Material(0.16, 0.18, free_path=0.09),
    "cycle_frame": Material(0.20, 0.18, free_path=0.16),
    "engine": Material(0.08, 0.20, free_path=0.10),
    "clothes": Material(0.52, 0.28),
    "sportswear": Material(0.66, 0.20),
    "leather": Material(0.18, 0.20),
    "skin": Material(0.50, 0.10),
}

SURFACES: tuple[tuple[str, Raw], ...] = (
    ("asphalt", Raw.ROAD),
    ("marking", Raw.LANE_MARKING),
    ("parking", Raw.PARKING),
    ("paving", Raw.SIDEWALK),
    ("gravel", Raw.OTHER_GROUND),
    ("grass", Raw.TERRAIN),
)
"""The ground's materials and raw ids; a ground tile holds positions in this table."""

SURFACE = {material: index for index, (material, _) in enumerate(SURFACES)}
SURFACE_RAW = np.array([raw for _, raw in SURFACES], dtype=np.int32)
