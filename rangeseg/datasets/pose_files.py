"""Pose files: KITTI's ``poses.txt`` with ``calib.txt`` and ``times.txt``, and TUM's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rangeseg.datasets.formats.files import reason
from rangeseg.errors import DataError

POSES, CALIBRATION, TIMES = "poses.txt", "calib.txt", "times.txt"

_SAME_TIME_S = 0.02
"""Largest time difference in seconds between a TUM pose and its scan."""


class Trajectory(NamedTuple):
    """The content of a pose file.

    Attributes:
        poses: (L,4,4) float64, one per line; NaN for an empty line.
        stamps: (L,) float64 in seconds, or None: line n is the pose of frame n.
    """

    poses: np.ndarray
    stamps: np.ndarray | None


def frame_numbers(scan_ids: Sequence[str]) -> list[int]:
    """The frame number of each scan of a sequence.

    It is the name if all names are distinct whole numbers below a million, else the index.

    Args:
        scan_ids: ids of one sequence, in the order of time.
    """
    names = [scan_id.rpartition("/")[2] for scan_id in scan_ids]
    if all(re.fullmatch(r"0*[0-9]{1,6}", name) for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(len(scan_ids)))


def read_trajectory(path: Path) -> Trajectory:
    """Read the poses of a file: 12 numbers a line (KITTI, row by row) or 8 (TUM).

    TUM's are ``timestamp tx ty tz qx qy qz qw``. Lines that begin with ``#`` are comments.

    Raises:
        DataError: the file is missing, or a line holds something else.
    """
    rows: list[list[float] | None] = []
    width = 0
    for number, line in enumerate(_read_lines(path), start=1):
        words = line.split()
        if words and words[0].startswith("#"):
            continue
        if not words:
            rows.append(None)
            continue
        width = width or len(words)
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != width or width not in (8, 12):
            raise DataError(
                f"{path}:{number}: '{line.strip()[:40]}' is no pose: write 12 numbers a line "
                "(KITTI) or 8 (TUM: timestamp tx ty tz qx qy qz qw)"
            )
        rows.append(row)
    if not width:
        raise DataError(f"{path} holds no pose: copy it again", kind="truncated")
    values = np.array([row or [np.nan] * width for row in rows])
    return Trajectory(_matrices(values[:, 1:]), values[:, 0]) if width == 8 else _kitti(values)


def _kitti(values: np.ndarray) -> Trajectory:
    poses = np.zeros((len(values), 4, 4))
    poses[:, :3] = values.reshape(-1, 3, 4)
    poses[:, 3, 3] = 1.0
    return Trajectory(poses, None)


def _matrices(values: np.ndarray) -> np.ndarray:
    """Poses (L,4,4) from ``tx ty tz qx qy qz qw`` (L,7)."""
    from scipy.spatial.transform import Rotation

    poses = np.full((len(values), 4, 4), np.nan)
    sound = np.isfinite(values).all(axis=1) & (np.abs(values[:, 3:]).sum(axis=1) > 0)
    poses[sound] = np.eye(4)
    if sound.any():
        poses[sound, :3, :3] = Rotation.from_quat(values[sound, 3:]).as_matrix()
        poses[sound, :3, 3] = values[sound, :3]
    return poses


def read_camera_transform(path: Path) -> np.ndarray | None:
    """``Tr`` (4,4) of a KITTI ``calib.txt``, which takes points from the LiDAR to the camera.

    Returns:
        None if there is no such file or line.

    Raises:
        DataError: the line does not hold 12 numbers.
    """
    if not path.is_file():
        return None
    for line in _read_lines(path):
        name, _, text = line.partition(":")
        if name.strip() in ("Tr", "Tr_velo_to_cam"):
            try:
                values = np.array([float(word) for word in text.split()]).reshape(3, 4)
            except ValueError:
                raise DataError(f"{path}: '{line.strip()[:40]}' does not hold 12 numbers") from None
            return np.concatenate([values, [[0.0, 0.0, 0.0, 1.0]]])
    return None


def read_times(folder: Path, scan_ids: Sequence[str]) -> dict[str, float]:
    """The time of each scan of a sequence in seconds: line n of ``times.txt`` for frame n.

    Without this file names may be times: decimal seconds such as ``1673400471.837873``, or
    microseconds (16 digits) or nanoseconds (19 digits) since 1970.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    path = folder / TIMES
    if path.is_file():
        lines = _read_lines(path)
        try:
            numbered = zip(scan_ids, frame_numbers(scan_ids), strict=True)
            return {i: float(lines[number]) for i, number in numbered if number < len(lines)}
        except ValueError as error:
            raise DataError(f"{path} does not hold one number a line ({error})") from None
    names = {scan_id: scan_id.rpartition("/")[2] for scan_id in scan_ids}
    return {i: time for i, name in names.items() if (time := _seconds(name)) is not None}


def _seconds(name: str) -> float | None:
    """Parse a name as a time."""
    if re.fullmatch(r"[0-9]+\.[0-9]+", name):
        return float(name)
    if re.fullmatch(r"[0-9]{16}|[0-9]{19}", name):
        return int(name) / (1e6 if len(name) == 16 else 1e9)
    return None


def read_sequence_poses(
    folder: Path, scan_ids: Sequence[str], camera: bool
) -> dict[str, np.ndarray]:
    """Read the LiDAR's pose (4,4) for each scan of a sequence in KITTI's layout.

    Args:
        folder: folder of the sequence, with ``poses.txt`` and perhaps ``calib.txt``.
        scan_ids: of the sequence, in the order of time.
        camera: whether the poses must be KITTI's left camera's; otherwise ``Tr`` decides.

    Raises:
        DataError: a file is missing (kind ``missing``) or has wrong content.
    """
    poses = read_poses(folder / POSES, scan_ids, read_times(folder, scan_ids))
    to_camera = read_camera_transform(folder / CALIBRATION)
    if to_camera is None:
        if camera:
            raise DataError(
                f"{folder / CALIBRATION} has no line Tr, which converts the camera's {POSES} "
                "to the LiDAR's: copy KITTI's own file there"
            )
        return poses
    to_lidar = np.linalg.inv(to_camera)
    return {scan_id: to_lidar @ pose @ to_camera for scan_id, pose in poses.items()}


def read_poses(
    path: Path, scan_ids: Sequence[str], times: dict[str, float]
) -> dict[str, np.ndarray]:
    """Read the poses (4,4) of a file by scan; scans without a line are left out.

    Args:
        path: see ``read_trajectory``.
        scan_ids: of the sequence, in the order of time.
        times: time of each scan, to find its line in a TUM file; without times the frame number.

    Raises:
        DataError: see ``read_trajectory``.
    """
    trajectory, numbers = read_trajectory(path), frame_numbers(scan_ids)
    numbered = list(zip(scan_ids, numbers, strict=True))
    if trajectory.stamps is None:
        return {i: trajectory.poses[n] for i, n in numbered if n < len(trajectory.poses)}
    found = {}
    for scan_id, number in numbered:
        apart = np.nan_to_num(np.abs(trajectory.stamps - times.get(scan_id, number)), nan=np.inf)
        nearest = int(apart.argmin())
        if apart[nearest] <= _SAME_TIME_S:
            found[scan_id] = trajectory.poses[nearest]
    return found


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path} {reason(error)}", kind="missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error})") from None
