"""The street: the same from scan to scan, plausible to stand on, of all classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.simulation.archetypes import ARCHETYPES, plan_segment
from rangeseg.simulation.generate import SimulationSettings, rows_are_separable, simulate_scan
from rangeseg.simulation.layout import SEGMENT
from rangeseg.simulation.materials import MATERIALS, MOVING, SURFACES, Raw
from rangeseg.simulation.raycast import _sample
from rangeseg.simulation.sensor_model import Reading, beam_inclinations
from rangeseg.simulation.styles import MIXES, SPLITS, draw_style
from rangeseg.simulation.world import Scene, World

SETTINGS = SimulationSettings(columns=256)
ALL_SEQUENCES = [sequence for sequences in SPLITS.values() for sequence in sequences]


@pytest.fixture(scope="module")
def world() -> World:
    return World(0, "08")


@pytest.fixture(scope="module")
def reading(world: World) -> Reading:
    return simulate_scan(world, 3, SETTINGS)


def test_beams_are_an_hdl_64es() -> None:
    degrees = np.degrees(beam_inclinations(64))
    np.testing.assert_allclose(np.diff(degrees[:32]), -1 / 3)
    np.testing.assert_allclose(np.diff(degrees[32:]), -0.515, atol=0.005)
    np.testing.assert_allclose(degrees[[0, -1]], [2.0, -24.8])
    np.testing.assert_array_equal(np.degrees(beam_inclinations(32)), degrees[::2])


def test_points_lie_on_their_beams(reading: Reading) -> None:
    points = reading.points.astype(np.float64)
    inclination = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    expected = beam_inclinations(SETTINGS.beams)[reading.beam]
    assert np.degrees(np.abs(inclination - expected)).max() < 0.1
    depth = np.linalg.norm(points[:, :3], axis=1)
    assert depth.min() > 1.0
    assert depth.max() <= 80.001
    assert 0.0 <= points[:, 3].min() <= points[:, 3].max() <= 0.99


@pytest.mark.parametrize("beams", [8, 64])
def test_every_beam_has_returns_all_around(world: World, beams: int) -> None:
    reading = simulate_scan(world, 1, SimulationSettings(beams=beams, columns=128))
    assert rows_are_separable(reading, beams)
    azimuth = np.arctan2(reading.points[:, 1], reading.points[:, 0]) % (2 * np.pi)
    assert (np.diff(azimuth) < -np.pi).sum() == beams - 1
    assert (np.diff(reading.beam) >= 0).all()


def test_a_beam_without_returns_on_one_side_is_noticed(reading: Reading) -> None:
    keep = (reading.beam != 5) | (reading.points[:, 1] > 0.0)
    lacking = Reading(*(values[keep] for values in vars(reading).values()))
    assert rows_are_separable(reading, SETTINGS.beams)
    assert not rows_are_separable(lacking, SETTINGS.beams)


def _standing(scene: Scene) -> dict[tuple[float, ...], np.ndarray]:
    """World places of shapes with a static instance, by label and size where these are unique."""
    labels, shape = scene.primitives.label, scene.primitives.shape
    places = scene.ego.to_world(shape[:, :3])
    keys = [(int(label), *sizes) for label, sizes in zip(labels, shape[:, 3:6], strict=True)]
    counts = Counter(keys)
    return {
        key: place
        for key, place in zip(keys, places, strict=True)
        if counts[key] == 1 and 0 < int(key[0]) >> 16 < 60_000
    }


def test_consecutive_scans_share_what_stands_still(world: World) -> None:
    one, two = world.scene(3), world.scene(4)

    first, second = (_standing(scene) for scene in (one, two))
    shared = first.keys() & second.keys()
    assert len(shared) > 0.6 * len(first)
    assert len({key[0] >> 16 for key in shared}) > 5
    for key in shared:
        np.testing.assert_allclose(first[key], second[key], atol=1e-6)
    assert 5.0 < np.hypot(one.ego.x - two.ego.x, one.ego.y - two.ego.y) < 25.0


def test_ground_points_lie_on_the_next_scans_ground(world: World, reading: Reading) -> None:
    here, there = world.scene(3), world.scene(4)
    raw = reading.labels & 0xFFFF
    near = np.linalg.norm(reading.points[:, :3], axis=1) < 25.0
    road = reading.points[(raw == Raw.ROAD) & near, :3].astype(np.float64)
    assert len(road) > 500
    places = here.ego.to_world(road)
    heights, surfaces = zip(*(_sample(there.ground, x, y) for x, y, _ in places), strict=True)
    assert np.percentile(np.abs(places[:, 2] - heights), 95) < 0.08
    assert np.mean([SURFACES[surface][1] == Raw.ROAD for surface in surfaces]) > 0.97


def test_moving_things_keep_their_instances_and_move(world: World) -> None:
    moving = {}
    for frame in (3, 4, 6):  # some leave the scene meanwhile and others enter
        scene = world.scene(frame)
        labels = scene.primitives.label
        under_way = np.isin(labels & 0xFFFF, [int(raw) for raw in MOVING.values()])
        places = scene.ego.to_world(scene.primitives.shape[under_way, :3])
        moving[frame] = {
            int(label): places[labels[under_way] == label].mean(0)
            for label in np.unique(labels[under_way])
        }
    first, second, last = moving.values()
    assert first.keys() != last.keys()
    shared = first.keys() & second.keys() & last.keys()
    assert len(shared) > 2
    for key in shared:
        step = (second[key] - first[key])[0]
        assert abs(step) > 0.3
        assert (last[key] - first[key])[0] == pytest.approx(3 * step, rel=0.05)  # its own speed


def test_the_ground_is_there_and_below_the_sensor(reading: Reading) -> None:
    ground = np.isin(reading.labels & 0xFFFF, [int(raw) for _, raw in SURFACES])
    near = np.hypot(reading.points[:, 0], reading.points[:, 1]) < 8.0
    z = reading.points[ground & near, 2]
    assert len(z) > 1000
    assert np.percentile(z, 1) > -2.4
    assert np.percentile(z, 99) < -1.0
    # The lower beams meet something nearly everywhere.
    lower = reading.beam >= SETTINGS.beams // 2
    assert lower.sum() > 0.95 * SETTINGS.columns * SETTINGS.beams / 2


def test_a_neighbour_segment_of_the_same_run_has_the_same_cross_section() -> None:
    style = draw_style(0, "02")
    one, two = (plan_segment(0, "02", style, number) for number in (4, 5))
    assert one.archetype == two.archetype
    assert one.road_half == two.road_half
    assert [side.bands for side in one.sides] == [side.bands for side in two.sides]


def test_a_scan_does_not_depend_on_what_was_made_before() -> None:
    fresh = simulate_scan(World(0, "05"), 6, SETTINGS)
    world = World(0, "05")
    for frame in (0, 40):
        world.scene(frame)
    after = simulate_scan(world, 6, SETTINGS)
    np.testing.assert_array_equal(fresh.points, after.points)
    np.testing.assert_array_equal(fresh.labels, after.labels)


@pytest.mark.parametrize("sequence", ALL_SEQUENCES)
def test_mixes_are_shares_of_known_archetypes(sequence: str) -> None:
    assert set(MIXES[sequence]) <= set(ARCHETYPES)
    assert sum(MIXES[sequence].values()) == pytest.approx(1.0)
    assert all(MIXES[sequence] != MIXES[other] for other in ALL_SEQUENCES if other != sequence)


@pytest.mark.parametrize("name", sorted(ARCHETYPES))
def test_shares_of_an_archetype_add_up(name: str) -> None:
    assert sum(ARCHETYPES[name].front_material.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("sequence", ALL_SEQUENCES)
@pytest.mark.parametrize("seed", [0, 1])
def test_roads_stay_drivable(seed: int, sequence: str) -> None:
    style = draw_style(seed, sequence)
    world = World(seed, sequence)
    x = np.arange(-100.0, 3000.0, 2.0)
    assert np.abs(world.course.slope(x)).max() < 0.6
    assert np.abs(np.diff(world.course.height(x)) / 2.0).max() < 0.06
    assert set(style.albedo) == set(MATERIALS)
    assert all(0.0 < albedo < 1.0 for albedo in style.albedo.values())


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_every_class_occurs_in_a_modest_set(split: str) -> None:
    label_map = SemanticKitti.info.label_map
    counts = np.zeros(256, dtype=np.int64)
    for sequence in SPLITS[split]:
        world = World(0, sequence)
        for frame in range(0, 3 if split == "train" else 30, 1 if split == "train" else 4):
            reading = simulate_scan(world, frame, SETTINGS)
            labels = label_map.to_train(reading.labels)  # an unknown id raises
            counts += np.bincount(labels, minlength=256)
    absent = [name for name, count in zip(label_map.names, counts, strict=False) if count < 30]
    assert not absent
    assert counts[255] < 0.1 * counts.sum()


def test_segments_meet_without_a_step_in_the_road() -> None:
    world = World(0, "02")
    _, one, _ = world.segment(2)
    _, two, _ = world.segment(3)
    middle = slice(one.height.shape[1] // 2 - 10, one.height.shape[1] // 2 + 10)
    assert np.abs(one.height[-1, middle] - two.height[0, middle]).max() < 0.25
    assert one.height.shape[0] * 0.4 == pytest.approx(SEGMENT)


def test_spacing_changes_how_far_the_car_drives_and_nothing_else() -> None:
    near, usual = World(0, "03", spacing=1.5), World(0, "03")
    steps = np.diff([near.ego(frame).x for frame in range(20)])
    assert ((steps > 0.9) & (steps < 2.1)).all()  # a third of a step is chance
    assert np.diff([usual.ego(frame).x for frame in range(20)]).min() > 5
    for each in fields(near.style):
        if each.name != "step":
            same = getattr(near.style, each.name), getattr(usual.style, each.name)
            np.testing.assert_equal(*same)
