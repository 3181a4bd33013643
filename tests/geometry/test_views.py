"""Views of test-time augmentation: what is projected anew falls where the view says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rangeseg.errors import ConfigError
from rangeseg.geometry.channels import CHANNELS, make_range_image
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import SIMULATED_32, Sensor
from rangeseg.geometry.views import View, make_views

FRONT = replace(SIMULATED_32, azimuth_left_deg=100.0, azimuth_right_deg=-20.0)


def scan_of(sensor: Sensor, points: int = 4000) -> np.ndarray:
    """Random points in the middle of the sensor's pixels, so that no rounding moves them."""
    rng = np.random.default_rng(7)
    row, col = rng.integers(sensor.height, size=points), rng.integers(sensor.width, size=points)
    up, down = np.radians([sensor.fov_up_deg, sensor.fov_down_deg])
    inclination = up - (row + 0.5) / sensor.height * (up - down)
    azimuth = np.radians(sensor.azimuth_left_deg - (col + 0.5) / sensor.width * sensor.view_deg)
    depth = rng.uniform(2, 60, points)
    flat = depth * np.cos(inclination)
    xyz = flat * np.cos(azimuth), flat * np.sin(azimuth), depth * np.sin(inclination)
    return np.stack([*xyz, rng.uniform(0, 1, points)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("sensor", "view"),
    [
        (SIMULATED_32, View()),
        (SIMULATED_32, View(mirrored=True)),
        (SIMULATED_32, View(columns=131)),
        (SIMULATED_32, View(columns=131, mirrored=True)),
        (replace(SIMULATED_32, azimuth_left_deg=270.0, azimuth_right_deg=-90.0), View(5, True)),
        (FRONT, View(mirrored=True)),
    ],
)
def test_a_view_is_what_a_new_projection_sees(sensor: Sensor, view: View) -> None:
    points = scan_of(sensor)
    seen, projection = view.points(points, sensor), project_points(points, sensor)
    expected = project_points(seen, sensor)
    found = view.projection(projection)
    # Rounding decides which of two points at one distance is the nearer.
    assert (found.point_index == expected.point_index).mean() > 0.9999
    statistics = {"range": (12.0, 9.0), "y": (0.5, 8.0)}
    images = [make_range_image(seen, p, CHANNELS, statistics) for p in (found, expected)]
    assert (np.abs(images[0] - images[1]) < 1e-3).mean() > 0.999


def test_the_scan_itself_comes_first_and_turns_are_evenly_spaced() -> None:
    assert make_views(1, SIMULATED_32) == (View(0, False),)
    assert make_views(2, FRONT) == (View(0, False), View(0, True))
    assert make_views(6, SIMULATED_32) == tuple(
        View(columns, mirrored) for columns in (0, 170, 341) for mirrored in (False, True)
    )
    points = scan_of(SIMULATED_32)
    assert View().points(points, SIMULATED_32) is points


@pytest.mark.parametrize(
    ("count", "sensor", "message"),
    [
        (3, FRONT, r"tta=3, but the sensor simulated-32 sees 120 degrees: .* mirrored"),
        (1025, SIMULATED_32, "tta=1025, but the image has 512 columns .* take 1024 at most"),
    ],
)
def test_more_views_than_a_sensor_allows(count: int, sensor: Sensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_views(count, sensor)
