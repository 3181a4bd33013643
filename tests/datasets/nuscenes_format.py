"""A small made-up data set in nuScenes' format: the real devkit loads, validates and evaluates it.

The scans look like those of a spinning HDL-32E: firing after firing, clockwise, 32 rings from the
lowest to the highest, and every fifth point or so within 1 m, where a beam met the car or nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BEAMS = 32
SENSOR_HEIGHT = 1.84
FARTHEST = 70.0
STEP = 5.0  # metres between two key frames

# Raw ids. Things stand beside the road; there is no trailer (22), so that one class is absent.
NOISE, ROAD, OTHER_FLAT, SIDEWALK, TERRAIN, MANMADE, VEGETATION, EGO = 0, 24, 25, 26, 27, 28, 30, 31
THINGS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 29)

Table = list[dict[str, Any]]


def write_nuscenes(
    root: Path,
    version: str = "v1.0-mini",
    scenes: Sequence[str] | None = None,
    samples: int = 2,
    firings: int = 64,
    seed: int = 0,
) -> Path:
    """Write one version: tables, scans, and labels unless it is v1.0-test.

    Args:
        root: may hold other versions already.
        version: v1.0-trainval, v1.0-mini or v1.0-test.
        scenes: official names; None takes all of the version, which the devkit's evaluation needs.
        samples: key frames of each scene.
        firings: of each turn; a real one has 1,084.
        seed: another seed, other scans.

    Returns:
        The root.
    """
    tables = _fixed_tables(version)
    for scene in scenes if scenes is not None else official_scenes(version):
        _add_scene(tables, scene, samples)
    for record in tables["sample_data"]:
        if record["is_key_frame"] and record["filename"].startswith("samples/LIDAR_TOP"):
            # A scan that two versions share is the same in both.
            scan_rng = np.random.default_rng((seed, int(record["token"], 16)))
            points, labels = turn(scan_rng, firings)
            _make(root / record["filename"]).write_bytes(points.tobytes())
            if version != "v1.0-test":
                name = f"lidarseg/{version}/{record['token']}_lidarseg.bin"
                tables["lidarseg"].append(
                    {"token": record["token"], "sample_data_token": record["token"]}
                    | {"filename": name}
                )
                _make(root / name).write_bytes(labels.tobytes())
    (root / "lidarseg" / version).mkdir(parents=True, exist_ok=True)
    _make(root / "maps" / "city.png").touch()
    rng = np.random.default_rng(seed)
    for name, table in tables.items():
        rng.shuffle(table)  # nothing may rest on the order of records
        _make(root / version / f"{name}.json").write_text(json.dumps(table))
    return root


def official_scenes(version: str) -> list[str]:
    """The names of all scenes of a version."""
    from nuscenes.utils.splits import create_splits_scenes

    splits = {
        "v1.0-trainval": ("train", "val"),
        "v1.0-mini": ("mini_train", "mini_val"),
        "v1.0-test": ("test",),
    }
    official = create_splits_scenes()
    return [scene for split in splits[version] for scene in official[split]]


def turn(rng: np.random.Generator, firings: int) -> tuple[np.ndarray, np.ndarray]:
    """One turn in a street between two walls: points (N,5) float32, raw labels (N,) uint8."""
    ring = np.tile(np.arange(BEAMS), firings)
    inclination = np.radians(-30.67 + ring * 41.34 / (BEAMS - 1))
    azimuth = np.radians(-174.0) - np.repeat(np.arange(firings), BEAMS) * 2 * np.pi / firings
    # y forward, x to the right, z up: the directions of the beams
    direction = np.stack(
        [
            np.cos(inclination) * np.cos(azimuth),
            np.cos(inclination) * np.sin(azimuth),
            np.sin(inclination),
        ],
        axis=1,
    )
    depth, labels = _first_echoes(rng, direction, azimuth)
    depth = depth * rng.normal(1.0, 0.002, len(depth))
    intensity = np.clip(rng.normal(labels, 4.0), 0, 255).astype(np.uint8)
    points = np.column_stack([direction * depth[:, None], intensity, ring])
    return points.astype(np.float32), labels


def _first_echoes(
    rng: np.random.Generator, direction: np.ndarray, azimuth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N,) and raw label (N,) uint8 of what each beam meets first."""
    across, _, up = direction.T
    with np.errstate(divide="ignore"):
        ground = np.where(up < 0, -SENSOR_HEIGHT / up, np.inf)
        wall = rng.uniform(8.0, 14.0) / np.abs(across)
    wall = np.where(wall * up < 3.0, wall, np.inf)  # of this height above the sensor
    depth = np.minimum(ground, wall)
    beside = np.abs(across * depth)
    flat = np.select(
        [beside < 4.0, beside < 5.0, beside < 7.0], [ROAD, OTHER_FLAT, SIDEWALK], default=TERRAIN
    )
    labels = np.where(depth < wall, flat, np.where(across > 0, MANMADE, VEGETATION))
    for thing in rng.choice(THINGS, size=8, replace=False):
        away = np.angle(np.exp(1j * (azimuth - rng.uniform(-np.pi, np.pi))))
        distance = rng.uniform(4.0, 12.0)
        hit = (np.abs(away) < 0.15) & (distance < depth) & (distance * up < 0.0)
        depth, labels = np.where(hit, distance, depth), np.where(hit, thing, labels)
    own_car = (up < np.sin(np.radians(-27.0))) & (np.abs(across) < 0.5)
    lost = depth > FARTHEST
    near = rng.uniform(0.01, 0.95, len(depth))
    depth = np.where(own_car | lost, near, depth)
    labels = np.where(lost, NOISE, np.where(own_car, EGO, labels))
    return depth, labels.astype(np.uint8)


def _fixed_tables(version: str) -> dict[str, Table]:
    """All tables; those that say nothing of a scene are filled."""
    from nuscenes.utils.color_map import get_colormap

    sensors = ("LIDAR_TOP", "lidar"), ("CAM_FRONT", "camera")
    empty = (
        "attribute", "visibility", "instance", "sample_annotation", "ego_pose", "log", "scene",
        "sample", "sample_data", "lidarseg",
    )  # fmt: skip
    return {name: [] for name in empty} | {
        "category": [
            {"token": _token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(get_colormap())
        ],
        "sensor": [
            {"token": _token("sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in sensors
        ],
        "calibrated_sensor": [
            {"token": _token("calibrated", c), "sensor_token": _token("sensor", c)}
            # On the roof, y ahead: the car's frame has x ahead.
            | {"translation": [0.9, 0.0, SENSOR_HEIGHT], "rotation": [0.5**0.5, 0, 0, -(0.5**0.5)]}
            for c, _ in sensors
        ],
        "map": [
            {"token": _token("map", version), "log_tokens": [], "filename": "maps/city.png"},
        ],
    }


def _add_scene(tables: dict[str, Table], scene: str, samples: int) -> None:
    """A scene with its key frames, a camera image of each, and a sweep between two of them."""
    tokens = [_token("sample", scene, str(i)) for i in range(samples)]
    start = 1_530_000_000_000_000 + int(scene.removeprefix("scene-")) * 60_000_000
    tables["scene"].append(
        {"token": _token("scene", scene), "name": scene, "nbr_samples": samples}
        | {"first_sample_token": tokens[0], "last_sample_token": tokens[-1]}
    )
    for i, token in enumerate(tokens):
        timestamp = start + i * 500_000
        tables["sample"].append(
            {
                "token": token,
                "timestamp": timestamp,
                "scene_token": _token("scene", scene),
                "prev": tokens[i - 1] if i else "",
                "next": tokens[i + 1] if i + 1 < samples else "",
            }
        )
        for channel, suffix, key_frame in (
            ("LIDAR_TOP", "pcd.bin", True),
            ("CAM_FRONT", "jpg", True),
            ("LIDAR_TOP", "pcd.bin", False),
        ):
            taken = timestamp if key_frame else timestamp + 250_000
            folder = "samples" if key_frame else "sweeps"
            ego_pose = _token("ego_pose", scene, channel, str(taken))
            way = STEP * (taken - start) / 500_000
            tables["ego_pose"].append(
                {"token": ego_pose, "timestamp": taken, "rotation": [1.0, 0.0, 0.0, 0.0]}
                | {"translation": [400.0 + way, 900.0, 0.0]}
            )
            tables["sample_data"].append(
                {
                    "token": _token("sample_data", scene, channel, str(taken)),
                    "sample_token": token,
                    "ego_pose_token": ego_pose,
                    "calibrated_sensor_token": _token("calibrated", channel),
                    "timestamp": taken,
                    "is_key_frame": key_frame,
                    "filename": f"{folder}/{channel}/{scene}__{channel}__{taken}.{suffix}",
                }
            )


def _token(*words: str) -> str:
    """32 hexadecimal digits that say nothing of their order."""
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:32]


def _make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
