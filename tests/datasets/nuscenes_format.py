"""A small made-up data set in nuScenes' format: the real devkit loads, validates and evaluates it.

The scans look like those of a spinning HDL-32E: firing after firing, clockwise, 32 rings from the
lowest to the highest, and every fifth point or so within 1 m, where a beam met the car or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rangeseg.simulation.nuscenes_tables import KEY_FRAME, Drive, Table, make_tables, token

BEAMS = 32
SENSOR_HEIGHT = 1.84
FARTHEST = 70.0
STEP = 5.0  # metres between two key frames

# Raw ids. Things stand beside the road; there is no trailer (22), so that one class is absent.
NOISE, ROAD, OTHER_FLAT, SIDEWALK, TERRAIN, MANMADE, VEGETATION, EGO = 0, 24, 25, 26, 27, 28, 30, 31
THINGS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 29)


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
    scenes = scenes if scenes is not None else official_scenes(version)
    tables = make_tables(version, [_drive(scene, samples) for scene in scenes])
    published = tables["lidarseg"]
    for record, labelled in zip(tables["sample_data"], published, strict=True):
        # A scan that two versions share is the same in both.
        points, labels = turn(np.random.default_rng((seed, int(record["token"], 16))), firings)
        _make(root / record["filename"]).write_bytes(points.tobytes())
        if version != "v1.0-test":
            _make(root / labelled["filename"]).write_bytes(labels.tobytes())
    if version == "v1.0-test":
        published.clear()
    _add_other_records(tables)
    (root / "lidarseg" / version).mkdir(parents=True, exist_ok=True)
    _make(root / tables["map"][0]["filename"]).touch()
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


def _drive(scene: str, samples: int) -> Drive:
    """A straight drive; the LiDAR is on the roof."""
    poses = np.tile(np.eye(4), (samples, 1, 1))
    poses[:, :3, 3] = [400.0, 900.0, 0.0]
    poses[:, 0, 3] += STEP * np.arange(samples)
    start = 1_530_000_000_000_000 + int(scene.removeprefix("scene-")) * 60_000_000
    return Drive(scene, scene, start, (0.9, 0.0, SENSOR_HEIGHT), poses)


def _add_other_records(tables: dict[str, Table]) -> None:
    """A camera's image of each key frame, and a sweep of the LiDAR after it: records, no files."""
    tables["sensor"].append(
        {"token": token("sensor", "CAM_FRONT"), "channel": "CAM_FRONT", "modality": "camera"}
    )
    lidar = tables["calibrated_sensor"][0]
    camera = {"token": token("camera"), "sensor_token": token("sensor", "CAM_FRONT")}
    tables["calibrated_sensor"].append(lidar | camera)
    for record in tuple(tables["sample_data"]):
        name = record["filename"]
        image = name.replace("LIDAR_TOP", "CAM_FRONT").replace("pcd.bin", "jpg")
        sweep = name.replace("samples", "sweeps")
        tables["sample_data"] += [
            record | {"token": token(image), "filename": image}
            | {"calibrated_sensor_token": camera["token"]},
            record | {"token": token(sweep), "filename": sweep, "is_key_frame": False}
            | {"timestamp": record["timestamp"] + KEY_FRAME // 2},
        ]  # fmt: skip


def _make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
