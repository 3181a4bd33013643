"""The kernels against a ray at a time in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from rangeseg.simulation.raycast import (
    Ground,
    Hits,
    Rays,
    cast_ground,
    cast_primitives,
    empty_hits,
)
from rangeseg.simulation.shapes import BOX, CYLINDER, ELLIPSOID

MAX_RANGE = 60.0
SIZE = (20, 72)


def make_rays(rng: np.random.Generator) -> Rays:
    nominal = np.radians(np.linspace(10.0, -35.0, SIZE[0]))
    step = 2 * np.pi / SIZE[1]
    azimuth = (np.arange(SIZE[1]) + 0.5 + rng.uniform(-0.4, 0.4, SIZE[1])) * step
    return Rays(nominal, azimuth, np.tan(nominal[:, None] + rng.normal(0.0, 5e-4, SIZE)))


def directions(rays: Rays) -> np.ndarray:
    """Unit vectors (H,W,3)."""
    x = np.broadcast_to(np.cos(rays.azimuth), SIZE)
    y = np.broadcast_to(np.sin(rays.azimuth), SIZE)
    vectors = np.stack([x, y, rays.tangent], axis=-1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def turned(vectors: np.ndarray, yaw: float) -> np.ndarray:
    """Vectors (...,3) in axes that are turned by yaw."""
    c, s = np.cos(yaw), np.sin(yaw)
    return vectors @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def naive_depth(kind: int, shape: np.ndarray, direction: np.ndarray) -> tuple[float, float]:
    """Distance to a solid shape and cosine to its normal along one ray from 0; inf if missed."""
    d, centre = turned(direction, shape[6]), turned(shape[:3], shape[6])
    half = shape[3:6]
    with np.errstate(divide="ignore", invalid="ignore"):
        slabs = np.stack([(centre - half) / d, (centre + half) / d])
    near, far = slabs.min(0), slabs.max(0)
    if kind == BOX:
        enter, leave = near.max(), far.min()
        normal = np.eye(3)[near.argmax()]
    elif kind == CYLINDER:
        a, b = d[:2] @ d[:2], d[:2] @ centre[:2]
        root = b * b - a * (centre[:2] @ centre[:2] - half[0] ** 2)
        if root < 0.0:
            return np.inf, 0.0
        side = (b - np.sqrt(root)) / a
        enter, leave = max(side, near[2]), min((b + np.sqrt(root)) / a, far[2])
        out = np.append(side * d[:2] - centre[:2], 0.0) / half[0]
        normal = out if side >= near[2] else np.array([0.0, 0.0, 1.0])
    else:
        u, v = d / half, centre / half
        root = (u @ v) ** 2 - (u @ u) * (v @ v - 1.0)
        if root < 0.0:
            return np.inf, 0.0
        enter, leave = (u @ v - np.sqrt(root)) / (u @ u), np.inf
        normal = (enter * d - centre) / half**2
        normal /= np.linalg.norm(normal)
    if enter > leave or enter <= 0.0:
        return np.inf, 0.0
    return float(enter), float(abs(normal @ d))


def random_shapes(kind: int, number: int, rng: np.random.Generator) -> np.ndarray:
    distance, bearing = rng.uniform(4.0, 50.0, number), rng.uniform(0.0, 2 * np.pi, number)
    bearing[:3] = [0.0, 0.01, -0.01]  # across the seam
    shape = np.stack(
        [
            distance * np.cos(bearing), distance * np.sin(bearing), rng.uniform(-3.0, 2.0, number),
            *rng.uniform(0.2, 2.8, (3, number)), rng.uniform(-np.pi, np.pi, number),
        ],
        axis=1,
    )  # fmt: skip
    if kind == CYLINDER:
        shape[:, 4] = shape[:, 3]
    return shape


def cast(kinds: np.ndarray, shape: np.ndarray, optics: np.ndarray, rays: Rays) -> Hits:
    hits = empty_hits(*SIZE)
    cast_primitives(kinds, shape, optics, rays, MAX_RANGE, 7, hits)
    return hits


@pytest.mark.parametrize("kind", [BOX, CYLINDER, ELLIPSOID])
def test_agrees_with_a_naive_ray_caster(kind: int) -> None:
    rng = np.random.default_rng(kind)
    rays, shape = make_rays(rng), random_shapes(kind, 14, rng)
    hits = cast(np.full(14, kind, np.int8), shape, np.tile([0.5, 0.0, 0.0, 0.0], (14, 1)), rays)
    expected = np.full(SIZE, np.inf)
    cosine, owner = np.zeros(SIZE), np.full(SIZE, -1)
    ways = directions(rays)
    for place in np.ndindex(SIZE):
        for n in range(len(shape)):
            depth, angle = naive_depth(kind, shape[n], ways[place])
            if depth < min(expected[place], MAX_RANGE):
                expected[place], cosine[place], owner[place] = depth, angle, n
    assert (owner >= 0).sum() > 60
    np.testing.assert_array_equal(hits.owner, owner)
    np.testing.assert_allclose(hits.depth, expected, rtol=1e-9)
    np.testing.assert_allclose(hits.cosine, cosine, rtol=1e-7, atol=1e-9)


def test_the_nearest_of_different_shapes_wins() -> None:
    rays = make_rays(np.random.default_rng(0))
    kinds = np.array([BOX, ELLIPSOID, CYLINDER], np.int8)
    shape = np.array(
        [
            [20.0, 0.0, 0.0, 1.0, 9.0, 9.0, 0.0],
            [15.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0],
            [10.0, 0.0, 0.0, 0.3, 0.3, 5.0, 0.0],
        ]
    )
    optics = np.tile([0.5, 0.0, 0.0, 0.0], (3, 1))
    order = np.array([2, 0, 1])
    one = cast(kinds, shape, optics, rays)
    other = cast(kinds[order], shape[order], optics, rays)
    assert set(np.unique(one.owner)) == {-1, 0, 1, 2}
    np.testing.assert_array_equal(one.depth, other.depth)


def test_a_porous_medium_lets_through_what_its_free_path_says() -> None:
    rays = make_rays(np.random.default_rng(0))
    # A ring of four walls 2 m thick, seen from its centre: every ray crosses at least 2 m.
    shape = np.array([[0.0, 20.0, 0.0, 40.0, 1.0, 40.0, 0.0]])
    solid = cast(np.array([BOX], np.int8), shape, np.array([[0.5, 0.0, 0.0, 0.0]]), rays)
    path = 1.5
    porous = cast(np.array([BOX], np.int8), shape, np.array([[0.5, path, 0.0, 0.0]]), rays)
    met = solid.owner == 0
    across = (21.0 / 19.0 - 1.0) * solid.depth[met]
    through = (porous.owner[met] == -1).mean()
    # Rays whose far end is out of range are cut off there; compare the near ones only.
    near = solid.depth[met] * 21.0 / 19.0 < MAX_RANGE
    expected = np.exp(-across[near] / path).mean()
    assert (porous.owner[met][near] == -1).mean() == pytest.approx(expected, abs=0.06)
    assert 0.0 < through < 1.0
    hit = met & (porous.owner == 0)
    assert (porous.depth[hit] > solid.depth[hit]).all()


def test_panes_let_pulses_through_and_swallow_some() -> None:
    rays = make_rays(np.random.default_rng(0))
    shape = np.array([[0.0, 20.0, 0.0, 40.0, 1.0, 40.0, 0.0]])
    solid = cast(np.array([BOX], np.int8), shape, np.array([[0.5, 0.0, 0.0, 0.0]]), rays)
    pane = cast(np.array([BOX], np.int8), shape, np.array([[0.5, 0.0, 0.6, 0.0]]), rays)
    met = solid.owner == 0
    assert (pane.owner[met] == -1).mean() == pytest.approx(0.6, abs=0.05)
    assert (pane.shade[met] == 0.0).mean() == pytest.approx(0.4 * 0.6, abs=0.05)


def plane(sensor_height: float, slope_x: float, ahead: float) -> Ground:
    """A plane z = slope_x * x under a sensor at the origin."""
    along = np.arange(-100.0, 100.4, 0.4)
    across = np.arange(-60.0, 60.1, 0.15)
    height = np.broadcast_to((slope_x * along)[:, None], (len(along), len(across)))
    surface = np.broadcast_to((across > 0.0).astype(np.uint8), height.shape)
    line = np.stack([np.zeros(len(along)), np.ones(len(along))], axis=1)
    return Ground(
        height.astype(np.float32), surface.copy(), line,
        np.array([along[0], 0.4, across[0], 0.15]),
        np.array([0.0, 0.0, sensor_height, 1.0, 0.0, ahead, 0.0]),
    )  # fmt: skip


@pytest.mark.parametrize("slope", [0.0, 0.04])
def test_a_plane_lies_where_it_should(slope: float) -> None:
    rays = make_rays(np.random.default_rng(0))
    hits = empty_hits(*SIZE)
    cast_ground(plane(1.7, slope, 0.0), rays, MAX_RANGE, hits)
    way = directions(rays)
    fall = slope * way[..., 0] - way[..., 2]  # how fast a ray nears the plane
    with np.errstate(divide="ignore"):
        expected = np.where(fall > 0.0, 1.7 / fall, np.inf)
    # A little inside the range and the grid, whose rim goes on level.
    inside = expected < 0.95 * MAX_RANGE
    assert inside.any()
    np.testing.assert_allclose(hits.depth[inside], expected[inside], rtol=2e-3)
    assert (hits.owner[expected > 1.05 * MAX_RANGE] == -1).all()
    normal = np.array([-slope, 0.0, 1.0]) / np.hypot(slope, 1.0)
    expected_cosine = np.abs(way @ normal)
    np.testing.assert_allclose(hits.cosine[inside], expected_cosine[inside], atol=0.03)


def test_a_sensor_whose_plane_follows_the_slope_sees_level_ground() -> None:
    rays = make_rays(np.random.default_rng(0))
    level, sloping = empty_hits(*SIZE), empty_hits(*SIZE)
    cast_ground(plane(1.7, 0.0, 0.0), rays, MAX_RANGE, level)
    cast_ground(plane(1.7, 0.05, 0.05), rays, MAX_RANGE, sloping)
    met = level.owner != -1
    np.testing.assert_allclose(sloping.depth[met], level.depth[met], rtol=1e-3)


def test_left_and_right_of_the_ground_are_not_swapped() -> None:
    rays = make_rays(np.random.default_rng(0))
    hits = empty_hits(*SIZE)
    cast_ground(plane(1.7, 0.0, 0.0), rays, MAX_RANGE, hits)
    left = np.sin(rays.azimuth) > 0.05
    met = hits.owner != -1
    assert (hits.owner[:, left][met[:, left]] == -3).all()
    assert (hits.owner[:, np.sin(rays.azimuth) < -0.05] >= -2).all()


def test_ground_hides_behind_a_shape_and_a_shape_behind_the_ground() -> None:
    rays = make_rays(np.random.default_rng(0))
    hits = empty_hits(*SIZE)
    cast_ground(plane(1.7, 0.0, 0.0), rays, MAX_RANGE, hits)
    shape = np.array(
        [[10.0, 0.0, -1.0, 0.5, 3.0, 0.7, 0.0], [-10.0, 0.0, -5.0, 3.0, 3.0, 2.0, 0.0]]
    )
    optics = np.tile([0.5, 0.0, 0.0, 0.0], (2, 1))
    cast_primitives(np.array([BOX, BOX], np.int8), shape, optics, rays, MAX_RANGE, 0, hits)
    assert (hits.owner == 0).any()
    assert not (hits.owner == 1).any()  # buried
