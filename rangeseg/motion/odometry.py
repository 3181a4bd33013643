"""Poses of the LiDAR from its own scans, by KISS-ICP.

Reference:
    Vizzo et al., KISS-ICP: In Defense of Point-to-Point ICP, RA-L 2023.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.pose_files import frame_numbers, read_poses
from rangeseg.errors import ConfigError
from rangeseg.settings import Settings
from rangeseg.system.files import writable, write_file
from rangeseg.system.prefetch import map_ahead, threads
from rangeseg.system.progress import Progress

_log = logging.getLogger(__name__)

ORIGIN = "kiss-icp"
STAMP = "rangeseg_poses.json"
"""The file with the data set, the library and the settings in a folder of estimated poses."""

JUMP_M, JUMP_SHARE = 0.6, 0.3
"""A step is a jump if it differs from the step before by more than this and this share of it."""

NEAR_M, LEAST_OVERLAP = 0.3, 1 / 3
"""A scan fits if this share of its points lies so near to points of the scan before."""

_STARTS_M = (4.0, 8.0, 12.0, 16.0)
"""Steps that are tried in four directions where the motion is unknown."""

_REMEDY = "make room, or choose another --out"


class OdometrySettings(Settings):
    """How poses are estimated; chosen on simulated and real scans."""

    voxel_size: float = Field(default=1.0, gt=0)  # m; .5 is slower and loses its way more often
    max_range: float = Field(default=100.0, gt=0)  # m; farther points are left out


@dataclass(frozen=True)
class Drive:
    """The estimated poses of a sequence, and how sure they are.

    Attributes:
        sequence: its name.
        scan_ids: of all scans, in the order of time.
        poses: (n,4,4) float64, LiDAR to the frame of the first scan.
        overlap: (n-1,) share of each scan's points that are near points of the scan before; None
            if the poses were estimated by an earlier call.
    """

    sequence: str
    scan_ids: list[str]
    poses: np.ndarray
    overlap: np.ndarray | None = None

    @property
    def metres(self) -> float:
        """The length of the way."""
        return float(np.linalg.norm(np.diff(self.poses[:, :3, 3], axis=0), axis=1).sum())

    def changes(self) -> tuple[np.ndarray, np.ndarray]:
        """How much each step differs from the step before it, and whether it is a jump.

        Returns:
            (n-2,) metres per frame number, and (n-2,) bool; both begin with the third scan.
        """
        steps = np.linalg.inv(self.poses[:-1]) @ self.poses[1:]
        velocity = steps[:, :3, 3] / np.diff(frame_numbers(self.scan_ids))[:, None]
        speed = np.linalg.norm(velocity, axis=1)
        change = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
        return change, change > JUMP_M + JUMP_SHARE * np.maximum(speed[1:], speed[:-1])


def is_estimated(folder: Path) -> bool:
    """Whether a folder of poses was written by ``estimate_poses``."""
    return (folder / STAMP).is_file()


def estimate_poses(
    source: ScanSource, sequences: Sequence[str], folder: Path, settings: OdometrySettings
) -> list[Drive]:
    """Estimate the poses of sequences, and write ``SEQUENCE.txt`` for each, with a progress bar.

    Line n of a file is the pose of frame n as 12 numbers, NaN where there is no such scan. A file
    that is there is kept: the same call completes what was begun.

    Args:
        source: the data set.
        sequences: their names.
        folder: where the files are written; made.
        settings: of the estimation.

    Raises:
        ConfigError: kiss-icp is not installed, or the folder holds something else or cannot be
            written.
        DataError: a sequence is missing, or a scan cannot be read.
    """
    new_odometry = _library(settings)
    scan_ids = {sequence: source.sequence_ids(sequence) for sequence in sequences}
    _claim(folder, source, settings)
    paths = {sequence: folder / f"{sequence}.txt" for sequence in sequences}
    todo = sum(len(ids) for sequence, ids in scan_ids.items() if not paths[sequence].is_file())
    drives = []
    with Progress("poses", todo, "scans") as progress:
        for sequence, ids in scan_ids.items():
            if paths[sequence].is_file():
                drives.append(_read(paths[sequence], sequence, ids))
                continue
            drive = _drive(source, sequence, ids, settings, new_odometry(), progress)
            with writable(paths[sequence], _REMEDY):
                write_file(paths[sequence], _lines(drive))
            if doubt := _doubt(drive):
                _log.warning("%s", doubt)
            drives.append(drive)
    return drives


def _library(settings: OdometrySettings) -> Callable[[], _Odometry]:
    """What makes a KISS-ICP for each sequence."""
    try:
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP
    except ImportError:
        raise ConfigError(
            "the library kiss-icp, which estimates poses, is not installed: "
            "pip install 'rangeseg[poses]'"
        ) from None
    data = {"max_range": settings.max_range, "deskew": False}  # no data set times its points
    config = KISSConfig(data=data, mapping={"voxel_size": settings.voxel_size})
    return lambda: _Odometry(KissICP(config))


def _claim(folder: Path, source: ScanSource, settings: OdometrySettings) -> None:
    """Write the stamp of a new folder, or compare that of one which was begun."""
    stamp = {
        "dataset": source.info.name,
        "root": str(source.root.resolve()),
        "library": f"{ORIGIN} {version(ORIGIN)}",
        **settings.model_dump(),
    }
    path = folder / STAMP
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} is not empty and has no {STAMP}: choose another --out"
            ) from None
        with writable(folder, _REMEDY):
            write_file(path, json.dumps(stamp, indent=2) + "\n")
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): choose another --out") from None
    if found != stamp:
        of = found if isinstance(found, dict) else {}
        differ = [f"{k} {of.get(k)}, now {v}" for k, v in stamp.items() if of.get(k) != v]
        raise ConfigError(f"{folder} holds other poses ({'; '.join(differ)}): choose another --out")


def _read(path: Path, sequence: str, scan_ids: list[str]) -> Drive:
    """What an earlier call wrote."""
    found = read_poses(path, scan_ids, {})
    poses = np.array([found.get(i, np.full((4, 4), np.nan)) for i in scan_ids])
    unknown = np.flatnonzero(~np.isfinite(poses).all(axis=(1, 2)))
    if len(unknown):
        raise ConfigError(
            f"{path} has no pose of {scan_ids[unknown[0]]}, which is there now: remove the file, "
            "or choose another --out"
        )
    return Drive(sequence, scan_ids, poses)


def _drive(
    source: ScanSource,
    sequence: str,
    scan_ids: list[str],
    settings: OdometrySettings,
    odometry: _Odometry,
    progress: Progress,
) -> Drive:
    def read(scan_id: str) -> np.ndarray:
        points = source.read_scan(scan_id, with_labels=False).points[:, :3].astype(np.float64)
        distance = np.linalg.norm(points, axis=1)
        usable = (distance > 0) & (distance >= source.info.sensor.min_range)
        return points[usable & (distance <= settings.max_range)]

    poses, overlap = [], []
    with threads(2) as pool:
        scans = map_ahead(pool, read, scan_ids, ahead=4)
        for points, number in zip(scans, frame_numbers(scan_ids), strict=True):
            overlap.append(odometry.add(points, number))
            poses.append(odometry.pose)
            progress.update()
    return Drive(sequence, scan_ids, np.array(poses), np.array(overlap[1:]))


class _Odometry:
    """KISS-ICP that tries other starts where the predicted one leads nowhere.

    Where a sensor moved some metres since the scan before, the nearest points are often the rings
    on the ground, which move with it: it seems to stand.

    Args:
        kiss: a new KissICP.

    Attributes:
        pose: (4,4) of the latest scan.
    """

    def __init__(self, kiss: Any) -> None:
        self.pose = np.eye(4)
        self._kiss = kiss
        self._step = np.eye(4)  # between the latest two scans
        self._frame = self._gap = 0
        self._before: Any = None  # a tree of the latest scan's points

    def add(self, points: np.ndarray, frame: int) -> float:
        """Find the pose of the next scan.

        Args:
            points: (N,3) float64 with a position.
            frame: its number.

        Returns:
            The share of its points that are near points of the scan before, 0 to 1.
        """
        from scipy.spatial import cKDTree

        sparse, dense = self._kiss.voxelize(points)
        threshold = self._kiss.adaptive_threshold
        start, pose, overlap = self.pose, self.pose, 0.0
        if self._before is not None:
            gap = frame - self._frame
            steps = [_scaled(self._step, gap / self._gap if self._gap else 1.0)]
            tried = [self._try(sparse, steps[0], threshold.get_threshold())]
            if not self._gap or tried[0][1] < LEAST_OVERLAP:
                sigma = self._kiss.config.adaptive_threshold.initial_threshold
                steps += _starts()
                tried += [self._try(sparse, step, sigma) for step in steps[1:]]
            best = max(range(len(tried)), key=lambda i: tried[i][1])
            start = self.pose @ steps[best]
            pose, overlap = tried[best]
            threshold.update_model_deviation(np.linalg.inv(start) @ pose)
            self._step, self._gap = np.linalg.inv(self.pose) @ pose, gap
        self._kiss.local_map.update(dense, pose)
        self.pose, self._frame, self._before = pose, frame, cKDTree(points, balanced_tree=False)
        return overlap

    def _try(self, points: np.ndarray, step: np.ndarray, sigma: float) -> tuple[np.ndarray, float]:
        """The pose that is found from a first guess of the step, and its overlap."""
        pose = self._kiss.registration.align_points_to_map(
            points=points,
            voxel_map=self._kiss.local_map,
            initial_guess=self.pose @ step,
            max_correspondance_distance=3 * sigma,
            kernel=sigma,
        )
        moved = np.linalg.inv(self.pose) @ pose
        places = points @ moved[:3, :3].T + moved[:3, 3]
        distance, _ = self._before.query(places, distance_upper_bound=NEAR_M)
        return pose, float(np.isfinite(distance).sum() / max(len(points), 1))


def _starts() -> list[np.ndarray]:
    """Steps (4,4) ahead, back and to both sides: a sensor's x axis may point anywhere."""
    starts = []
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        for metres in _STARTS_M:
            start = np.eye(4)
            start[:2, 3] = x * metres, y * metres
            starts.append(start)
    return starts


def _scaled(step: np.ndarray, factor: float) -> np.ndarray:
    """The motion (4,4) of ``factor`` times the frames at the same velocity."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
    scaled = np.eye(4)
    scaled[:3, :3] = Rotation.from_rotvec(factor * turn).as_matrix()
    scaled[:3, 3] = factor * step[:3, 3]
    return scaled


def _lines(drive: Drive) -> str:
    """The poses as KITTI writes them."""
    frames = frame_numbers(drive.scan_ids)
    lines = [" ".join(["nan"] * 12)] * (frames[-1] + 1)
    for frame, pose in zip(frames, drive.poses, strict=True):
        lines[frame] = " ".join(f"{value:.9g}" for value in pose[:3].ravel())
    return "\n".join(lines) + "\n"


def _doubt(drive: Drive) -> str | None:
    """What speaks against the poses of a sequence, in one line."""
    assert drive.overlap is not None
    doubts = []
    change, jumps = drive.changes()
    if jumps.any():
        worst = int(np.where(jumps, change, 0.0).argmax())
        doubts.append(
            f"{jumps.sum()} jumps, the largest of {change[worst]:.1f} m a frame at "
            f"{drive.scan_ids[worst + 2]}"
        )
    poor = drive.overlap < LEAST_OVERLAP
    if poor.any():
        worst = int(drive.overlap.argmin())
        doubts.append(
            f"{poor.sum()} scans barely overlap the scan before, the least ({drive.overlap[worst]:.0%}) is "
            f"{drive.scan_ids[worst + 1]}"
        )
    if not doubts:
        return None
    return f"sequence {drive.sequence}: {'; '.join(doubts)}: look at its poses before you use them"
