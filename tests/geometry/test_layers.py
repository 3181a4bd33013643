"""Images of layers: the k nearest points of each pixel, there and back, against naive NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.channels import CHANNELS, make_range_image, to_image
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_64E, Sensor
from rangeseg.geometry.views import View
from tests.benchmarks.round_trip import left_out, read_scans, round_trip
from tests.geometry.test_projection import cloud
from tests.geometry.test_range_image import FRONT, SMALL, STATISTICS

ONE_PIXEL = Sensor("one", beams=1, height=1, width=1, fov_up_deg=90, fov_down_deg=-90)


def with_ties(seed: int, size: int = 3000) -> np.ndarray:
    points = cloud(np.random.default_rng(seed), size)
    points[size // 2 :, :3] = points[: size - size // 2, :3]  # each place twice
    return points


@pytest.mark.parametrize("layers", [2, 6, 16])
@pytest.mark.parametrize("sensor", [SMALL, FRONT, ONE_PIXEL], ids=lambda sensor: sensor.name)
def test_layers_are_the_nearest_points_in_their_order(sensor: Sensor, layers: int) -> None:
    points = with_ties(layers)
    projection, single = (project_points(points, sensor, layers=k) for k in (layers, 1))
    expected = np.full((layers, sensor.height, sensor.width), -1)
    filled = np.zeros(expected.shape[1:], dtype=int)
    for i in np.argsort(single.depth, kind="stable"):  # the lower index first
        place = single.row[i], single.col[i]
        if place[0] >= 0 and filled[place] < layers:
            expected[(filled[place], *place)] = i
            filled[place] += 1
    assert projection.point_index.dtype == np.int32
    np.testing.assert_array_equal(projection.point_index, expected)
    np.testing.assert_array_equal(projection.row, single.row)
    np.testing.assert_array_equal(projection.col, single.col)
    np.testing.assert_array_equal(projection.front.point_index, single.point_index)
    assert single.front is single


@pytest.mark.parametrize("sensor", [SMALL, FRONT], ids=lambda sensor: sensor.name)
def test_each_layer_is_an_image_of_its_own(sensor: Sensor) -> None:
    points = with_ties(0, 1500)
    projection = project_points(points, sensor, layers=3)
    image = make_range_image(points, projection, CHANNELS, STATISTICS)
    labels = to_image(np.arange(len(points)), projection.point_index, -1)
    assert image.shape == (len(CHANNELS), 3, sensor.height, sensor.width)
    assert projection.valid[2].any()
    for layer, index in enumerate(projection.point_index):
        alone = make_range_image(
            points, replace(projection, point_index=index), CHANNELS, STATISTICS
        )
        np.testing.assert_array_equal(image[:, layer], alone)
        np.testing.assert_array_equal(labels[layer], index)


def test_a_view_turns_every_layer() -> None:
    projection = project_points(with_ties(0), SMALL, layers=3)
    turned = View(columns=7, mirrored=True).projection(projection).point_index
    for layer, index in zip(turned, projection.point_index, strict=True):
        alone = View(columns=7, mirrored=True).projection(replace(projection, point_index=index))
        np.testing.assert_array_equal(layer, alone.point_index)


BACK: dict[str, Callable[[np.ndarray, Projection, np.ndarray], np.ndarray]] = {
    "own_pixel": lambda image, projection, _: own_pixel(image, projection),
    "nearest_label": lambda image, projection, _: nearest_label(image, projection, 3),
    "nearest_point": lambda image, projection, points: nearest_point(image, projection, points, 3),
}


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("way", BACK)
@pytest.mark.parametrize("sensor", [SMALL, FRONT], ids=lambda sensor: sensor.name)
def test_kept_points_read_their_own_label_and_the_rest_the_nearest(
    sensor: Sensor, way: str, kind: type
) -> None:
    points = cloud(np.random.default_rng(1), 4000)
    projection = project_points(points, sensor, layers=3)
    index = projection.point_index
    image = np.random.default_rng(2).permutation(index.size).reshape(index.shape) % 251
    image = image.astype(kind)
    found = BACK[way](image, projection, points)
    assert found.dtype == kind
    kept = np.zeros(len(points), dtype=bool)
    kept[index[index >= 0]] = True
    np.testing.assert_array_equal(found[index[index >= 0]], image[index >= 0])
    hidden = np.flatnonzero(~kept & (projection.row >= 0))
    assert len(hidden) > 300
    for i in hidden:
        row, col = projection.row[i], projection.col[i]
        if way == "own_pixel":
            assert found[i] == image[2, row, col]  # the last layer is the nearest in depth
            continue
        around = [
            (layer, r, c % sensor.width)
            for r, c in ((row + dr, col + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1))
            if 0 <= r < sensor.height and (sensor.full_turn or 0 <= c < sensor.width)
            for layer in range(3)
            if index[layer, r, c % sensor.width] >= 0
        ]
        others = np.array([index[place] for place in around])
        if way == "nearest_label":
            distance = np.abs(projection.depth[others] - projection.depth[i])
        else:
            distance = np.linalg.norm(points[others, :3] - points[i, :3], axis=1)
        nearest = [image[p] for p, d in zip(around, distance, strict=True) if d <= distance.min()]
        assert found[i] in nearest
    unprojected = found[projection.row < 0]
    expected = 0 if kind is np.float32 else np.bincount(image[index >= 0]).argmax()
    assert (unprojected == expected).all()


@pytest.mark.slow
@pytest.mark.real_data
def test_perfect_labels_of_real_scans_come_back(real_data: Path) -> None:
    scans = list(read_scans(real_data / "semantickitti_mini"))
    sensor = HDL_64E.resized(64, 512, "scan_order")
    one, five = (round_trip(scans, sensor, layers) for layers in (1, 5))
    assert one["nearest_point"].pooled < 97.0
    assert five["nearest_point"].pooled >= 99.8
    assert left_out(scans, sensor, 5) <= 2.0
