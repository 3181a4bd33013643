"""The poses of a simulated sequence as KITTI's files."""

from __future__ import annotations

import numpy as np

from rangeseg.simulation.world import World

_LIDAR_TO_CAMERA = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def pose_files(world: World, frames: int) -> dict[str, str]:
    """The text of ``calib.txt`` and, after it, of ``poses.txt``.

    A line of ``poses.txt`` is the pose of KITTI's left camera, whose x is to the right and z ahead,
    relative to the first one. ``Tr`` takes points from the LiDAR's frame to the camera's.

    Args:
        world: of the sequence.
        frames: how many there are.
    """
    lidar = np.stack([world.ego(frame).pose() for frame in range(frames)])
    camera = _LIDAR_TO_CAMERA @ np.linalg.inv(lidar[0]) @ lidar @ _LIDAR_TO_CAMERA.T
    return {
        "calib.txt": f"Tr: {_row(_LIDAR_TO_CAMERA)}\n",
        "poses.txt": "".join(f"{_row(pose)}\n" for pose in camera),
    }


def _row(pose: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in pose[:3].ravel())
