"""Propagate labels of labelled scans along the poses to nearby scans.

A point of an unlabelled scan takes the vote of the nearest labelled points, after alignment by
poses.

Reference:
    "Learning from Spatio-temporal Correlation for Semi-Supervised LiDAR Semantic Segmentation"
    (PLE), 2024, carries labels to neighbouring scans for a voxel network; the vote is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rangeseg.datasets.bad_scans import BadScan
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import DataError
from rangeseg.geometry.kernel import kernel
from rangeseg.motion.neighbours import MOST_SOURCES, Reach, ReachSetting
from rangeseg.motion.poses import SequencePoses
from rangeseg.motion.standing import seems_to_stand
from rangeseg.settings import Settings
from rangeseg.system.prefetch import map_ahead, threads
from rangeseg.system.process import cores

_log = logging.getLogger(__name__)


class PropagationSettings(Settings):
    """Settings of the propagation, chosen on simulated and real scans."""

    reach: ReachSetting = Reach(0)  # 10: frames; 15m: metres; 1.5s: seconds; 0: none
    distance: float = Field(default=1.2, gt=0)  # m, largest distance to a voting labelled point
    # the same for movable classes, which may have moved
    movable_distance: float = Field(default=0.6, ge=0)
    min_confidence: float = Field(default=0.8, ge=0, lt=1)  # see Propagated
    poses: Path | None = None  # a folder of SEQUENCE.txt; None: the data set's own


class TrainPropagation(PropagationSettings):
    """Settings of training on propagated labels.

    Chosen by the mIoU on the simulated validation sequence, for scans 1.5 m apart.
    """

    movable_distance: float = Field(default=1.2, ge=0)
    # share of propagated scans in labelled crops; a share near 1 is worse than no propagation.
    # None: as among the scans
    share: float | None = Field(default=0.25, ge=0, lt=1)
    folder: Path | None = None  # folder of the labels; None: the run's folder

    def share_of(self, labelled: int, propagated: int) -> float:
        """The share of propagated scans among the labelled crops."""
        return propagated / (labelled + propagated) if self.share is None else self.share


@dataclass(frozen=True)
class Propagated:
    """The propagated labels of a scan.

    Attributes:
        scan_id: an unlabelled scan.
        sources: the labelled scans whose points voted, the nearest first.
        labels: (N,) uint8 train ids, IGNORE without a near labelled point.
        confidence: (N,) uint8, 255 times the label's votes over all votes plus one. The extra vote
            weighs as a labelled point 1 m away, so few or far points are unsure.
    """

    scan_id: str
    sources: list[str]
    labels: np.ndarray
    confidence: np.ndarray

    def sure(self, min_confidence: float) -> np.ndarray:
        """The labels (N,), IGNORE at too low confidence."""
        return np.where(self.confidence >= 255 * min_confidence, self.labels, np.uint8(IGNORE))


_NEIGHBOURS = 8
"""Largest number of labelled points of one scan that vote on a point."""

_UPRIGHT = 2.0
"""The weight of a vertical metre: kerbs are low, and beams are far apart along the ground."""

_BLUR_M = 0.1
"""A vote is 1 / (d² + this²): nearer points differ only by noise."""

_FAR_VOTE = 1.0  # vote of a point 1 m away


def propagate(
    source: ScanSource,
    poses: Mapping[str, SequencePoses],
    sources: Mapping[str, list[str]],
    settings: PropagationSettings,
    report: Callable[[BadScan], None],
) -> Iterator[Propagated]:
    """Carry labels to unlabelled scans, on all cores; their own labels are not read.

    Args:
        source: the data set.
        poses: sequence -> its poses.
        sources: unlabelled scan -> the labelled scans near it, see ``find_sources``.
        settings: settings of the propagation.
        report: called with each unreadable scan; it raises, or the scan is left out.

    Yields:
        The propagated labels of each scan, in the order of ``sources``.
    """
    known = {i: pose for found in poses.values() for i, pose in found.poses.items()}
    label_map = source.info.label_map
    limits = np.full(256, settings.distance)
    limits[[label_map.names.index(name) for name in source.info.movable]] = (
        settings.movable_distance
    )

    # A tree takes 10 MB; neighbouring scans share recent ones.
    @lru_cache(maxsize=2 * MOST_SOURCES + cores())
    def tree_of(labelled: str) -> _Tree:
        return _Tree(source.read_scan(labelled), max(settings.distance, settings.movable_distance))

    def give(item: tuple[str, list[str]]) -> tuple[Propagated | None, list[BadScan]]:
        scan_id, near = item
        bad: list[BadScan] = []
        try:
            scan = source.read_scan(scan_id, with_labels=False)
        except DataError as error:
            return None, [BadScan(scan_id, error)]
        votes = np.zeros((len(scan.points), label_map.num_classes), dtype=np.float32)
        for labelled in near:
            to_labelled = np.linalg.inv(known[labelled]) @ known[scan_id]
            try:
                tree = tree_of(labelled)
            except DataError as error:
                bad.append(BadScan(labelled, error))
                continue
            if seems_to_stand(tree.scan, scan, to_labelled):
                _log.warning(
                    "%s sees what %s sees, but by its pose it is %.1f m away: no label is carried",
                    scan_id, labelled, np.linalg.norm(to_labelled[:3, 3]),
                )  # fmt: skip
                continue
            tree.vote(scan.points, to_labelled, limits, votes)
        labels, confidence = _elect(votes)
        return Propagated(scan_id, near, labels, confidence), bad

    with threads(cores()) as pool:
        for given, bad in map_ahead(pool, give, sources.items(), 2 * cores()):
            for each in bad:
                report(each)
            if given is not None:
                yield given


class _Tree:
    """A search tree of the labelled points of a scan."""

    def __init__(self, scan: Scan, farthest: float) -> None:
        from scipy.spatial import cKDTree

        assert scan.labels is not None
        known = scan.labels != IGNORE
        self.scan, self.labels, self.farthest = scan, scan.labels[known], farthest
        places = _stretched(scan.points[known, :3].astype(np.float64))
        self.tree: Any = cKDTree(places, balanced_tree=False, compact_nodes=False)

    def vote(
        self, points: np.ndarray, pose: np.ndarray, limits: np.ndarray, votes: np.ndarray
    ) -> None:
        """Add the votes of the labelled points near each point.

        Args:
            points: (N,4) points of another scan.
            pose: (4,4) from its frame to the labelled scan's.
            limits: (256,) largest distance in metres of each voting label.
            votes: (N,K) float32; changed in place.
        """
        if not len(self.labels):
            return
        x, y, z = points[:, :3].T
        there = np.flatnonzero(np.isfinite(x + y + z) & ((x != 0) | (y != 0) | (z != 0)))
        places = points[there, :3] @ pose[:3, :3].T + pose[:3, 3]
        distance, nearest = self.tree.query(
            _stretched(places), k=_NEIGHBOURS, distance_upper_bound=self.farthest
        )
        _add_votes(there, distance, nearest, self.labels, limits, votes)


def _stretched(places: np.ndarray) -> np.ndarray:
    places[:, 2] *= _UPRIGHT
    return places


@kernel
def _add_votes(
    where: np.ndarray,
    distance: np.ndarray,
    nearest: np.ndarray,
    labels: np.ndarray,
    limits: np.ndarray,
    votes: np.ndarray,
) -> None:
    """Add the votes of labelled points ``nearest`` (n,k), at ``distance`` (n,k), to rows (n,)."""
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            d = distance[i, j]
            if not d < np.inf:
                break  # they are sorted, so the rest is beyond the limit
            label = labels[nearest[i, j]]
            if d <= limits[label]:
                votes[where[i], label] += 1.0 / (d * d + _BLUR_M * _BLUR_M)


@kernel
def _elect(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elect the label (N,) uint8 with most votes (N,K), and its confidence (N,) uint8."""
    labels = np.full(votes.shape[0], IGNORE, dtype=np.uint8)
    confidence = np.zeros(votes.shape[0], dtype=np.uint8)
    for i in range(votes.shape[0]):
        total, most = np.float32(0.0), np.float32(0.0)
        for label in range(votes.shape[1]):
            total += votes[i, label]
            if votes[i, label] > most:
                most = votes[i, label]
                labels[i] = label
        confidence[i] = np.uint8(255.0 * most / (total + _FAR_VOTE))
    return labels, confidence
