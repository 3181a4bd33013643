"""The simulated street in nuScenes' format: an HDL-32E's key frames, lidarseg, the tables.

A scene is 20 s of a drive: 40 key frames, two a second. The sweeps between them, 20 a second, are
left out, as are cameras, radars and boxes. Scenes have official names of train, val and test, so
that the devkit's lists split them. The version ``v1.0-sim`` marks them as simulated.

Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, CVPR 2020;
Fong et al., Panoptic nuScenes, RA-L 2022, for the classes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rangeseg.errors import ConfigError
from rangeseg.simulation.materials import MOVING, Raw
from rangeseg.simulation.nuscenes_tables import (
    CATEGORIES,
    KEY_FRAME,
    MAP_FILE,
    Drive,
    label_file,
    make_tables,
    point_file,
)
from rangeseg.simulation.sensor_model import Reading, hdl_32e_inclinations
from rangeseg.simulation.styles import SPLITS
from rangeseg.simulation.world import World

VERSION = "v1.0-sim"
"""Name of the version and of the folder of its tables."""

_SCENE = 40  # key frames
_START = 1_530_000_000_000_000  # microseconds
_AHEAD = 0.9  # metres from the car's rear axle to the LiDAR
_LOST = 0.2  # metres: real files have lost pulses within 1 m too
_INTENSITY = 100.0  # intensity of a white surface; higher values are for reflectors

# As in nuScenes' instructions, riders belong to their vehicles; fences, poles and signs are
# man-made. The street lacks the classes barrier, construction vehicle and traffic cone.
_CATEGORY_OF: dict[Raw, str] = {
    Raw.UNLABELLED: "noise",
    Raw.OUTLIER: "noise",
    Raw.CAR: "vehicle.car",
    Raw.BICYCLE: "vehicle.bicycle",
    Raw.BUS: "vehicle.bus.rigid",
    Raw.MOTORCYCLE: "vehicle.motorcycle",
    Raw.ON_RAILS: "vehicle.bus.bendy",
    Raw.TRUCK: "vehicle.truck",
    Raw.OTHER_VEHICLE: "vehicle.trailer",  # half of them are trailers and caravans
    Raw.PERSON: "human.pedestrian.adult",
    Raw.BICYCLIST: "vehicle.bicycle",
    Raw.MOTORCYCLIST: "vehicle.motorcycle",
    Raw.ROAD: "flat.driveable_surface",
    Raw.PARKING: "flat.driveable_surface",
    Raw.SIDEWALK: "flat.sidewalk",
    Raw.OTHER_GROUND: "flat.other",
    Raw.BUILDING: "static.manmade",
    Raw.FENCE: "static.manmade",
    Raw.OTHER_STRUCTURE: "static.manmade",
    Raw.LANE_MARKING: "flat.driveable_surface",
    Raw.VEGETATION: "static.vegetation",
    Raw.TRUNK: "static.vegetation",
    Raw.TERRAIN: "flat.terrain",
    Raw.POLE: "static.manmade",
    Raw.TRAFFIC_SIGN: "static.manmade",
    Raw.OTHER_OBJECT: "static.other",
}

_RAW_ID = np.zeros(max(Raw) + 1, dtype=np.uint8)
_STANDING = {moving: raw for raw, moving in MOVING.items()}
for _raw in Raw:
    _RAW_ID[_raw] = CATEGORIES.index(_CATEGORY_OF[_STANDING.get(_raw, _raw)])


def scan_files(sequence: str, frame: int) -> tuple[str, str]:
    """The files of a scan's points and of its labels, relative to the root."""
    log, time = _log_and_time(sequence, frame)
    return point_file(log, time), label_file(VERSION, log, time)


def encode(reading: Reading, columns: int) -> tuple[bytes, bytes]:
    """Encode the two files: float32 x, y, z, intensity, ring; uint8 raw ids.

    As in the real files, firings run clockwise from the left, each with 32 rings from the lowest
    up. Lost pulses are included as noise near the sensor. x is to the right, y ahead; intensity is
    0..255.
    """
    inclination = hdl_32e_inclinations()
    beams = len(inclination)
    # The column of each firing; columns count from straight ahead to the left.
    order = (columns // 4 - 1 - np.arange(columns)) % columns
    azimuth = ((order + 0.5) * 2 * np.pi / columns + np.pi / 2)[:, None]
    ring = np.arange(beams)
    lowest_up = inclination[::-1]
    points = np.empty((columns, beams, 5), dtype="<f4")
    points[..., 0] = _LOST * np.cos(lowest_up) * np.cos(azimuth)
    points[..., 1] = _LOST * np.cos(lowest_up) * np.sin(azimuth)
    points[..., 2] = _LOST * np.sin(lowest_up)
    points[..., 3], points[..., 4] = 0.0, ring
    labels = np.full((columns, beams), CATEGORIES.index("noise"), dtype=np.uint8)
    at = np.argsort(order)[reading.column], beams - 1 - reading.beam
    ahead, left, up, remission = reading.points.T
    points[(*at, slice(4))] = np.stack([-left, ahead, up, np.round(_INTENSITY * remission)], axis=1)
    labels[at] = _RAW_ID[reading.labels & 0xFFFF]
    return points.tobytes(), labels.tobytes()


def missing_files(
    root: Path, world_of: Callable[[str], World], frames: Mapping[str, int]
) -> dict[str, bytes]:
    """Make missing tables, and the map that the devkit needs.

    Args:
        root: the folder of the data set.
        world_of: the world of a sequence.
        frames: sequence -> number of scans.

    Returns:
        File, relative to the root -> its content.

    Raises:
        ConfigError: the devkit is missing, or there are more scenes than official names.
    """
    missing = {MAP_FILE: _empty_map()} if not (root / MAP_FILE).is_file() else {}
    names = {name: f"{VERSION}/{name}.json" for name in make_tables(VERSION, ())}
    names = {name: path for name, path in names.items() if not (root / path).is_file()}
    tables = make_tables(VERSION, _drives(world_of, frames)) if names else {}
    texts = {path: json.dumps(tables[name], indent=0) for name, path in names.items()}
    return missing | {path: text.encode() for path, text in texts.items()}


def _drives(world_of: Callable[[str], World], frames: Mapping[str, int]) -> list[Drive]:
    """The scenes of all sequences, under official names of their split."""
    official = _official_scenes()
    drives = []
    for split, sequences in SPLITS.items():
        stretches = [(s, first) for s in sequences for first in range(0, frames[s], _SCENE)]
        if len(stretches) > len(official[split]):
            scans = sum(frames[sequence] for sequence in sequences)
            raise ConfigError(
                f"{scans} {split} scans make {len(stretches)} scenes of {_SCENE}, but nuScenes has "
                f"{len(official[split])} names for them: give --{split}-scans fewer"
            )
        for scene, (sequence, first) in zip(official[split], stretches, strict=False):
            part = range(first, min(first + _SCENE, frames[sequence]))
            drives.append(_drive(scene, world_of(sequence), part))
    return drives


def _drive(scene: str, world: World, frames: range) -> Drive:
    mounting = (_AHEAD, 0.0, world.style.sensor_height)
    car = np.eye(4)
    car[:3, 3] = -np.array(mounting)
    # The world's sensor has x ahead, like a car: the mounting only shifts it.
    poses = np.stack([world.ego(frame).pose() @ car for frame in frames])
    return Drive(scene, *_log_and_time(world.sequence, frames[0]), mounting, poses)


def _official_scenes() -> dict[str, list[str]]:
    try:
        from nuscenes.utils.splits import create_splits_scenes
    except ImportError as error:
        raise ConfigError(
            f"nuScenes' format needs nuscenes-devkit, which cannot be imported ({error}): "
            "pip install 'rangeseg[nuscenes]' (simplest up to Python 3.12: it needs numpy 1)"
        ) from None
    official: dict[str, list[str]] = create_splits_scenes()
    return official


def _log_and_time(sequence: str, frame: int) -> tuple[str, int]:
    return f"sim-{sequence}", _START + int(sequence) * 10**11 + frame * KEY_FRAME


def _empty_map() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "png")
    return buffer.getvalue()
