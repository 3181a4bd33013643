"""Random augmentation of a scan for training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field

from rangeseg.geometry.kernel import BLOCK, as_points, kernel, take_apart
from rangeseg.settings import Settings


class AugmentationSettings(Settings):
    """Strengths of the augmentation; ``configs/published/`` has those of LaserMix's trainer.

    Attributes:
        rotate: rotate about the vertical by any angle.
        flip: mirror y with probability one half.
        scale: stretch all coordinates by a factor within 1 ± this.
        jitter_std: standard deviation in metres of bell-shaped noise on each coordinate, cut at 3.5
            deviations.
        shift_std: standard deviation in metres of a shift of the whole scan along each axis, cut at
            3 deviations.
        drop: largest share of dropped points, drawn uniformly from 0.
        range_interpolation: add a point to each one-pixel gap in the rows of an image this many
            times as wide as the range image; 0 adds none. Its columns should match the points of a
            beam: FRNet takes 4 for 512 columns on SemanticKITTI.
        instance_copy: names of classes; copy their objects from another labelled scan into each
            labelled one.
    """

    rotate: bool = True
    flip: bool = True
    scale: float = Field(default=0.05, ge=0.0, lt=1.0)
    jitter_std: float = Field(default=0.01, ge=0.0)
    shift_std: float = Field(default=0.0, ge=0.0)
    drop: float = Field(default=0.1, ge=0.0, le=1.0)
    range_interpolation: int = Field(default=0, ge=0, le=16)
    instance_copy: tuple[str, ...] = ()


_FOUR_BYTES_STD = math.sqrt(4.0 * (256.0**2 - 1.0) / 12.0)
_FOUR_BYTES_MEAN = np.float32(4.0 * 127.5)
_LOTS = 1 << 24
_ZERO, _ONE, _NOTHING = np.float32(0.0), np.float32(1.0), np.float32(np.nan)
_MIX_1, _MIX_2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)


@kernel
def _random_bits(key_1: Any, key_2: Any, number: Any) -> Any:
    """Hash a number to 32 random bits: stateless, so the loop over points is vectorised.

    Two rounds of multiply and xor-shift; the multipliers are Wellons' least biased pair (2018).
    """
    bits = np.uint32(number) ^ key_1
    bits = (bits ^ (bits >> np.uint32(16))) * _MIX_1
    bits = np.uint32((bits ^ (bits >> np.uint32(15))) * _MIX_2 + key_2)
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * _MIX_1)
    bits = np.uint32((bits ^ (bits >> np.uint32(15))) * _MIX_2)
    return np.uint32(bits ^ (bits >> np.uint32(16)))


@kernel
def _bell(bits: Any) -> Any:
    """The sum of four uniform bytes about its mean: nearly a Gaussian, at a quarter of the time."""
    pairs = (bits & np.uint32(0xFF00FF)) + ((bits >> np.uint32(8)) & np.uint32(0xFF00FF))
    total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
    return np.float32(np.int32(total)) - _FOUR_BYTES_MEAN


def augment_points(
    points: np.ndarray,
    rng: np.random.Generator,
    settings: AugmentationSettings,
    middle: float | None = None,
) -> np.ndarray:
    """Augment a copy of a scan, point for point.

    Dropped points become NaN, so that labels and beams still match and ``project_points`` leaves
    them out. Points at the origin mean "no echo" and stay there: jitter would make them objects
    next to the sensor.

    A view of less than a turn is mirrored about its middle and not rotated. Otherwise points would
    leave the image, or pixels of two scans would be different rays.

    Args:
        points: (N,4) float32; not changed.
        rng: random generator.
        settings: strengths of the augmentation.
        middle: azimuth of the middle of the view in radians; None for a full turn.

    Returns:
        (N,4) float32.
    """
    angle = rng.uniform(-math.pi, math.pi) if settings.rotate else 0.0
    mirror = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    if middle is not None:
        angle = 2.0 * middle if mirror < 0.0 else 0.0
    scale = 1.0 + rng.uniform(-settings.scale, settings.scale)
    drop_ratio = rng.uniform(0.0, settings.drop)
    points = as_points(points)
    moved = np.empty((len(points), 4), dtype=np.float32)
    key_1, key_2 = rng.integers(0, 1 << 32, 2, dtype=np.uint32)
    # [x', y'] = scale * rotation * mirror * [x, y]
    _move(
        np.ascontiguousarray(points[:, :4]).ravel(),
        np.float32(scale * math.cos(angle)),
        np.float32(scale * math.sin(angle)),
        np.float32(scale),
        np.float32(mirror),
        np.float32(settings.jitter_std / _FOUR_BYTES_STD),
        np.uint32(drop_ratio * _LOTS),
        key_1,
        key_2,
        moved.ravel(),
    )
    if settings.shift_std > 0.0:
        shift = settings.shift_std * rng.normal(size=3).clip(-3.0, 3.0)
        moved[moved[:, :3].any(axis=1), :3] += shift.astype(np.float32)
    return moved


def rotate_points(points: np.ndarray, angle: float) -> np.ndarray:
    """Rotate a copy of points (N,4) float32 about the vertical by an angle in radians."""
    rotated = points.copy()
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite points have no position anyway
        rotated[:, 0] = cos * points[:, 0] - sin * points[:, 1]
        rotated[:, 1] = sin * points[:, 0] + cos * points[:, 1]
    return rotated


@kernel
def _move(
    points: np.ndarray,
    cos: np.float32,
    sin: np.float32,
    scale: np.float32,
    mirror: np.float32,
    noise_scale: np.float32,
    dropped_lots: np.uint32,
    key_1: np.uint32,
    key_2: np.uint32,
    moved: np.ndarray,
) -> None:
    values = np.empty((4, BLOCK), dtype=np.float32)
    for start in range(0, points.shape[0] // 4, BLOCK):
        end = min(start + BLOCK, points.shape[0] // 4)
        take_apart(points[4 * start : 4 * end], values)
        n = end - start
        x, y, z, intensity = values[0, :n], values[1, :n], values[2, :n], values[3, :n]
        _move_block(
            x, y, z, intensity, 4 * start,
            cos, sin, scale, mirror, noise_scale, dropped_lots, key_1, key_2,
        )  # fmt: skip
        for i in range(n):
            at = 4 * (start + i)
            moved[at], moved[at + 1] = x[i], y[i]
            moved[at + 2], moved[at + 3] = z[i], intensity[i]


@kernel
def _move_block(
    xs: np.ndarray,
    ys: np.ndarray,
    zs: np.ndarray,
    intensities: np.ndarray,
    first: int,
    cos: np.float32,
    sin: np.float32,
    scale: np.float32,
    mirror: np.float32,
    noise_scale: np.float32,
    dropped_lots: np.uint32,
    key_1: np.uint32,
    key_2: np.uint32,
) -> None:
    """Augment in place; use random numbers from ``first`` on, four per point."""
    for i in range(xs.shape[0]):
        x, y, z = xs[i], ys[i] * mirror, zs[i]
        # Factors instead of branches, which would prevent vectorisation.
        noise = noise_scale if abs(x) + abs(y) + abs(z) > _ZERO else _ZERO
        number = first + 4 * i
        lot = _random_bits(key_1, key_2, number + 3) >> np.uint32(8)
        kept = _ONE if lot >= dropped_lots else _NOTHING
        noise_x = noise * _bell(_random_bits(key_1, key_2, number))
        noise_y = noise * _bell(_random_bits(key_1, key_2, number + 1))
        noise_z = noise * _bell(_random_bits(key_1, key_2, number + 2))
        xs[i] = kept * (cos * x - sin * y + noise_x)
        ys[i] = kept * (sin * x + cos * y + noise_y)
        zs[i] = kept * (scale * z + noise_z)
        intensities[i] = kept * intensities[i]
