"""Random movements of a scan for training."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from rangeseg.geometry.kernel import kernel
from rangeseg.settings import Settings


class AugmentationSettings(Settings):
    """How far a scan may be moved; the defaults are those of the range-view literature.

    Attributes:
        rotate: turn about the vertical by any angle.
        flip: mirror y with probability one half.
        scale: stretch all coordinates by a factor within 1 ± this.
        jitter_std: standard deviation in metres of the bell-shaped noise on each coordinate, which
            never exceeds 3.5 of them.
        drop: the share of points taken away is drawn from 0 to this.
    """

    rotate: bool = True
    flip: bool = True
    scale: float = Field(default=0.05, ge=0.0, lt=1.0)
    jitter_std: float = Field(default=0.01, ge=0.0)
    drop: float = Field(default=0.1, ge=0.0, le=1.0)


_FOUR_BYTES_STD = math.sqrt(4.0 * (256.0**2 - 1.0) / 12.0)
_FOUR_BYTES_MEAN = np.float32(4.0 * 127.5)


@kernel
def _bell(bits: int) -> np.float32:
    """The sum of four uniform bytes about its mean: nearly a Gaussian, at a quarter of the time."""
    total = (bits & 0xFF) + (bits >> 8 & 0xFF) + (bits >> 16 & 0xFF) + (bits >> 24)
    return np.float32(total) - _FOUR_BYTES_MEAN


def augment_points(
    points: np.ndarray, rng: np.random.Generator, settings: AugmentationSettings
) -> np.ndarray:
    """A randomly moved copy of a scan, point for point.

    Points that are dropped become NaN, so that labels and beams still belong to their points and
    ``project_points`` leaves them out. Points at the origin mean "no echo" and stay there: jitter
    would turn them into things next to the sensor.

    Args:
        points: (N,4) float32; not changed.
        rng: where the randomness comes from.
        settings: what may happen.

    Returns:
        (N,4) float32.
    """
    angle = rng.uniform(-math.pi, math.pi) if settings.rotate else 0.0
    mirror = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    scale = 1.0 + rng.uniform(-settings.scale, settings.scale)
    drop_ratio = rng.uniform(0.0, settings.drop)
    num_points = len(points)
    noise = rng.integers(0, 1 << 32, (num_points, 3), dtype=np.uint32)
    lot = rng.random(num_points, dtype=np.float32)
    # [x', y'] = scale * rotation * mirror * [x, y]
    return _move(
        np.ascontiguousarray(points, dtype=np.float32),
        np.float32(scale * math.cos(angle)),
        np.float32(scale * math.sin(angle)),
        np.float32(scale),
        np.float32(mirror),
        noise,
        np.float32(settings.jitter_std / _FOUR_BYTES_STD),
        lot,
        np.float32(drop_ratio),
    )


@kernel
def _move(
    points: np.ndarray,
    cos: np.float32,
    sin: np.float32,
    scale: np.float32,
    mirror: np.float32,
    noise: np.ndarray,
    noise_scale: np.float32,
    lot: np.ndarray,
    drop_ratio: np.float32,
) -> np.ndarray:
    moved = np.empty((points.shape[0], 4), dtype=np.float32)
    for i in range(points.shape[0]):
        if lot[i] < drop_ratio:
            moved[i] = np.nan
            continue
        x, y, z = points[i, 0], points[i, 1] * mirror, points[i, 2]
        if x == 0.0 and y == 0.0 and z == 0.0:
            moved[i, :3] = 0.0
        else:
            moved[i, 0] = cos * x - sin * y + noise_scale * _bell(noise[i, 0])
            moved[i, 1] = sin * x + cos * y + noise_scale * _bell(noise[i, 1])
            moved[i, 2] = scale * z + noise_scale * _bell(noise[i, 2])
        moved[i, 3] = points[i, 3]
    return moved
