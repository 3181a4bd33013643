"""Surface normals of a range image: against FIDNet's formulas, written out in NumPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import ConfigError
from rangeseg.geometry.channels import CHANNELS, make_range_image
from rangeseg.geometry.normals import NORMALS, surface_normals
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_64E, Sensor
from rangeseg.geometry.views import make_views
from tests.geometry.test_projection import cloud

SMALL = Sensor("small", beams=16, height=16, width=40, fov_up_deg=20, fov_down_deg=-20)
FRONT = replace(SMALL, name="front", azimuth_left_deg=60, azimuth_right_deg=-120)
GAUSS = np.array([0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125])
PREWITT = np.array([[-1, 0, 1]] * 3)


def nearest_ranges(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range of the nearest filled pixel and its L1 distance, ties as OpenCV breaks them."""
    height, width = ranges.shape
    best = {divmod(i, width): (0, r) for i, r in enumerate(ranges.flat) if r > 0}
    # What a pixel sees on the way down; on the way back the same, turned by half a turn.
    seen = [(-2, -1), (-2, 1), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (0, -1)]
    pixels = [(row, col) for row in range(height) for col in range(width)]
    for sign in (1, -1):
        for row, col in pixels[::sign]:
            for down, right in seen:
                near = best.get((row + sign * down, col + sign * right))
                length = abs(down) + abs(right)
                if near and near[0] + length < best.get((row, col), (np.inf, 0))[0]:
                    best[row, col] = near[0] + length, near[1]
    found = np.array([best[pixel] for pixel in pixels]).reshape(height, width, 2)
    return found[..., 1], found[..., 0]


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Mirrored at the border, which is not repeated."""
    rows, cols = kernel.shape
    padded = np.pad(image, [(rows // 2,) * 2, (cols // 2,) * 2], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.einsum("hwij,ij->hw", windows, kernel)


def naive_normals(ranges: np.ndarray, sensor: Sensor) -> np.ndarray:
    """(3,H,W) along the axes of FIDNet's camera, in empty pixels too; those are not positive."""
    height, width = ranges.shape
    nearest, _ = nearest_ranges(ranges)
    r = np.where(ranges > 0, ranges, correlate(nearest, np.outer(GAUSS, GAUSS)))
    up, down = np.radians([sensor.fov_up_deg, sensor.fov_down_deg])
    view, left = np.radians([sensor.view_deg, sensor.azimuth_left_deg])
    phi = (1 - (np.arange(height) + 0.5) / height) * (up - down) + down
    theta = view * (np.arange(width) + 0.5) / width - left
    phi, theta = (angle.ravel() for angle in np.meshgrid(phi, theta, indexing="ij"))
    by_theta = (correlate(r, PREWITT) / 6 / (view / width)).ravel()
    by_phi = (correlate(r, PREWITT.T) / 6 / ((up - down) / height)).ravel()
    local = np.stack([0 * phi + 1, by_theta / (r.ravel() * np.cos(phi)), by_phi / r.ravel()])
    zero, one = 0 * phi, 0 * phi + 1
    about_z = [[np.cos(theta), -np.sin(theta), zero], [np.sin(theta), np.cos(theta), zero],
               [zero, zero, one]]  # fmt: skip
    about_y = [[np.cos(phi), zero, -np.sin(phi)], [zero, one, zero],
               [np.sin(phi), zero, np.cos(phi)]]  # fmt: skip
    normal = np.einsum("ijn,jkn,kn->in", np.array(about_z), np.array(about_y), local)
    normal /= np.abs(normal).max(axis=0)
    return np.stack([normal[1], -normal[2], normal[0]]).reshape(3, height, width)


def of_camera(normals: np.ndarray) -> np.ndarray:
    return np.stack([-normals[1], -normals[2], normals[0]])


def ranges_of(projection: Projection) -> np.ndarray:
    index = projection.point_index
    return np.where(index >= 0, projection.depth[index], np.float32(0))


@pytest.mark.parametrize("size", [4, 60, 900])
@pytest.mark.parametrize("sensor", [SMALL, FRONT], ids=lambda sensor: sensor.name)
def test_agrees_with_the_formulas(sensor: Sensor, size: int) -> None:
    points = cloud(np.random.default_rng(size), 1000)[-size:]
    projection = project_points(points, sensor)
    ranges, valid = ranges_of(projection), projection.valid
    assert 0 < valid.sum() < valid.size
    found = surface_normals(ranges, sensor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(of_camera(found), naive_normals(ranges, sensor) * valid, atol=1e-6)

    # Among other channels, normalised: 0 where empty all the same.
    channels, statistics = ("normal_z", "z", "normal_x"), {"normal_z": (0.5, 2.0)}
    image = make_range_image(points, projection, channels, statistics, sensor)
    np.testing.assert_allclose(image[0], (found[2] - 0.5) / 2 * valid, atol=1e-6)
    np.testing.assert_array_equal(image[1], make_range_image(points, projection, ("z",), {})[0])
    np.testing.assert_array_equal(image[2], found[0])


@pytest.mark.real_data
def test_agrees_with_the_formulas_on_a_real_scan(real_data: Path) -> None:
    from scipy.ndimage import distance_transform_cdt

    folder = real_data / "semantickitti_mini" / "sequences" / "08" / "velodyne"
    points = np.fromfile(folder / "000000.bin", dtype=np.float32).reshape(-1, 4)
    sensor = HDL_64E.resized(64, 1024, "inclination")
    projection = project_points(points, sensor)
    ranges, valid = ranges_of(projection), projection.valid
    found = of_camera(surface_normals(ranges, sensor))
    np.testing.assert_allclose(found, naive_normals(ranges, sensor) * valid, atol=1e-6)
    _, distance = nearest_ranges(ranges)
    np.testing.assert_array_equal(distance, distance_transform_cdt(~valid, "taxicab"))


def test_a_sphere_and_a_floor() -> None:
    """Normals look along the ray of a pixel on a sphere, and down on a floor."""
    sensor = Sensor("fine", beams=64, height=256, width=64, fov_up_deg=-10, fov_down_deg=-40)
    inclination = np.radians(-10 - 30 * (np.arange(256) + 0.5) / 256)
    azimuth = np.radians(180 - 360 * (np.arange(64) + 0.5) / 64)
    inclination, azimuth = np.meshgrid(inclination, azimuth, indexing="ij")
    ray = np.stack([
        np.cos(inclination) * np.cos(azimuth), np.cos(inclination) * np.sin(azimuth),
        np.sin(inclination),
    ])  # fmt: skip
    sphere = surface_normals(np.full((256, 64), 7, np.float32), sensor)
    np.testing.assert_allclose(sphere, ray / np.abs(ray).max(axis=0), atol=1e-6)
    floor = surface_normals((-1.7 / ray[2]).astype(np.float32), sensor)[:, 1:-1]
    np.testing.assert_allclose(floor[2], -1, atol=1e-6)
    assert np.abs(floor[:2]).max() < 0.01


def test_nothing_in_an_empty_image() -> None:
    assert not surface_normals(np.zeros((16, 40), np.float32), SMALL).any()


def test_a_turned_view_turns_the_normals() -> None:
    rows, cols = np.divmod(np.arange(640), 40)
    inclination, azimuth = np.radians(20 - 2.5 * (rows + 0.5)), np.radians(180 - 9 * (cols + 0.5))
    flat, up = np.cos(inclination), np.sin(inclination)
    ray = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up, 0 * up], axis=1)
    points = ray * np.random.default_rng(0).uniform(5, 6, (640, 1))
    points = points.astype(np.float32)
    projection = project_points(points, SMALL)
    assert projection.valid.all()
    _, _, half, _ = make_views(4, SMALL)
    plain = make_range_image(points, projection, NORMALS, {}, SMALL)
    shown = half.points(points, SMALL), half.projection(projection)
    turned = make_range_image(*shown, NORMALS, {}, SMALL)
    back = np.roll(turned, 20, axis=-1) * np.array([-1, -1, 1])[:, None, None]
    inside = [*range(1, 19), *range(21, 39)]  # not beside the first or last column of either
    np.testing.assert_allclose(back[..., inside], plain[..., inside], atol=1e-4)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ({"rows": "auto"}, "scan_order, 1 and none"),
        ({"layers": 2}, "inclination, 2 and none"),
        ({"crop_width": 64}, "inclination, 1 and 64"),
    ],
)
def test_crops_layers_and_other_rows_are_refused(setting: dict[str, object], found: str) -> None:
    values = {"height": 64, "width": 128, "rows": "inclination", **setting}
    settings = RangeImageSettings.model_validate({**values, "channels": CHANNELS + NORMALS})
    with pytest.raises(ConfigError) as error:
        RangeImages(SemanticKitti.info, settings)
    assert str(error.value) == (
        "range_image.channels: normals need rows: inclination, layers: 1 and no crop_width; "
        f"found {found}"
    )


def test_a_caller_gives_the_sensor_of_the_image() -> None:
    points = np.ones((3, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="normals need the sensor, and an image of one layer"):
        make_range_image(points, project_points(points, SMALL), NORMALS, {})
    with pytest.raises(ValueError, match=r"normals of an image of \(16, 40\), but the sensor's"):
        make_range_image(points, project_points(points, SMALL), NORMALS, {}, HDL_64E)
