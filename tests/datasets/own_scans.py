"""Somebody's own scans, made up: a spinning sensor in a round room, in KITTI's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BEAMS, FIRINGS, FOV_UP, FOV_DOWN = 16, 192, 10.0, -20.0

DESCRIPTION: dict[str, Any] = {
    "classes": [
        {"name": "floor", "ids": [7, 8], "colour": [128, 64, 128]},
        {"name": "wall", "ids": [9], "colour": [255, 200, 0]},
    ],
    "ignored_ids": [0],
    "sensor": {"beams": BEAMS, "fov_up_deg": 11, "fov_down_deg": -21},
    "sequences": {"train": ["01", "02"], "val": ["03"]},
    "statistics": {"range": [12, 4]},
}
"""Of scans of x, y, z, intensity and uint32 labels of ``raw_labels``."""


def turn(seed: int = 0, order: str = "firings") -> tuple[np.ndarray, np.ndarray]:
    """One turn of the sensor: points (N,4) float32 and the beam (N,) of each, 0 the highest.

    ``order`` is that of the file: ``firings`` of all beams, or ``beams`` of one turn each.
    """
    rng = np.random.default_rng(seed)
    beam, firing = np.meshgrid(np.arange(BEAMS), np.arange(FIRINGS), indexing="ij")
    if order == "firings":
        beam, firing = beam.T, firing.T
    beam, firing = beam.ravel(), firing.ravel()
    inclination = np.radians(np.linspace(FOV_UP, FOV_DOWN, BEAMS))[beam]
    azimuth = 2 * np.pi * (firing + 0.5) / FIRINGS
    depth = 12 + 4 * np.sin(2 * azimuth) + rng.normal(0, 0.02, len(beam))
    to_floor = 1.7 / np.sin(np.maximum(-inclination, 0.01))
    depth = np.minimum(depth, to_floor)
    flat = depth * np.cos(inclination)
    xyz = flat * np.cos(azimuth), flat * np.sin(azimuth), depth * np.sin(inclination)
    intensity = rng.uniform(0, 1, len(beam))
    return np.stack([*xyz, intensity], axis=1).astype(np.float32), beam.astype(np.int32)


def raw_labels(points: np.ndarray) -> np.ndarray:
    """7 for the floor near by, 8 farther away, 9 for the wall."""
    floor = points[:, 2] < -1.5
    near = np.hypot(points[:, 0], points[:, 1]) < 6
    return np.where(floor, np.where(near, 7, 8), 9).astype(np.uint32)


def write_points(root: Path, scan_id: str, values: np.ndarray, suffix: str = ".bin") -> Path:
    """A point file in ``velodyne/``."""
    sequence, frame = scan_id.split("/")
    path = root / "sequences" / sequence / "velodyne" / f"{frame}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix.endswith(".npy"):
        np.save(path, values)
    else:
        values.astype("<f4").tofile(path)
    return path


def write_labels(root: Path, scan_id: str, raw: np.ndarray, suffix: str = ".label") -> Path:
    """A label file in ``labels/``, of the type of ``raw``."""
    sequence, frame = scan_id.split("/")
    path = root / "sequences" / sequence / "labels" / f"{frame}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.tofile(path)
    return path


def write_root(root: Path, scans: int = 4, order: str = "firings") -> Path:
    """Sequences 01 to 03 of labelled scans, as DESCRIPTION has them."""
    for sequence in ("01", "02", "03"):
        for frame in range(scans):
            points, _ = turn(int(sequence) * 100 + frame, order)
            write_points(root, f"{sequence}/{frame:06d}", points)
            write_labels(root, f"{sequence}/{frame:06d}", raw_labels(points))
    return root
