"""Real scans as people wrongly have them, and where the real ones lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import read_points

Change = Callable[[np.ndarray], np.ndarray]


def kitti_paths(real_data: Path) -> list[Path]:
    return sorted(real_data.glob("semantickitti_mini/sequences/*/velodyne/*.bin"))


def real_scans(real_data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All real scans there are, with a name; intensities as a description would have them."""
    for path in kitti_paths(real_data):
        yield f"kitti/{path.parent.parent.name}/{path.stem}", read(path)
    for path in sorted(real_data.glob("pandaset_semkitti/sequences/*/velodyne/*.bin")):
        yield f"panda/{path.parent.parent.name}/{path.stem}", read(path)
    yield "nuscenes", nuscenes(real_data)
    yield "rellis/ouster", read(real_data / "rellis3d_example" / "000104.bin")
    yield "rellis/velodyne", read(real_data / "rellis3d_example" / "vel000104.bin", 4, 255)
    for path in sorted((real_data / "formats").glob("*.pcd")):
        yield path.stem, read(path, 4, 255)


def read(path: Path, columns: int = 4, intensity_max: float = 1.0) -> np.ndarray:
    points = read_points(path, Layout(columns=columns)).points.copy()
    points[:, 3] /= intensity_max
    return points


def nuscenes(real_data: Path) -> np.ndarray:
    (path,) = real_data.glob("nuscenes_demo_sweep/*.bin")
    return read(path, 5, 255)


def changed(points: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    return np.concatenate([xyz, points[:, 3:]], axis=1).astype(np.float32)


def scaled(factor: float) -> Change:
    return lambda points: points * np.array([factor, factor, factor, 1], np.float32)


def moved(x: float, y: float, z: float) -> Change:
    return lambda points: points + np.array([x, y, z, 0], np.float32)


def turned(roll: float = 0.0, pitch: float = 0.0) -> Change:
    """As a sensor mounted so sees the same scene."""
    level = Layout(roll_deg=roll, pitch_deg=pitch).rotation()
    return lambda points: changed(points, points[:, :3] @ level)


def camera(points: np.ndarray) -> np.ndarray:
    return changed(points, np.stack([-points[:, 1], -points[:, 2], points[:, 0]], axis=1))


def upside_down(points: np.ndarray) -> np.ndarray:
    return points * np.array([1, -1, -1, 1], np.float32)


def merged(step: float, scans: int = 10) -> Change:
    """Scans along a street in the frame of the first."""
    return lambda points: np.concatenate([moved(-step * i, 0, 0)(points) for i in range(scans)])


def dual(points: np.ndarray) -> np.ndarray:
    """A second return, farther away, for every third direction."""
    return np.concatenate([points, scaled(1.05)(points[::3])])


def dropped(share: float) -> Change:
    def drop(points: np.ndarray) -> np.ndarray:
        kept: np.ndarray = points[np.random.default_rng(0).random(len(points)) >= share]
        return kept

    return drop


def front(degrees: float) -> Change:
    def crop(points: np.ndarray) -> np.ndarray:
        azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        kept: np.ndarray = points[np.abs(azimuth) < degrees / 2]
        return kept

    return crop


def rosette(points: int = 24_000) -> np.ndarray:
    """The pattern of a Livox in a street: ground, and walls beyond."""
    time = np.linspace(0, 200 * np.pi, points)
    radius = 35 * np.cos(3.017 * time)
    azimuth, inclination = np.radians(radius * np.cos(time)), np.radians(radius * np.sin(time))
    to_ground = 1.8 / np.sin(np.maximum(-inclination, 1e-3))
    wall = 20 + 10 * np.sin(3 * azimuth) + 10 * np.cos(5 * inclination)
    depth = np.where(inclination < -0.02, np.minimum(to_ground, 60), wall)
    flat = depth * np.cos(inclination)
    xyz = [flat * np.cos(azimuth), flat * np.sin(azimuth), depth * np.sin(inclination)]
    intensity = np.random.default_rng(0).random(points)
    return np.stack([*xyz, intensity], axis=1).astype(np.float32)
