"""The style of a simulated sequence: its mix of places, sensor and reflectances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rangeseg.simulation.materials import MATERIALS

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": ("11", "12"),
}
"""SemanticKITTI's training and validation sequences, and two labelled test sequences."""

MIXES: dict[str, dict[str, float]] = {
    "00": {"urban": 0.7, "residential": 0.3},
    "01": {"highway": 0.8, "country": 0.2},
    "02": {"residential": 0.6, "country": 0.4},
    "03": {"country": 0.6, "residential": 0.4},
    "04": {"industrial": 0.6, "highway": 0.4},
    "05": {"urban": 0.4, "industrial": 0.6},
    "06": {"residential": 0.7, "urban": 0.3},
    "07": {"urban": 0.6, "country": 0.4},
    "09": {"highway": 0.4, "residential": 0.6},
    "10": {"country": 0.5, "industrial": 0.5},
    # Mixes that no training sequence has, of places known to all of them.
    "08": {"urban": 0.3, "residential": 0.25, "highway": 0.15, "country": 0.1, "industrial": 0.2},
    "11": {"residential": 0.35, "urban": 0.25, "industrial": 0.25, "highway": 0.15},
    "12": {"country": 0.3, "urban": 0.3, "residential": 0.2, "industrial": 0.2},
}
"""Shares of the five archetypes along each sequence."""


@dataclass(frozen=True)
class SequenceStyle:
    """The constants of one sequence.

    Attributes:
        mix: archetype -> share of the road.
        albedo: material -> mean reflectance here.
        gain: factor of all intensities (the device's calibration).
        scale: factor of the size of all objects.
        sensor_height: metres above the road.
        pitch: the mounting's slope, metres down per metre ahead.
        roll: the mounting's slope, metres down per metre to the left.
        step: metres driven between scans.
        beam_gain: (64,) factor of each laser's intensities.
        lane_width: metres.
        traffic: factor of the number of vehicles and people.
        greenery: factor of the number of plants.
        foliage: factor of the free path inside plants.
        crowns: shares of round, conical and columnar trees.
        bends: (3,3) amplitude of the heading, wavelength in metres and phase of the centre line.
        hills: (2,3) amplitude of the slope, wavelength in metres and phase of the road's height.
    """

    mix: Mapping[str, float]
    albedo: Mapping[str, float]
    gain: float
    scale: float
    sensor_height: float
    pitch: float
    roll: float
    step: float
    beam_gain: np.ndarray
    lane_width: float
    traffic: float
    greenery: float
    foliage: float
    crowns: np.ndarray
    bends: np.ndarray
    hills: np.ndarray


def stream(seed: int, sequence: str, purpose: int, number: int = 0) -> np.random.Generator:
    """Make an independent generator for a purpose and number (segment, frame) of a sequence."""
    return np.random.default_rng([seed, int(sequence), purpose, number])


def draw_style(seed: int, sequence: str, spacing: float | None = None) -> SequenceStyle:
    """Draw the style of a sequence, as a function of the arguments alone.

    Args:
        seed: seed of the data set.
        sequence: name of the sequence.
        spacing: metres driven between scans; None draws 9 to 14.
    """
    rng = stream(seed, sequence, purpose=1)
    albedo = {
        name: float(min(0.97, material.albedo * np.exp(rng.normal(0.0, 0.10))))
        for name, material in MATERIALS.items()
    }
    # Heading amplitudes keep |slope of the line| below 0.55 and bends wider than about 60 m.
    bends = np.stack(
        [
            rng.uniform([0.05, 0.05, 0.02], [0.25, 0.18, 0.08]),
            rng.uniform([300.0, 150.0, 90.0], [600.0, 280.0, 140.0]),
            rng.uniform(0.0, 2 * np.pi, 3),
        ],
        axis=1,
    )
    hills = np.stack(
        [
            rng.uniform([0.0, 0.0], [0.035, 0.015]),
            rng.uniform([300.0, 120.0], [700.0, 220.0]),
            rng.uniform(0.0, 2 * np.pi, 2),
        ],
        axis=1,
    )
    style = SequenceStyle(
        mix=MIXES[sequence],
        albedo=albedo,
        gain=float(np.exp(rng.normal(0.0, 0.10))),
        scale=float(rng.uniform(0.92, 1.08)),
        sensor_height=float(rng.uniform(1.60, 1.90)),
        pitch=float(rng.normal(0.0, 0.006)),
        roll=float(rng.normal(0.0, 0.004)),
        step=float(rng.uniform(9.0, 14.0)),
        beam_gain=np.exp(rng.normal(0.0, 0.06, 64)),
        lane_width=float(rng.uniform(2.9, 3.7)),
        traffic=float(rng.uniform(0.75, 1.35)),
        greenery=float(rng.uniform(0.7, 1.4)),
        foliage=float(np.exp(rng.normal(0.0, 0.25))),
        crowns=rng.dirichlet([2.0, 1.0, 0.7]),
        bends=bends,
        hills=hills,
    )
    return style if spacing is None else replace(style, step=spacing)
