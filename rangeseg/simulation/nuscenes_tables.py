"""nuScenes' tables, as the devkit reads them, only for LiDAR key frames and their labels.

Reference: Caesar et al., nuScenes: A Multimodal Dataset for Autonomous Driving, CVPR 2020, for the
schema; Fong et al., Panoptic nuScenes, RA-L 2022, for the categories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

MAP_FILE = "maps/none.png"
"""Image of the only map, which the devkit needs."""

KEY_FRAME = 500_000
"""Microseconds between two key frames."""

_QUARTER = 0.5**0.5
_LIDAR_TO_CAR = (_QUARTER, 0.0, 0.0, -_QUARTER)  # the LiDAR's y is ahead, the car's x

CATEGORIES: tuple[str, ...] = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child",
    "human.pedestrian.construction_worker", "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer", "human.pedestrian.stroller", "human.pedestrian.wheelchair",
    "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
    "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction",
    "vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.motorcycle",
    "vehicle.trailer", "vehicle.truck", "flat.driveable_surface", "flat.other", "flat.sidewalk",
    "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
"""lidarseg's categories; a category's position is its raw id."""

Table = list[dict[str, Any]]


class Drive(NamedTuple):
    """The part of a recording that is one scene.

    Attributes:
        scene: name of the scene.
        log: name of the recording.
        start: time of the first key frame in microseconds.
        mounting: (3,) position of the LiDAR in the car's frame, metres.
        poses: (K,4,4) float64: car to world at each key frame; x ahead, z up.
    """

    scene: str
    log: str
    start: int
    mounting: tuple[float, float, float]
    poses: np.ndarray


def token(*words: str) -> str:
    """32 hexadecimal digits for a record, unrelated to its position."""
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:32]


def point_file(log: str, timestamp: int) -> str:
    """The file of a key frame's points, relative to the root."""
    return f"samples/LIDAR_TOP/{log}__LIDAR_TOP__{timestamp}.pcd.bin"


def label_file(version: str, log: str, timestamp: int) -> str:
    """The file of a key frame's labels, relative to the root."""
    return f"lidarseg/{version}/{lidar_token(log, timestamp)}_lidarseg.bin"


def lidar_token(log: str, timestamp: int) -> str:
    """The token of a LiDAR's record in ``sample_data``."""
    return token("sample_data", log, "LIDAR_TOP", str(timestamp))


def make_tables(version: str, drives: Iterable[Drive]) -> dict[str, Table]:
    """Make the devkit's tables of LiDAR key frames and their labels.

    Args:
        version: the name of the version.
        drives: its scenes.

    Returns:
        Name of a table -> its records.
    """
    sensor = token("sensor", "LIDAR_TOP")
    tables: dict[str, Table] = {
        "category": [
            {"token": token("category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(CATEGORIES)
        ],
        "sensor": [{"token": sensor, "channel": "LIDAR_TOP", "modality": "lidar"}],
    }
    empty = (
        "attribute", "visibility", "instance", "sample_annotation", "calibrated_sensor", "ego_pose",
        "log", "scene", "sample", "sample_data", "lidarseg",
    )  # fmt: skip
    tables |= {name: [] for name in empty}
    for drive in drives:
        _add_drive(tables, version, drive)
    logs = list(dict.fromkeys(scene["log_token"] for scene in tables["scene"]))
    one_map = {"token": token("map"), "log_tokens": logs, "category": "semantic_prior"}
    return tables | {"map": [one_map | {"filename": MAP_FILE}]}


def _add_drive(tables: dict[str, Table], version: str, drive: Drive) -> None:
    from scipy.spatial.transform import Rotation

    times = [drive.start + KEY_FRAME * place for place in range(len(drive.poses))]
    samples = [token("sample", drive.log, str(time)) for time in times]
    scans = [lidar_token(drive.log, time) for time in times]
    log, scene = token("log", drive.log), token("scene", drive.scene)
    calibrated = token("calibrated_sensor", drive.scene)
    if not any(record["token"] == log for record in tables["log"]):
        tables["log"].append(
            {"token": log, "logfile": drive.log, "vehicle": "simulated", "location": "simulated"}
            | {"date_captured": "2018-06-26"}
        )
    tables["scene"].append(
        {"token": scene, "log_token": log, "name": drive.scene, "nbr_samples": len(samples)}
        | {"first_sample_token": samples[0], "last_sample_token": samples[-1]}
        | {"description": "simulated"}
    )
    tables["calibrated_sensor"].append(
        {"token": calibrated, "sensor_token": token("sensor", "LIDAR_TOP")}
        | {"translation": list(drive.mounting), "rotation": list(_LIDAR_TO_CAR)}
        | {"camera_intrinsic": []}
    )
    turns = Rotation.from_matrix(drive.poses[:, :3, :3]).as_quat()
    for place, time in enumerate(times):
        x, y, z, w = turns[place].tolist()
        ego_pose = token("ego_pose", drive.log, str(time))
        tables["ego_pose"].append(
            {"token": ego_pose, "timestamp": time, "rotation": [w, x, y, z]}
            | {"translation": drive.poses[place, :3, 3].tolist()}
        )
        tables["sample"].append(
            {"token": samples[place], "timestamp": time, "scene_token": scene}
            | _neighbours(samples, place)
        )
        tables["sample_data"].append(
            {"token": scans[place], "sample_token": samples[place], "timestamp": time}
            | {"ego_pose_token": ego_pose, "calibrated_sensor_token": calibrated}
            | {"fileformat": "pcd", "is_key_frame": True, "height": 0, "width": 0}
            | {"filename": point_file(drive.log, time)}
            | _neighbours(scans, place)
        )
        tables["lidarseg"].append(
            {"token": scans[place], "sample_data_token": scans[place]}
            | {"filename": label_file(version, drive.log, time)}
        )


def _neighbours(tokens: list[str], place: int) -> dict[str, str]:
    before, after = tokens[:place][-1:], tokens[place + 1 :][:1]
    return {"prev": "".join(before), "next": "".join(after)}
