"""The beam of each point: beam after beam, by ring, firing after firing, or by inclination.

A sensor warns once per process, so the tests of warnings have sensors of their own.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.geometry.augmentation import AugmentationSettings, augment_points
from rangeseg.geometry.beams import ORDERED, beam_rows, descent, firing_beams, firing_columns
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_32E, Sensor

FOUR = Sensor("four", 4, 4, 36, fov_up_deg=5, fov_down_deg=-20, row_rule="scan_order")
BEAMS, FIRINGS = 8, 48
IN_TURN = [0, 4, 1, 5, 2, 6, 3, 7]  # as a VLP-16 fires: neighbours in time are far apart
SENSOR = Sensor(
    "toy", beams=BEAMS, height=BEAMS, width=64, fov_up_deg=10.0, fov_down_deg=-30.0,
    row_rule="file_order",
)  # fmt: skip


def turns(*azimuths_deg: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """A scan that lists one beam after the other, and the beam of each point."""
    angle = np.radians(np.concatenate(azimuths_deg))
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle - 0.1, 0 * angle], 1) * 7
    beams = np.repeat(np.arange(len(azimuths_deg)), [len(a) for a in azimuths_deg])
    return points.astype(np.float32), beams


def around(first: float = 0.5, last: float = 359.5) -> list[float]:
    return list(np.linspace(first, last, 60))


def test_scan_order_starts_a_row_where_the_azimuth_wraps() -> None:
    points, beams = turns(around(), around(8), around(20, 340), around(0.0, 352))
    found = beam_rows(points, FOUR)
    np.testing.assert_array_equal(found, beams)
    assert found.dtype == np.int32


@pytest.mark.parametrize(("left", "right"), [(45, -45), (225, 135), (120, 30), (270, 90)])
def test_scan_order_holds_in_a_view_cut_out_of_a_turn(left: float, right: float) -> None:
    points, beams = turns(around(), around(8), around(20, 340), around(0.0, 352))
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    seen = (left - azimuth) % 360 < left - right
    sensor = replace(FOUR, azimuth_left_deg=left, azimuth_right_deg=right)
    np.testing.assert_array_equal(beam_rows(points[seen], sensor), beams[seen])


def test_points_that_are_nowhere_make_no_row() -> None:
    points, beams = turns(around(), around(), around(), around())
    rng = np.random.default_rng(0)
    lost = rng.choice(len(points), 90, replace=False)
    points[lost[:30], rng.integers(0, 2, 30)] = np.nan
    points[lost[30:60], :3] = 0.0
    points[lost[60:]] = np.inf
    np.testing.assert_array_equal(np.delete(beam_rows(points, FOUR), lost), np.delete(beams, lost))


def test_jitter_over_the_line_ahead_makes_no_row() -> None:
    points, _ = turns(around(), [0.2, 359.9, 0.1, *around(1)], [359.8, *around()], around())
    assert beam_rows(points, FOUR).max() == 3


def test_beams_that_see_only_one_side() -> None:
    points, beams = turns(around(5, 150), around(10, 355), [20, 60, 300, 350], around(100, 359))
    np.testing.assert_array_equal(beam_rows(points, FOUR), beams)


def test_another_number_of_rows_falls_back_with_one_warning_per_sensor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points, _ = turns(around(), around(), around())
    odd, other = replace(FOUR, name="odd"), replace(FOUR, name="other")
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        for sensor in (odd, odd, odd.resized(2, 18), other):
            assert beam_rows(points, sensor) is None
    assert len(caplog.records) == 2
    message = caplog.records[0].getMessage()
    assert "sensor odd: rows by scan_order" in message
    assert "3 beams where the sensor has 4" in message
    assert "inclination" in message


def test_a_last_beam_that_jitters_ahead_and_back_is_one_too_many() -> None:
    points, _ = turns(around(), around(), around(), [*around(), 0.1, 359.9])
    assert beam_rows(points, FOUR) is None


def test_a_scan_without_points_falls_back() -> None:
    assert beam_rows(np.zeros((0, 4), dtype=np.float32), FOUR) is None


def test_ring_is_taken_as_it_is_or_missed_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points, beams = turns(around(), around())
    sensor = replace(HDL_32E, name="ringed")
    found = beam_rows(points, sensor, ring=beams)
    np.testing.assert_array_equal(found, beams)
    assert found.dtype == np.int32
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        assert beam_rows(points, sensor) is None
    assert "no ring" in caplog.text


def test_inclination_asks_for_no_beams(caplog: pytest.LogCaptureFixture) -> None:
    points, beams = turns(around())
    assert beam_rows(points, FOUR.resized(4, 36, "inclination"), ring=beams) is None
    assert not caplog.records


def firing_by_firing(
    clockwise: bool = True, highest_first: bool = False, begin: float = 2.0
) -> np.ndarray:
    """Points (BEAMS * FIRINGS, 4) of a sensor without errors, each firing complete."""
    turn = np.arange(FIRINGS) * 2 * np.pi / FIRINGS
    azimuth = begin + (-turn if clockwise else turn)
    inclination = np.radians(np.linspace(9.0, -29.0, BEAMS))
    if not highest_first:
        inclination = inclination[::-1]
    distance = np.random.default_rng(0).uniform(2.0, 50.0, (FIRINGS, BEAMS))
    flat = distance * np.cos(inclination)
    points = np.stack(
        [
            flat * np.cos(azimuth)[:, None],
            flat * np.sin(azimuth)[:, None],
            distance * np.sin(inclination),
            np.full_like(flat, 0.5),
        ],
        axis=-1,
    )
    return points.reshape(-1, 4).astype(np.float32)


@pytest.mark.parametrize("clockwise", [True, False])
@pytest.mark.parametrize("highest_first", [True, False])
def test_the_beam_is_the_place_in_the_firing(clockwise: bool, highest_first: bool) -> None:
    points = firing_by_firing(clockwise, highest_first)
    beams = beam_rows(points, SENSOR)
    assert beams is not None
    z = points[:, 2] / np.linalg.norm(points[:, :3], axis=1)
    np.testing.assert_array_equal(np.argsort(-z[:BEAMS]), np.argsort(beams[:BEAMS]))
    np.testing.assert_array_equal(beams, np.tile(beams[:BEAMS], FIRINGS))


@pytest.mark.parametrize("clockwise", [True, False])
@pytest.mark.parametrize("width", [FIRINGS, 64, 101])
def test_columns_are_near_the_azimuth_and_never_shared(clockwise: bool, width: int) -> None:
    points = firing_by_firing(clockwise)
    columns = firing_columns(points, replace(SENSOR, width=width))
    assert len(np.unique(columns)) == FIRINGS
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    exact = 0.5 * (1 - azimuth / np.pi) * width
    away = (columns + 0.5 - exact + width / 2) % width - width / 2
    assert np.abs(away).max() <= 1.5
    projection = project_points(points, replace(SENSOR, width=width), beam_rows(points, SENSOR))
    assert projection.valid.sum() == len(points)
    np.testing.assert_array_equal(projection.col, columns)


def test_a_narrow_image_shares_columns_and_the_nearest_point_wins() -> None:
    points = firing_by_firing()
    projection = project_points(points, replace(SENSOR, width=16), beam_rows(points, SENSOR))
    depth = np.linalg.norm(points[:, :3], axis=1)
    for row in range(BEAMS):
        for col in range(16):
            here = np.flatnonzero((projection.row == row) & (projection.col == col))
            assert projection.point_index[row, col] == here[np.argmin(depth[here])]


def test_rotation_rolls_and_a_flip_mirrors_the_columns() -> None:
    points, sensor = firing_by_firing(), replace(SENSOR, width=FIRINGS)
    columns = firing_columns(points, sensor)
    angle = 2 * np.pi * 5 / FIRINGS
    rotated = points.copy()
    rotated[:, 0] = points[:, 0] * np.cos(angle) - points[:, 1] * np.sin(angle)
    rotated[:, 1] = points[:, 0] * np.sin(angle) + points[:, 1] * np.cos(angle)
    np.testing.assert_array_equal(firing_columns(rotated, sensor), (columns - 5) % FIRINGS)
    flipped = points * np.array([1, -1, 1, 1], dtype=np.float32)
    mirrored = firing_columns(flipped, sensor)
    step = np.diff(mirrored[::BEAMS])
    assert set(step % FIRINGS) == {FIRINGS - 1}
    assert set(np.diff(columns[::BEAMS]) % FIRINGS) == {1}


def test_an_augmented_scan_still_loses_nothing_but_its_dropped_points() -> None:
    points = firing_by_firing()
    beams = beam_rows(points, SENSOR)
    augmented = augment_points(points, np.random.default_rng(3), AugmentationSettings())
    projection = project_points(augmented, SENSOR, beams)
    assert projection.valid.sum() == np.isfinite(augmented).all(axis=1).sum()


@pytest.mark.parametrize(
    "broken",
    [
        "a point less",
        "a firing's worth less",
        "shuffled",
        "beam by beam",
        "lasers in turn",
        "nothing",
        "empty",
    ],
)
def test_other_orders_fall_back_with_a_warning(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    points = firing_by_firing()
    points = {
        "a point less": points[1:],
        "a firing's worth less": np.delete(points, np.arange(BEAMS) * 31 + 7, axis=0),
        "shuffled": np.random.default_rng(0).permutation(points),
        "beam by beam": points.reshape(FIRINGS, BEAMS, 4).swapaxes(0, 1).reshape(-1, 4),
        "lasers in turn": points.reshape(FIRINGS, BEAMS, 4)[:, IN_TURN].reshape(-1, 4),
        "nothing": np.zeros_like(points),
        "empty": points[:0],
    }[broken]
    assert firing_beams(points, BEAMS) is None
    with caplog.at_level(logging.WARNING):
        assert beam_rows(points, replace(SENSOR, name=broken)) is None
    assert "does not list 8 points of each firing, the highest or the lowest first" in caplog.text


def test_descent() -> None:
    falling = np.array([3.0, 2.9, 2.8, np.nan, -20.0])  # unevenly spaced, one beam saw nothing
    assert descent(falling) == pytest.approx(1.0)
    assert descent(falling[::-1]) == pytest.approx(-1.0)
    assert descent(np.array([3.0, 2.0, 2.01, 1.0])) > ORDERED  # as good as equal
    assert (
        abs(descent(np.arange(16.0)[[0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]])) < 0.8
    )
    halves = np.array([*range(8), *range(15, 7, -1)], dtype=float)  # RS-16: one rises, one falls
    assert abs(descent(halves)) < 0.8
    assert descent(np.full(4, np.nan)) == descent(np.ones(4)) == 1.0


def test_lost_echoes_do_not_matter() -> None:
    points = firing_by_firing()
    rng = np.random.default_rng(0)
    lost = rng.random(len(points)) < 0.5
    points[lost, :3] = 0.0
    points[rng.random(len(points)) < 0.1] = np.nan
    assert firing_beams(points, BEAMS) is not None


@pytest.mark.real_data
@pytest.mark.parametrize("width", [1088, 1920])
def test_the_raw_nuscenes_sweep_loses_nothing(real_data: Path, width: int) -> None:
    (path,) = (real_data / "nuscenes_demo_sweep").glob("*.bin")
    sweep = np.fromfile(path, dtype=np.float32).reshape(-1, 5)
    sensor = replace(HDL_32E, row_rule="file_order", width=width)
    beams = beam_rows(sweep, sensor)
    np.testing.assert_array_equal(beams, 31 - sweep[:, 4].astype(np.int32))
    projection = project_points(sweep, sensor, beams)
    far = np.linalg.norm(sweep[:, :3].astype(np.float64), axis=1) >= sensor.min_range
    assert projection.valid.sum() == far.sum()


@pytest.mark.real_data
def test_rellis_is_listed_firing_by_firing(real_data: Path) -> None:
    points = np.fromfile(real_data / "rellis3d_example" / "000104.bin", dtype=np.float32)
    points = points.reshape(-1, 4)
    sensor = Sensor("OS1-64", 64, 64, 2048, 17.5, -17.5, "file_order")
    projection = project_points(points, sensor, beam_rows(points, sensor))
    assert projection.valid.sum() == points[:, :3].any(axis=1).sum()


@pytest.mark.parametrize("clockwise", [True, False])
@pytest.mark.parametrize("left", [60, 240])
def test_a_view_of_whole_turns_has_a_column_for_each_firing_in_it(
    clockwise: bool, left: float
) -> None:
    points = firing_by_firing(clockwise)
    sensor = replace(SENSOR, width=16, azimuth_left_deg=left, azimuth_right_deg=left - 120)
    columns = firing_columns(points, sensor)[::BEAMS]
    azimuth = np.degrees(np.arctan2(points[::BEAMS, 1], points[::BEAMS, 0]))
    exact = (left - azimuth) % 360 / 120 * 16
    inside = exact < 16
    assert np.abs(columns[inside] + 0.5 - exact[inside]).max() <= 1.5
    assert set(columns[inside]) == set(range(16))
    beyond = (exact >= 17) & (exact < 47)  # columns of the whole turn: 16 are in view
    assert (columns[beyond & (exact < 31)] == 15).all()
    assert (columns[beyond & (exact > 33)] == 0).all()
