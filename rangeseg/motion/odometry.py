"""Estimate poses of the LiDAR from its scans with KISS-ICP.

Reference:
    Vizzo et al., KISS-ICP: In Defense of Point-to-Point ICP, RA-L 2023. The further starts and the
    overlap are ours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import Field

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.pose_files import frame_numbers
from rangeseg.errors import ConfigError
from rangeseg.motion.kiss import Odometry
from rangeseg.settings import Settings
from rangeseg.system.files import writable, write_file
from rangeseg.system.prefetch import map_ahead, threads
from rangeseg.system.progress import Progress

_log = logging.getLogger(__name__)

ORIGIN = "kiss-icp"
STAMP = "rangeseg_poses.json"
"""File with the data set, library and settings in a folder of poses."""

JUMP_M, JUMP_SHARE = 0.6, 0.3
"""A step is a jump if it differs from the previous by both: metres, and a share of the longer."""

LEAST_OVERLAP = 0.25
"""A pose is unsure if a smaller share of the scan's points is near the previous scan.

Wrong poses and unrelated places had at most .15, correct ones at least .19 (10 m steps).
"""

_REMEDY = "make room, or choose another --out"


class OdometrySettings(Settings):
    """Settings of the estimation, chosen on simulated and real scans."""

    voxel_size: float = Field(default=0.75, gt=0)  # m; 0.5 is more accurate, 1.0 a third faster
    max_range: float = Field(default=100.0, gt=0)  # m; farther points are left out


@dataclass(frozen=True)
class Drive:
    """The estimated poses of a sequence, and their reliability.

    Attributes:
        sequence: name of the sequence.
        scan_ids: ids of all scans, in the order of time.
        poses: (n,4,4) float64, LiDAR to the LiDAR's frame in the first scan.
        overlap: (n,) share of a scan's points near the previous scan, NaN for the first.
    """

    sequence: str
    scan_ids: list[str]
    poses: np.ndarray
    overlap: np.ndarray

    def metres(self) -> float:
        """Length of the trajectory."""
        return float(np.linalg.norm(np.diff(self.poses[:, :3, 3], axis=0), axis=1).sum())

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """Compare each step with the previous one.

        Returns:
            (n,) change in metres per frame, NaN for the first two scans; (n,) bool, whether it is a
            jump.
        """
        steps = np.linalg.inv(self.poses[:-1]) @ self.poses[1:]
        velocity = steps[:, :3, 3] / np.diff(frame_numbers(self.scan_ids))[:, None]
        speed = np.linalg.norm(velocity, axis=1)
        change = np.full(len(self.poses), np.nan)
        change[2:] = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
        jumps = np.zeros(len(self.poses), dtype=bool)
        jumps[2:] = change[2:] > JUMP_M + JUMP_SHARE * np.maximum(speed[1:], speed[:-1])
        return change, jumps


def is_estimated(folder: Path) -> bool:
    """Whether a folder of poses was written by ``estimate_poses``."""
    return (folder / STAMP).is_file()


def estimate_poses(
    source: ScanSource, sequences: Sequence[str], folder: Path, settings: OdometrySettings
) -> list[Drive]:
    """Estimate the poses of sequences and write ``SEQUENCE.txt`` for each, with a progress bar.

    Line n is the pose of frame n, 12 numbers, NaN for a missing scan. Existing files are kept, so
    the same call completes an interrupted one.

    Args:
        source: the data set.
        sequences: names of the sequences.
        folder: output folder; created if missing.
        settings: settings of the estimation.

    Returns:
        The drives estimated by this call.

    Raises:
        ConfigError: kiss-icp is missing, or the folder holds something else or cannot be written.
        DataError: a sequence is missing, or a scan cannot be read.
    """
    new_odometry = _load_library(settings)
    scan_ids = {sequence: source.sequence_ids(sequence) for sequence in sequences}
    _claim(folder, source, settings)
    todo = {s: ids for s, ids in scan_ids.items() if not (folder / f"{s}.txt").exists()}
    drives = []
    with Progress("poses", sum(map(len, todo.values())), "scans") as progress:
        for sequence, ids in todo.items():
            drive = _estimate(source, sequence, ids, settings, new_odometry(), progress)
            path = folder / f"{sequence}.txt"
            with writable(path, _REMEDY):
                write_file(path, _lines(drive))
            _warn(drive)
            drives.append(drive)
    return drives


def _load_library(settings: OdometrySettings) -> Callable[[], Odometry]:
    """Return a factory of odometries."""
    try:
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP
    except ImportError:
        raise ConfigError(
            "poses are estimated by kiss-icp, which is not installed: pip install 'rangeseg[poses]'"
        ) from None
    config = KISSConfig(
        data={"max_range": settings.max_range, "deskew": False},  # points have no times
        mapping={"voxel_size": settings.voxel_size},
    )
    return lambda: Odometry(KissICP(config))


def _claim(folder: Path, source: ScanSource, settings: OdometrySettings) -> None:
    """Write the stamp into a new folder, or compare the existing one."""
    path = folder / STAMP
    stamp = {
        "dataset": source.info.name,
        "root": str(source.root.resolve()),
        "library": f"{ORIGIN} {version(ORIGIN)}",
        **settings.model_dump(),
    }
    if folder.is_dir() and any(folder.iterdir()):
        try:
            found = dict(json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{folder} is not empty and has no sound {STAMP} ({error}): choose another --out"
            ) from None
        differ = [f"{k} {found.get(k)}, not {v}" for k, v in stamp.items() if found.get(k) != v]
        if differ:
            raise ConfigError(
                f"{folder} holds other poses ({'; '.join(differ)}): choose another --out"
            )
        return
    with writable(folder, _REMEDY):
        write_file(path, json.dumps(stamp, indent=2) + "\n")


def _estimate(
    source: ScanSource,
    sequence: str,
    scan_ids: list[str],
    settings: OdometrySettings,
    odometry: Odometry,
    progress: Progress,
) -> Drive:
    """Estimate the poses of a sequence; two threads read scans ahead."""

    def read(scan_id: str) -> np.ndarray:
        points = source.read_scan(scan_id, with_labels=False).points[:, :3].astype(np.float64)
        distance = np.linalg.norm(points, axis=1)
        usable = (distance > 0) & (distance >= source.info.sensor.min_range)
        usable &= distance <= settings.max_range
        return np.asarray(points[usable])

    poses, overlap = [], []
    with threads(2) as pool:
        scans = map_ahead(pool, read, scan_ids, ahead=4)
        for points, frame in zip(scans, frame_numbers(scan_ids), strict=True):
            overlap.append(odometry.add(points, frame))
            poses.append(odometry.pose)
            progress.update()
    return Drive(sequence, scan_ids, np.array(poses), np.array(overlap))


def _lines(drive: Drive) -> str:
    """Format the poses as KITTI does."""
    frames = frame_numbers(drive.scan_ids)
    lines = [" ".join(["nan"] * 12)] * (frames[-1] + 1)
    for frame, pose in zip(frames, drive.poses, strict=True):
        lines[frame] = " ".join(f"{value:.9g}" for value in pose[:3].ravel())
    return "\n".join(lines) + "\n"


def _warn(drive: Drive) -> None:
    """Log doubts about the poses of a sequence."""
    change, jumps = drive.changes()
    doubts = []
    if jumps.any():
        worst = int(np.where(jumps, change, 0.0).argmax())
        largest = f"{change[worst]:.1f} m a frame at {drive.scan_ids[worst]}"
        doubts.append(f"jumps: {jumps.sum()} (the largest {largest})")
    if unsure := int((drive.overlap < LEAST_OVERLAP).sum()):
        worst = int(np.nanargmin(drive.overlap))
        least = f"{drive.overlap[worst]:.0%} overlap at {drive.scan_ids[worst]}"
        doubts.append(f"unsure poses: {unsure} (the worst {least})")
    if doubts:
        text = ", ".join(doubts)
        _log.warning("sequence %s, %s: look at these poses before use", drive.sequence, text)
