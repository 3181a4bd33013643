"""What each pixel shows: against a naive NumPy image."""

from dataclasses import replace

import numpy as np
import pytest

from rangeseg.errors import ConfigError
from rangeseg.geometry.channels import CHANNELS, STEP_CLIP_M, make_range_image, to_image
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_64E, Sensor
from tests.geometry.test_projection import cloud

STATISTICS = {
    "range": (12.12, 12.32),
    "x": (10.88, 11.47),
    "y": (0.23, 7.03),
    "z": (-1.04, 0.86),
    "intensity": (0.21, 0.16),
    "range_step": (0.01, 0.3),
    "height_step": (-0.02, 0.25),
}
SMALL = Sensor("small", beams=16, height=16, width=40, fov_up_deg=20, fov_down_deg=-20)
FRONT = replace(SMALL, name="front", azimuth_left_deg=60, azimuth_right_deg=-120)


def naive_image(points: np.ndarray, projection: Projection) -> dict[str, np.ndarray]:
    """The channels before normalisation, 0 where there is nothing."""
    index, valid = projection.point_index, projection.point_index >= 0
    height, width = index.shape
    raw = {"range": np.where(valid, projection.depth[index], 0), "valid": valid.astype(np.float32)}
    for column, name in enumerate(("x", "y", "z", "intensity")):
        raw[name] = np.where(valid, points[index, column], 0)
    raw["range_step"] = np.zeros((height, width), dtype=np.float32)
    raw["height_step"] = np.zeros((height, width), dtype=np.float32)
    for row in range(height):
        for col in range(width):
            left = (col - 1) % width
            if valid[row, col] and valid[row, left] and (col or projection.full_turn):
                step = raw["range"][row, col] - raw["range"][row, left]
                raw["range_step"][row, col] = np.clip(step, -STEP_CLIP_M, STEP_CLIP_M)
            if valid[row, col] and row + 1 < height and valid[row + 1, col]:
                step = raw["z"][row, col] - raw["z"][row + 1, col]
                raw["height_step"][row, col] = np.clip(step, -STEP_CLIP_M, STEP_CLIP_M)
    return raw


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sensor", [SMALL, FRONT], ids=lambda sensor: sensor.name)
@pytest.mark.parametrize(
    "channels", [CHANNELS, CHANNELS[:5], ("height_step", "range"), CHANNELS[::-1]]
)
def test_agrees_with_a_naive_image_to_the_last_unit(
    channels: tuple[str, ...], sensor: Sensor, seed: int
) -> None:
    points = cloud(np.random.default_rng(seed), 900)
    projection = project_points(points, sensor)
    raw = naive_image(points, projection)
    valid = projection.valid
    image = make_range_image(points, projection, channels, STATISTICS)
    assert image.dtype == np.float32
    assert image.shape == (len(channels), 16, 40)
    assert 0.2 < valid.mean() < 0.95
    for name, channel in zip(channels, image, strict=True):
        mean, std = np.float32(STATISTICS.get(name, (0.0, 1.0)))
        wanted = np.where(valid, (raw[name].astype(np.float32) - mean) / std, 0)
        np.testing.assert_array_max_ulp(channel, wanted.astype(np.float32), maxulp=1)


def test_steps_are_centimetres_around_the_seam_and_clipped() -> None:
    tiny = Sensor("tiny", beams=2, height=2, width=3, fov_up_deg=45, fov_down_deg=-45)
    beams = np.array([0, 0, 0, 1, 1], dtype=np.int32)
    columns = np.radians([120, 0, -120, 120, 0])
    reach = np.array([5.0, 5.25, 9.0, 5.0, 5.0])
    points = np.stack([reach * np.cos(columns), reach * np.sin(columns), 0 * reach, 0 * reach], 1)
    points[:, 2] = [0.1, 0.0, 0.0, 0.0, 2.0]
    points = points.astype(np.float32)
    projection = project_points(points, tiny, beams)
    steps = make_range_image(points, projection, ("range_step", "height_step"), {})
    depth = projection.depth
    np.testing.assert_allclose(
        steps[0], [[-1.0, depth[1] - depth[0], 1.0], [0.0, depth[4] - depth[3], 0.0]], atol=1e-6
    )
    np.testing.assert_allclose(steps[1], [[0.1, -1.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-6)


def test_an_unknown_channel_names_the_nearest_and_all() -> None:
    points = np.zeros((0, 4), dtype=np.float32)
    projection = project_points(points, SMALL)
    with pytest.raises(ConfigError, match=r"unknown channel 'rang'.*mean 'range'.*height_step"):
        make_range_image(points, projection, ("x", "rang"), {})


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_a_standard_deviation_must_be_positive(std: float) -> None:
    points = np.zeros((0, 4), dtype=np.float32)
    projection = project_points(points, SMALL)
    with pytest.raises(ConfigError, match=r"statistics of channel 'x'.*must be positive, found"):
        make_range_image(points, projection, ("range", "x"), {"x": (0.0, std)})


def test_points_of_another_scan_are_refused() -> None:
    projection = project_points(np.ones((3, 4), dtype=np.float32), SMALL)
    with pytest.raises(ValueError, match="2 points, but the projection of 3"):
        make_range_image(np.ones((2, 4), dtype=np.float32), projection, ("x",), {})


def test_a_scan_without_points_and_an_image_without_channels() -> None:
    points = np.zeros((0, 4), dtype=np.float32)
    projection = project_points(points, HDL_64E)
    assert not make_range_image(points, projection, CHANNELS, STATISTICS).any()
    assert make_range_image(points, projection, (), {}).shape == (0, 64, 2048)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.bool_])
def test_to_image_is_values_at_the_index(dtype: type) -> None:
    values = np.arange(1, 5).astype(dtype)
    index = np.array([[0, -1, 3], [2, 2, -1]], dtype=np.int32)
    image = to_image(values, index, 0)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, np.where(index >= 0, values[index], dtype(0)))
