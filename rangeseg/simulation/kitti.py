"""The simulated street in SemanticKITTI's layout: scans, labels and poses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rangeseg.simulation.sensor_model import Reading
from rangeseg.simulation.world import World

_LIDAR_TO_CAMERA = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def scan_files(sequence: str, frame: int) -> tuple[str, str]:
    """The files of a scan's points and of its labels, relative to the root."""
    folder, name = f"sequences/{sequence}", f"{frame:06d}"
    return f"{folder}/velodyne/{name}.bin", f"{folder}/labels/{name}.label"


def encode(reading: Reading, columns: int) -> tuple[bytes, bytes]:
    """Encode the two files: float32 x, y, z, remission; uint32 raw ids."""
    return reading.points.astype("<f4").tobytes(), reading.labels.astype("<u4").tobytes()


def missing_files(
    root: Path, world_of: Callable[[str], World], frames: Mapping[str, int]
) -> dict[str, bytes]:
    """Make ``calib.txt`` and, after it, ``poses.txt`` for each sequence without poses.

    A line of ``poses.txt`` is the pose of KITTI's left camera (x right, z ahead), relative to the
    first one. ``Tr`` maps points from the LiDAR's frame to the camera's.

    Args:
        root: the folder of the data set.
        world_of: the world of a sequence.
        frames: sequence -> number of scans.

    Returns:
        File, relative to the root -> its content.
    """
    files = {}
    for sequence, count in frames.items():
        folder = f"sequences/{sequence}"
        if (root / folder / "poses.txt").is_file():
            continue
        world = world_of(sequence)
        lidar = np.stack([world.ego(frame).pose() for frame in range(count)])
        camera = _LIDAR_TO_CAMERA @ np.linalg.inv(lidar[0]) @ lidar @ _LIDAR_TO_CAMERA.T
        files[f"{folder}/calib.txt"] = f"Tr: {_row(_LIDAR_TO_CAMERA)}\n".encode()
        files[f"{folder}/poses.txt"] = "".join(f"{_row(pose)}\n" for pose in camera).encode()
    return files


def _row(pose: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in pose[:3].ravel())
