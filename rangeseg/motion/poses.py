"""Read and check the poses of a sequence, and sort out unusable ones."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.pose_files import frame_numbers, read_poses
from rangeseg.errors import DataError

_log = logging.getLogger(__name__)

_NOT_RIGID = 1e-3
"""Largest deviation of a rotation's columns from orthonormal."""

_JUMP_M = 2.0
"""A step is a jump if it exceeds twice the longer neighbouring step by this (metres)."""

_STEP_M = 0.3
"""A shorter step has no direction of travel."""


@dataclass
class SequencePoses:
    """The sound poses of a sequence.

    Attributes:
        sequence: name of the sequence.
        origin: origin of the poses, for a report.
        poses: scan id -> (4,4) float64, LiDAR to world, of scans with a sound pose only.
        frames: scan id -> frame number, of all scans.
        times: scan id -> seconds, for scans with a known time.
        stretches: scan id -> number of its stretch without a jump.
        faults: scan id -> reason why its pose is not used.
    """

    sequence: str
    origin: str
    poses: dict[str, np.ndarray]
    frames: dict[str, int]
    times: dict[str, float]
    stretches: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of the used poses, for data that depend on them."""
        digest = hashlib.sha256()
        for scan_id, pose in sorted(self.poses.items()):
            digest.update(f"{scan_id} {self.frames[scan_id]} {self.stretches[scan_id]} ".encode())
            digest.update(pose.round(6).tobytes())
        return digest.hexdigest()


def load_poses(source: ScanSource, sequence: str, folder: Path | None = None) -> SequencePoses:
    """Load the poses of a sequence; log their faults, one line each.

    Args:
        source: the data set.
        sequence: one of its sequences.
        folder: folder with ``SEQUENCE.txt``, the LiDAR's poses in KITTI's or TUM's format, instead
            of the data set's poses.

    Raises:
        DataError: there are no poses, or they have another frame of reference.
    """
    scan_ids = source.sequence_ids(sequence)
    frames = dict(zip(scan_ids, frame_numbers(scan_ids), strict=True))
    times = source.times(sequence)
    if folder is None:
        try:
            poses, origin = source.poses(sequence), "data set"
        except DataError as error:
            if error.kind != "missing":
                raise
            raise DataError(
                f"sequence {sequence} has no poses ({error}): estimate them with `rangeseg-data "
                "poses`, and give their folder (--poses, train.propagation.poses)",
                kind="missing",
            ) from None
    else:
        path = folder / f"{sequence}.txt"
        poses, origin = read_poses(path, scan_ids, times), _origin(folder)
    found = SequencePoses(sequence, origin, poses, frames, times)
    check_poses(found)
    return found


def _origin(folder: Path) -> str:
    from rangeseg.motion.odometry import ORIGIN, is_estimated

    return ORIGIN if is_estimated(folder) else "files"


def check_poses(found: SequencePoses) -> None:
    """Remove unusable poses, and log why; mark jumps of the sequence.

    Args:
        found: changed in place.

    Raises:
        DataError: no pose is sound, or the sensor travels along its own vertical axis.
    """
    for scan_id in found.frames:
        fault = _fault(found.poses.get(scan_id))
        if fault is not None:
            found.faults[scan_id] = fault
            found.poses.pop(scan_id, None)
    _take_out_outliers(found)
    if not found.poses:
        first = next(iter(found.faults.values()), "no scan")
        raise DataError(
            f"sequence {found.sequence}: none of {len(found.frames)} scans has a usable pose "
            f"({first}): line n must be the pose of frame n, as in KITTI"
        )
    for fault in dict.fromkeys(found.faults.values()):
        of = [scan_id for scan_id, each in found.faults.items() if each == fault]
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        _log.warning("%s%s: the pose is not used: it %s", of[0], more, fault)
    _check_direction(found)
    _mark_jumps(found)


def _fault(pose: np.ndarray | None) -> str | None:
    """The fault of a single pose."""
    if pose is None:
        return "has no line in the file"
    if not np.isfinite(pose).all():
        return "is not finite"
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > _NOT_RIGID or np.linalg.det(rotation) < 0:
        return "is not rigid: its rotation stretches or mirrors"
    return None


def _take_out_outliers(found: SequencePoses) -> None:
    """Remove a pose far from both neighbours if these are near each other."""
    ids = list(found.poses)
    places = np.array([found.poses[i][:3, 3] for i in ids])
    for here in range(1, len(ids) - 1):
        before, after = places[here] - places[here - 1], places[here + 1] - places[here]
        there = min(np.linalg.norm(before), np.linalg.norm(after))
        if there > 2 * np.linalg.norm(before + after) + _JUMP_M:
            found.faults[ids[here]] = "jumps away for one scan and back"
            del found.poses[ids[here]]


def _check_direction(found: SequencePoses) -> None:
    """Refuse poses along the z axis: cars do not fly, so these are the camera's."""
    poses = list(found.poses.values())
    steps = np.array([(np.linalg.inv(a) @ b)[:3, 3] for a, b in pairwise(poses)])
    steps = steps.reshape(-1, 3)
    steps = steps[np.linalg.norm(steps, axis=1) > _STEP_M]
    if len(steps) and np.abs(steps[:, 2]).sum() > np.abs(steps[:, :2]).max(axis=1).sum():
        raise DataError(
            f"sequence {found.sequence}: its poses ({found.origin}) move along the z axis, as a "
            "camera's: add KITTI's calib.txt with its line Tr, or give poses of the LiDAR"
        )


def _mark_jumps(found: SequencePoses) -> None:
    """Number the stretches between jumps: scans on both sides are no neighbours."""
    ids = list(found.poses)
    places = np.array([found.poses[i][:3, 3] for i in ids])
    numbers = np.array([found.frames[i] for i in ids])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(numbers)  # m a frame
    beside = np.zeros(len(steps))
    if len(steps) > 1:
        beside = np.maximum(np.append(steps[1:], 0.0), np.append(0.0, steps[:-1]))
        jumps = steps > 2 * beside + _JUMP_M
    else:
        jumps = np.zeros(len(steps), dtype=bool)
    stretch = 0
    for place, scan_id in enumerate(ids):
        if place and jumps[place - 1]:
            stretch += 1
            _log.warning(
                "sequence %s jumps %.1f m between %s and %s: no label is carried across",
                found.sequence, steps[place - 1] * (numbers[place] - numbers[place - 1]),
                ids[place - 1], scan_id,
            )  # fmt: skip
        found.stretches[scan_id] = stretch


def all_poses(
    source: ScanSource, sequences: Sequence[str], folder: Path | None = None
) -> dict[str, SequencePoses]:
    """Load the poses of all sequences; log those without.

    Raises:
        DataError: no sequence has poses, or one has another frame of reference.
    """
    found, missing = {}, []
    for sequence in sequences:
        try:
            found[sequence] = load_poses(source, sequence, folder)
        except DataError as error:
            if error.kind != "missing":
                raise
            missing.append(str(error))
    if not found:
        raise DataError(missing[0] if missing else "there is no sequence", kind="missing")
    for message in missing:
        _log.warning("%s", message)
    return found
