"""Where points fall: against a naive projection in double precision, and the bugs of the field."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rangeseg.errors import DataError
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_32E, HDL_64E, Sensor

BOTH_NEGATIVE = Sensor("down", beams=4, height=4, width=8, fov_up_deg=-5, fov_down_deg=-25)
FRONT = Sensor(
    "front", beams=8, height=8, width=40, fov_up_deg=20, fov_down_deg=-20,
    azimuth_left_deg=45, azimuth_right_deg=-45,
)  # fmt: skip
SENSORS = [
    HDL_64E.resized(64, 2048, "inclination"),
    HDL_32E.resized(32, 480, "inclination"),
    BOTH_NEGATIVE,
    Sensor("one", beams=1, height=1, width=1, fov_up_deg=90, fov_down_deg=-90),
    FRONT,
    replace(FRONT, name="rear", azimuth_left_deg=270, azimuth_right_deg=90),
    replace(FRONT, name="left", azimuth_left_deg=170, azimuth_right_deg=-10, width=45),
    replace(FRONT, name="elsewhere", azimuth_left_deg=270, azimuth_right_deg=-90),
]
BORDER = 2e-3  # pixels: float32 may round to either side of a border that is this near


def cloud(rng: np.random.Generator, size: int = 3000) -> np.ndarray:
    """Points all around, some twice, some no points at all, some exactly on the seam."""
    points = rng.normal(0.0, 10.0, (size, 4)).astype(np.float32)
    points[:, 2] *= 0.3
    points[size // 2 : size // 2 + size // 10] = points[: size // 10]
    points[5::97, :3] = 0.0
    for value in (np.nan, np.inf, -np.inf):
        wrong = rng.choice(size, 30, replace=False)
        points[wrong, rng.integers(0, 3, 30)] = value
    points[11::101, 1] = 0.0
    points[12::101, 1] = -0.0
    return points


def at(azimuth_deg: float, inclination_deg: float, depth: float) -> list[float]:
    a, i = math.radians(azimuth_deg), math.radians(inclination_deg)
    return [
        depth * math.cos(i) * math.cos(a),
        depth * math.cos(i) * math.sin(a),
        depth * math.sin(i),
        0.5,
    ]


def scan(*points: list[float]) -> np.ndarray:
    return np.array(points, dtype=np.float32).reshape(-1, 4)


def naive_pixel(point: np.ndarray, sensor: Sensor) -> tuple[float, float, float] | None:
    """Row and column before rounding down, and the depth; None where there is no place."""
    x, y, z = (float(value) for value in point[:3])
    if not all(map(math.isfinite, (x, y, z))):
        return None
    depth = math.sqrt(x * x + y * y + z * z)
    if depth == 0.0 or depth < sensor.min_range:
        return None
    up, down = math.radians(sensor.fov_up_deg), math.radians(sensor.fov_down_deg)
    row = (1.0 - (math.asin(z / depth) - down) / (up - down)) * sensor.height
    left, right = math.radians(sensor.azimuth_left_deg), math.radians(sensor.azimuth_right_deg)
    azimuth = math.atan2(y, x) - 0.5 * (left + right)  # from the middle of the view
    azimuth += 2 * math.pi * ((azimuth < -math.pi) - (azimuth > math.pi))
    col = (0.5 - azimuth / (left - right)) * sensor.width
    row, col = max(row, 0.0), max(col, 0.0)
    return min(row, sensor.height - 1e-9), min(col, sensor.width - 1e-9), depth


def check_owners(projection: Projection) -> None:
    """The pixel of each point shows the nearest of its points, the first of equally near ones."""
    owners = np.full(projection.point_index.shape, -1)
    for i, (row, col) in enumerate(zip(projection.row, projection.col, strict=True)):
        if row >= 0:
            owner = owners[row, col]
            if owner < 0 or projection.depth[i] < projection.depth[owner]:
                owners[row, col] = i
    np.testing.assert_array_equal(projection.point_index, owners)
    np.testing.assert_array_equal(projection.valid, owners >= 0)


@pytest.mark.parametrize("sensor", SENSORS, ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_naive_projection(sensor: Sensor, seed: int) -> None:
    points = cloud(np.random.default_rng(seed))
    projection = project_points(points, sensor)
    for i, point in enumerate(points):
        place = naive_pixel(point, sensor)
        if place is None:
            assert (projection.row[i], projection.col[i], projection.depth[i]) == (-1, -1, 0.0)
            continue
        row, col, depth = place
        assert projection.depth[i] == pytest.approx(depth, rel=1e-6)
        assert abs(projection.row[i] + 0.5 - row) <= 0.5 + BORDER
        assert abs(projection.col[i] + 0.5 - col) <= 0.5 + BORDER
    check_owners(projection)
    assert projection.row.dtype == projection.col.dtype == projection.point_index.dtype == np.int32
    assert projection.depth.dtype == np.float32


def test_agrees_bit_for_bit_with_single_precision_numpy_away_from_borders() -> None:
    points = cloud(np.random.default_rng(7), 20_000)
    points = points[np.isfinite(points).all(axis=1) & points[:, :3].any(axis=1)]
    projection = project_points(points, SENSORS[0])
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    np.testing.assert_array_equal(projection.depth, np.sqrt(x * x + y * y + z * z))
    col = np.float32(0.5) * (1 - np.arctan2(y, x) / np.float32(np.pi)) * np.float32(2048)
    clear = np.abs(col - np.round(col)) > BORDER
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(projection.col[clear], np.floor(col[clear]))


def test_points_without_a_place_are_nowhere() -> None:
    nan, inf = math.nan, math.inf
    points = scan(
        [0, 0, 0, 0], [nan, 1, 1, 0], [1, nan, 1, 0], [1, 1, nan, 0], [inf, 1, 1, 0],
        [1, -inf, 1, 0], [1, 1, inf, 0], [1e30, 1e30, 0, 0], [5, 1, -1, nan], [nan] * 4,
    )  # fmt: skip
    for beams in (None, np.zeros(len(points), dtype=np.int32)):
        projection = project_points(points, HDL_64E, beams)
        assert (projection.row == -1).all()
        assert (projection.col == -1).all()
        assert (projection.depth == 0.0).all()
        assert not projection.valid.any()


def test_straight_up_and_down_are_within_the_arcsine() -> None:
    # Subnormal squares make the depth shorter than z.
    points = scan([0, 0, 5, 0], [0, 0, -5, 0], [1e-30, 0, 3e-22, 0], [0, 0, 2e-20, 0])
    projection = project_points(points, HDL_64E)
    assert set(projection.row.tolist()) <= {-1, 0, 63}


def test_columns_fall_from_behind_on_the_left_to_behind_on_the_right() -> None:
    eighth = BOTH_NEGATIVE.resized(4, 8)
    points = scan(*(at(azimuth, -10, 5) for azimuth in (179, 91, 1, -1, -91, -179)))
    assert project_points(points, eighth).col.tolist() == [0, 1, 3, 4, 6, 7]
    seam = scan([-5, 0.0, -1, 0], [-5, -0.0, -1, 0])
    assert project_points(seam, eighth).col.tolist() == [0, 7]


def test_outside_the_view_is_in_the_nearer_edge_column() -> None:
    quarter = replace(FRONT, width=9)
    points = scan(*(at(azimuth, 0, 5) for azimuth in (179, 46, 44, 0, -44, -46, -179)))
    assert project_points(points, quarter).col.tolist() == [0, 0, 0, 4, 8, 8, 8]
    rear = replace(quarter, azimuth_left_deg=270, azimuth_right_deg=90)
    points = scan(*(at(azimuth, 0, 5) for azimuth in (-1, -135, 180, -180, 135, 91, 1)))
    assert project_points(points, rear).col.tolist() == [0, 2, 4, 4, 6, 8, 8]


def test_nearer_than_the_minimum_range_is_not_projected() -> None:
    points = scan([0.999, 0, 0, 0], [1.0, 0, 0, 0], [1.001, 0, 0, 0])
    assert (project_points(points, HDL_32E).row >= 0).tolist() == [False, True, True]


def test_rows_from_beams_scale_to_the_image() -> None:
    points = scan(*[at(0, 0, 5)] * 5)
    beams = np.array([0, 1, 2, 33, 63])
    assert project_points(points, HDL_64E, beams).row.tolist() == [0, 1, 2, 33, 63]
    small = project_points(points, HDL_64E.resized(32, 512), beams)
    assert small.row.tolist() == [0, 0, 1, 16, 31]
    large = project_points(points, HDL_64E.resized(128, 512), beams)
    assert large.row.tolist() == [0, 2, 4, 66, 126]
    check_owners(small)


def test_the_given_beams_stay_as_they_are() -> None:
    """Points that are nowhere lose their row, not their beam, which the caller still needs."""
    beams = np.array([3, 4], dtype=np.int32)
    points = np.array([[0, 0, 0, 0], [5, 0, 0, 0]], dtype=np.float32)
    assert project_points(points, HDL_64E, beams).row.tolist() == [-1, 4]
    assert beams.tolist() == [3, 4]


def test_random_beams_agree_with_a_naive_z_buffer() -> None:
    rng = np.random.default_rng(3)
    points = cloud(rng)
    beams = rng.integers(0, 64, len(points)).astype(np.int32)
    projection = project_points(points, HDL_64E.resized(64, 128), beams)
    placed = projection.row >= 0
    np.testing.assert_array_equal(projection.row[placed], beams[placed])
    check_owners(projection)


@pytest.mark.parametrize("wrong", [-1, 64])
def test_a_beam_the_sensor_does_not_have_is_an_error(wrong: int) -> None:
    with pytest.raises(DataError, match=f"HDL-64E has beams 0 to 63, but the scan names .*{wrong}"):
        project_points(scan(at(0, 0, 5), at(0, 0, 5)), HDL_64E, np.array([0, wrong]))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N,4\)"):
        project_points(np.zeros((5, 3), dtype=np.float32), HDL_64E)
    with pytest.raises(ValueError, match="5 points, but beams of 4"):
        project_points(np.ones((5, 4), dtype=np.float32), HDL_64E, np.zeros(4, dtype=np.int32))


def test_layout_and_width_of_the_array_do_not_matter() -> None:
    points = np.random.default_rng(0).normal(0, 9, (50, 5))
    wanted = project_points(points[:, :4].astype(np.float32), HDL_64E)
    found = project_points(np.asfortranarray(points), HDL_64E)
    np.testing.assert_array_equal(found.point_index, wanted.point_index)


def test_a_scan_without_points_is_an_empty_image() -> None:
    projection = project_points(np.zeros((0, 4), dtype=np.float32), HDL_64E)
    assert projection.row.shape == (0,)
    assert not projection.valid.any()
