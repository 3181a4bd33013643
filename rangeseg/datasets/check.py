"""Checks a data set file by file, and says all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import DataError
from rangeseg.progress import Progress


@dataclass
class Part:
    """What was found in one sequence (or in a split that has no sequences).

    Attributes:
        split: the split it belongs to.
        name: the sequence.
        scan_ids: its scans.
        labelled: how many scans have sound labels.
        points: points of all sound scans.
        empty_returns: points that are NaN or (0, 0, 0); counted by a deep check only.
        counts: (256,) points per train id, ignored ones at 255; by a deep check only.
        problems: one line each; training or evaluation would fail on them.
        notes: one line each; worth knowing.
    """

    split: str
    name: str
    scan_ids: list[str] = field(default_factory=list)
    labelled: int = 0
    points: int = 0
    empty_returns: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_dataset(
    source: ScanSource,
    splits: Sequence[str] | None = None,
    deep: bool = False,
    labelled: Sequence[str] | None = None,
) -> list[Part]:
    """Check every scan; nothing found wrong with one of them stops the others.

    Args:
        source: the data set.
        splits: which splits; None takes all, and leaves out a test split that is not there, which
            training does not need.
        deep: read every point and label; otherwise only sizes of files are looked at where the
            data set allows it.
        labelled: the only scans of the train split that need labels; None means all.

    Raises:
        DataError: the root is not such a data set.
        ConfigError: no such split.
    """
    source.check_root()
    parts = [
        part
        for split in splits or source.splits
        for part in _parts(source, split, needed=splits is not None or split != "test")
    ]
    total = sum(len(part.scan_ids) for part in parts)
    need = None if labelled is None else set(labelled)
    with Progress(f"checking {source.info.name}", total, "scans") as progress:
        for part in parts:
            for scan_id in part.scan_ids:
                required = part.split == "val" or (
                    part.split == "train" and (need is None or scan_id in need)
                )
                try:
                    _check_scan(source, scan_id, part, deep, required)
                except DataError as error:
                    part.problems.append(str(error))
                progress.update()
    return parts


def _parts(source: ScanSource, split: str, needed: bool) -> list[Part]:
    """The sequences of a split with their scans; a missing one is a problem if it is needed."""
    parts = []
    for sequence in source.sequences(split):
        part = Part(split, sequence)
        try:
            part.scan_ids = source.sequence_ids(sequence)
        except DataError as error:
            (part.problems if needed else part.notes).append(str(error))
        parts.append(part)
    if any(part.scan_ids for part in parts):
        return parts
    if not needed:
        return []
    # One line instead of eleven that say the same.
    reason = f"no sequence of the split {split} can be read: {parts[0].problems[0]}"
    return [Part(split, "none", problems=[reason])]


def _check_scan(source: ScanSource, scan_id: str, part: Part, deep: bool, required: bool) -> None:
    """Check one scan and add it to its part.

    Raises:
        DataError: the scan could not be used.
    """
    # Labels that nobody needs are still checked where there are some.
    with_labels = required or source.has_labels(scan_id)
    points = source.check_files(scan_id, with_labels)
    if not deep:
        part.points += points
        part.labelled += with_labels
        return
    scan = source.read_scan(scan_id, with_labels)
    part.points += len(scan.points)
    part.labelled += scan.labels is not None
    _look_inside(scan, part)


def _look_inside(scan: Scan, part: Part) -> None:
    """Count classes and empty returns, and note what a network would choke on silently."""
    with np.errstate(over="ignore", invalid="ignore"):
        depth = np.square(scan.points[:, :3]).sum(axis=1)
    real = np.isfinite(depth) & (depth > 0)
    part.empty_returns += int(len(real) - np.count_nonzero(real))
    if not real.any():
        part.notes.append(f"{scan.scan_id} has no point with a position: it teaches nothing")
        return
    intensity = scan.points[real, 3]
    if not (intensity.min() >= 0.0 and intensity.max() <= 1.0):
        part.notes.append(
            f"{scan.scan_id} has intensities from {intensity.min():g} to {intensity.max():g}, "
            "expected 0 to 1: scale them (255 is a common factor)"
        )
    if scan.labels is not None:
        part.counts += np.bincount(scan.labels, minlength=IGNORE + 1)
        if (scan.labels == IGNORE).all():
            part.notes.append(f"{scan.scan_id} has only ignored labels: it teaches nothing")
