"""Random movements of a scan keep its points in their places in the array."""

import numpy as np
import pytest
from pydantic import ValidationError

from rangeseg.geometry.augmentation import AugmentationSettings, augment_points, rotate_points
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_64E

STILL = AugmentationSettings(rotate=False, flip=False, scale=0, jitter_std=0, drop=0)


def points_of(size: int = 20_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 10, (size, 4)).astype(np.float32)


def augment(points: np.ndarray, seed: int = 0, **settings: float) -> np.ndarray:
    chosen = STILL.model_copy(update=settings)
    return augment_points(points, np.random.default_rng(seed), chosen)


def test_nothing_chosen_is_a_copy() -> None:
    points = points_of()
    moved = augment(points)
    np.testing.assert_array_equal(moved, points)
    assert not np.shares_memory(moved, points)


@pytest.mark.parametrize("seed", range(5))
def test_the_input_is_untouched_and_the_seed_decides(seed: int) -> None:
    points = points_of()
    before = points.copy()
    first, again, other = (
        augment_points(points, np.random.default_rng(s), AugmentationSettings())
        for s in (seed, seed, seed + 1)
    )
    np.testing.assert_array_equal(points, before)
    assert first.shape == points.shape
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)


def test_rotation_is_about_the_vertical_by_any_angle() -> None:
    points = points_of(500)
    angles = []
    for seed in range(200):
        moved = augment(points, seed, rotate=True)
        turn = (moved[:, 0] + 1j * moved[:, 1]) / (points[:, 0] + 1j * points[:, 1])
        np.testing.assert_allclose(turn, turn[0], atol=2e-3)
        np.testing.assert_allclose(np.abs(turn), 1.0, atol=1e-5)
        np.testing.assert_array_equal(moved[:, 2:], points[:, 2:])
        angles.append(np.angle(turn[0]))
    assert (np.histogram(angles, 4, (-np.pi, np.pi))[0] > 25).all()


@pytest.mark.parametrize("middle_deg", [0, 180, 65])
def test_a_view_is_mirrored_about_its_middle_and_stays(middle_deg: float) -> None:
    points, middle = points_of(500), np.radians(middle_deg)
    before = points[:, 0] + 1j * points[:, 1]
    mirrored = 0
    for seed in range(40):
        settings = STILL.model_copy(update={"rotate": True, "flip": True})
        moved = augment_points(points, np.random.default_rng(seed), settings, middle)
        after = moved[:, 0] + 1j * moved[:, 1]
        there, back = before * np.exp(-1j * middle), after * np.exp(-1j * middle)
        if np.allclose(back, there, atol=1e-4):
            continue
        np.testing.assert_allclose(back, there.conj(), atol=1e-4)
        mirrored += 1
    assert 8 < mirrored < 32


def test_rotated_points_keep_heights_and_what_is_nowhere() -> None:
    points = points_of(4)
    points[1, :2] = np.inf
    points[2] = np.nan
    rotated = rotate_points(points, np.pi / 2)
    np.testing.assert_allclose(rotated[[0, 3], 0], -points[[0, 3], 1], atol=1e-5)
    np.testing.assert_allclose(rotated[[0, 3], 1], points[[0, 3], 0], atol=1e-5)
    np.testing.assert_array_equal(rotated[:, 2:], points[:, 2:])
    assert not np.isfinite(rotated[1:3, :2]).any()


def test_flip_mirrors_the_left_and_the_right_half_of_the_time() -> None:
    points = points_of(50)
    flipped = 0
    for seed in range(200):
        moved = augment(points, seed, flip=True)
        mirrored = moved[0, 1] != points[0, 1]
        sign = np.array([1, -1 if mirrored else 1, 1, 1])
        np.testing.assert_array_equal(moved, points * sign)
        flipped += mirrored
    assert 70 < flipped < 130


def test_scale_is_one_factor_within_its_bounds() -> None:
    points = points_of(50)
    factors = []
    for seed in range(200):
        moved = augment(points, seed, scale=0.05)
        factor = moved[:, :3] / points[:, :3]
        np.testing.assert_allclose(factor, factor[0, 0], rtol=1e-6)
        np.testing.assert_array_equal(moved[:, 3], points[:, 3])
        factors.append(factor[0, 0])
    assert min(factors) >= 0.95 - 1e-6
    assert max(factors) <= 1.05 + 1e-6
    assert max(factors) - min(factors) > 0.09


def test_jitter_is_bell_shaped_on_each_coordinate_alone() -> None:
    points = np.ones((200_000, 4), dtype=np.float32)
    noise = (augment(points, jitter_std=0.02) - points)[:, :3] / 0.02
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(3), atol=0.01)
    for deviations, share in ((1, 0.683), (2, 0.954)):
        assert (np.abs(noise) < deviations).mean() == pytest.approx(share, abs=0.02)
    assert np.abs(noise).max() < 3.5


def test_no_echo_stays_no_echo() -> None:
    points = points_of(1000)
    points[::3, :3] = 0.0
    moved = augment_points(points, np.random.default_rng(0), AugmentationSettings(drop=0.0))
    assert not moved[::3, :3].any()
    assert (project_points(moved, HDL_64E).row[::3] == -1).all()


def test_what_is_not_a_number_stays_where_it_is() -> None:
    points = points_of(300)
    points[::7, 1] = np.nan
    moved = augment_points(points, np.random.default_rng(0), AugmentationSettings(drop=0.0))
    np.testing.assert_array_equal(np.isnan(moved).any(axis=1), np.isnan(points).any(axis=1))


def test_dropped_points_keep_their_place_and_are_never_projected() -> None:
    points = points_of()
    shares = []
    for seed in range(50):
        moved = augment(points, seed, drop=0.1)
        dropped = np.isnan(moved).any(axis=1)
        assert np.isnan(moved[dropped]).all()
        np.testing.assert_array_equal(moved[~dropped], points[~dropped])
        shares.append(dropped.mean())
    assert max(shares) < 0.11
    assert np.ptp(shares) > 0.07
    assert (project_points(moved, HDL_64E).row[dropped] == -1).all()


def test_layout_and_an_empty_scan() -> None:
    points = points_of(100)
    wide = np.concatenate([points, points], axis=1).astype(np.float64)[:, :4]
    wanted = augment_points(points, np.random.default_rng(1), AugmentationSettings())
    found = augment_points(wide, np.random.default_rng(1), AugmentationSettings())
    np.testing.assert_array_equal(found, wanted)
    assert augment(points[:0], drop=0.1, jitter_std=0.01).shape == (0, 4)


@pytest.mark.parametrize(
    "wrong", [{"scale": 1.0}, {"scale": -0.1}, {"jitter_std": -1}, {"drop": 1.1}, {"shear": 1}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugmentationSettings(**wrong)  # type: ignore[arg-type]


def test_a_shift_moves_the_whole_scan_but_not_what_has_no_echo() -> None:
    points = points_of(500)
    points[7, :3] = 0.0
    shifts = []
    for seed in range(300):
        moved = augment(points, seed, shift_std=0.1) - points
        np.testing.assert_array_equal(moved[7], 0.0)
        np.testing.assert_array_equal(moved[:, 3], 0.0)
        others = np.delete(moved[:, :3], 7, axis=0)
        np.testing.assert_allclose(others, np.broadcast_to(others[0], others.shape), atol=1e-5)
        shifts.append(others[0])
    np.testing.assert_allclose(np.std(shifts, axis=0), 0.1, rtol=0.15)
    assert np.abs(shifts).max() < 0.301
