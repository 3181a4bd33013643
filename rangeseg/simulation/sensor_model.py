"""Turn hits into the device's output: noise, power, lost pulses, quantisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rangeseg.simulation.materials import SURFACE_RAW, SURFACES, Raw
from rangeseg.simulation.raycast import Rays, cast_ground, cast_primitives, empty_hits
from rangeseg.simulation.styles import SequenceStyle
from rangeseg.simulation.world import Scene

MAX_RANGE = 80.0
"""Metres, as in KITTI's own files."""

_RANGE_NOISE = 0.02  # metres
_INCLINATION_NOISE = np.radians(0.012)
_AZIMUTH_NOISE = 0.12  # of a column's width
_LOST = 0.012  # pulses that never return, for any target
_POWER_SCALE = 90.0
_FAR, _FAR_UNLABELLED = 58.0, 0.2
_OUTLIERS = 2e-4


@dataclass(frozen=True)
class Reading:
    """One scan in the form of the files.

    Attributes:
        points: (N,4) float32 x, y, z in metres and remission in [0,1], beam after beam, the
            highest first, azimuth rising from straight ahead.
        labels: (N,) uint32 raw id in the low 16 bits, instance in the high ones.
        beam: (N,) int32.
        column: (N,) int32 firing of the turn, counted like the azimuth.
    """

    points: np.ndarray
    labels: np.ndarray
    beam: np.ndarray
    column: np.ndarray


def beam_inclinations(beams: int) -> np.ndarray:
    """Inclinations in radians, falling: an HDL-64E's, or an even subset.

    The upper 32 beams are 1/3 degree apart from +2, the lower 32 about 1/2 down to -24.8.
    """
    upper = np.linspace(2.0, 2.0 - 31 / 3, 32)
    lower = np.linspace(-8.83, -24.8, 32)
    every = np.concatenate([upper, lower])
    inclinations: np.ndarray = np.radians(every[_chosen(beams)])
    return inclinations


def hdl_32e_inclinations() -> np.ndarray:
    """Inclinations of an HDL-32E's beams in radians, falling: 1.33 degrees apart from +10.67."""
    inclinations: np.ndarray = np.radians(np.linspace(10.67, -30.67, 32))
    return inclinations


def _chosen(beams: int) -> np.ndarray:
    """The subset of the 64 lasers for a device with fewer beams."""
    return np.arange(beams) * 64 // beams


def scan_scene(
    scene: Scene,
    style: SequenceStyle,
    nominal: np.ndarray,
    columns: int,
    rng: np.random.Generator,
) -> Reading:
    """Simulate one turn.

    Args:
        scene: the visible scene.
        style: reflectances and gain of the sequence.
        nominal: (H,) inclinations of the lasers in radians, falling.
        columns: firings per turn.
        rng: generator of all noise.
    """
    beams = len(nominal)
    size = (beams, columns)
    # Kept within its own column, so azimuths rise strictly and the seam stays straight ahead.
    jitter = np.clip(rng.normal(0.0, _AZIMUTH_NOISE, columns), -0.45, 0.45)
    azimuth = (np.arange(columns) + 0.5 + jitter) * (2 * np.pi / columns)
    inclination = nominal[:, None] + rng.normal(0.0, _INCLINATION_NOISE, size)
    rays = Rays(nominal, azimuth, np.tan(inclination))
    hits = empty_hits(beams, columns)
    cast_ground(scene.ground, rays, MAX_RANGE, hits)
    shapes = scene.primitives
    cast_primitives(
        shapes.kind, shapes.shape, shapes.optics, rays, MAX_RANGE, int(rng.integers(1 << 62)), hits
    )
    row, column = np.nonzero(hits.owner != -1)
    depth, owner = hits.depth[row, column], hits.owner[row, column]
    on_ground = owner < 0
    surface = np.where(on_ground, -2 - owner, 0)
    shape = np.where(on_ground, 0, owner)
    ground_albedo = np.array([style.albedo[name] for name, _ in SURFACES])
    albedo = np.where(on_ground, ground_albedo[surface], shapes.optics[shape, 0])
    albedo = albedo * hits.shade[row, column]
    labels = np.where(on_ground, SURFACE_RAW[surface].astype(np.uint32), shapes.label[shape])

    cosine = hits.cosine[row, column]
    power = albedo * cosine * (40.0 / np.maximum(depth, 4.0)) ** 2
    returned = rng.random(len(depth)) > _LOST + (1.0 - _LOST) * np.exp(-_POWER_SCALE * power)
    # The device corrects for distance, and for most of the incidence angle.
    gain = style.gain * style.beam_gain[_chosen(beams)][row]
    remission = gain * albedo * (0.45 + 0.55 * np.sqrt(cosine))
    remission *= 1.0 + rng.normal(0.0, 0.09, len(depth))
    remission = np.round(np.clip(remission + rng.normal(0.0, 0.008, len(depth)), 0.0, 0.99), 2)

    labels[(depth > _FAR) & (rng.random(len(depth)) < _FAR_UNLABELLED)] = Raw.UNLABELLED
    stray = rng.random(len(depth)) < _OUTLIERS
    depth = np.where(stray, depth * rng.uniform(0.3, 0.95, len(depth)), depth)
    labels[stray] = Raw.OUTLIER
    depth = np.minimum(depth + rng.normal(0.0, _RANGE_NOISE, len(depth)), MAX_RANGE)

    angle = inclination[row, column]
    reach = depth * np.cos(angle)
    points = np.stack(
        [
            reach * np.cos(azimuth[column]),
            reach * np.sin(azimuth[column]),
            depth * np.sin(angle),
            remission,
        ],
        axis=1,
    ).astype(np.float32)
    return Reading(
        points[returned],
        labels[returned].astype(np.uint32),
        row[returned].astype(np.int32),
        column[returned].astype(np.int32),
    )
