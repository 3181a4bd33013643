"""The approximated angles never decide: every pixel is that of the formulas in float32."""

from __future__ import annotations

import math
from dataclasses import replace

import numba
import numpy as np
import pytest

from rangeseg.geometry.projection import (
    ANGLE_ERROR,
    LARGEST_SINE,
    approximate_azimuth,
    approximate_inclination,
    from_middle,
    project_points,
)
from rangeseg.geometry.sensor import HDL_64E, Sensor

ONE, HALF = np.float32(1), np.float32(0.5)


@numba.njit
def formulas(points, height, width, fov_down, fov, middle, half_view):
    """Row and column of each point, one after the other, as RangeNet++ writes them."""
    rows, cols = np.empty(len(points), np.int32), np.empty(len(points), np.int32)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        depth = math.sqrt(x * x + y * y + z * z)
        if not (np.float32(0) < depth < np.inf):
            rows[i], cols[i] = -1, -1
            continue
        azimuth = from_middle(math.atan2(y, x), middle)  # full turn: the azimuth itself, and π
        col = math.floor(HALF * (ONE - azimuth / half_view) * np.float32(width))
        inclination = math.asin(min(max(z / depth, -ONE), ONE))
        row = math.floor((ONE - (inclination - fov_down) / fov) * np.float32(height))
        rows[i], cols[i] = min(max(row, 0), height - 1), min(max(col, 0), width - 1)
    return rows, cols


@numba.njit
def azimuths(y, x):
    out = np.empty(len(x), np.float32)
    for i in range(len(x)):
        out[i] = approximate_azimuth(y[i], x[i])
    return out


@numba.njit
def inclinations(sine):
    out = np.empty(len(sine), np.float32)
    for i in range(len(sine)):
        out[i] = approximate_inclination(sine[i])
    return out


def clouds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 200_000
    wide = rng.normal(0, 20, (n, 3))
    angle = rng.integers(0, 4 * 2048, n) / (4 * 2048) * 2 * np.pi  # borders of columns, and between
    slope = np.radians(rng.integers(0, 65, n) / 64 * 28 - 25)  # borders of rows
    borders = np.stack(
        [np.cos(angle) * np.cos(slope), np.sin(angle) * np.cos(slope), np.sin(slope)]
    )
    beside = borders.T * rng.uniform(1, 80, (n, 1)) * (1 + rng.normal(0, 1e-7, (n, 3)))
    axes = rng.choice([0.0, -0.0, 1.0, -1.0, 1e-20, -1e-20, 1e-12, 3e38, np.nan], (n, 3))
    steep = rng.normal(0, 1, (n, 3)) * [0.05, 0.05, 1]
    tiny = rng.normal(0, 1, (n, 3)) * 10.0 ** rng.uniform(-25, 15, (n, 1))
    return {"wide": wide, "borders": beside, "axes": axes, "steep": steep, "tiny": tiny}


@pytest.mark.parametrize("kind", clouds())
@pytest.mark.parametrize(
    "sensor",
    [
        HDL_64E.resized(64, 2048, "inclination"),
        HDL_64E.resized(37, 8191, "inclination"),
        Sensor("all", beams=1, height=4000, width=5, fov_up_deg=90, fov_down_deg=-90),
        replace(HDL_64E, width=512, azimuth_left_deg=45, azimuth_right_deg=-45),
        replace(HDL_64E, azimuth_left_deg=250, azimuth_right_deg=110),
    ],
)
def test_every_pixel_is_that_of_the_formulas(kind: str, sensor: Sensor) -> None:
    points = np.zeros((200_000, 4), dtype=np.float32)
    with np.errstate(over="ignore"):
        points[:, :3] = clouds()[kind]
    up, down = math.radians(sensor.fov_up_deg), math.radians(sensor.fov_down_deg)
    left, right = math.radians(sensor.azimuth_left_deg), math.radians(sensor.azimuth_right_deg)
    with np.errstate(all="ignore"):
        rows, cols = formulas(
            points, sensor.height, sensor.width, np.float32(down), np.float32(up - down),
            np.float32((left + right) / 2), np.float32((left - right) / 2),
        )  # fmt: skip
    projection = project_points(points, sensor)
    np.testing.assert_array_equal(projection.col, cols)
    np.testing.assert_array_equal(projection.row, rows)


def test_the_approximation_of_the_inclination_keeps_its_bound() -> None:
    sine = np.linspace(-LARGEST_SINE, LARGEST_SINE, 2_000_001).astype(np.float32)
    error = np.abs(inclinations(sine) - np.arcsin(sine.astype(np.float64))).max()
    assert error < ANGLE_ERROR / 5


def test_the_approximation_of_the_azimuth_keeps_its_bound() -> None:
    rng = np.random.default_rng(1)
    angle = np.concatenate(
        [np.linspace(-np.pi, np.pi, 2_000_001), rng.uniform(-np.pi, np.pi, 10**6)]
    )
    size = 10.0 ** rng.uniform(-15, 15, len(angle))
    x, y = (size * np.cos(angle)).astype(np.float32), (size * np.sin(angle)).astype(np.float32)
    exact = np.arctan2(y.astype(np.float64), x.astype(np.float64))
    error = np.abs(azimuths(y, x) - exact).max()
    assert error < ANGLE_ERROR / 5  # the rest is for the formulas' own rounding
