"""Compare propagated labels with the truth: coverage and correctness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rangeseg.datasets.base import DatasetInfo
from rangeseg.datasets.labels import IGNORE
from rangeseg.motion.write import Propagation
from rangeseg.system.progress import Progress

RANGES_M = (10, 20, 30, 50)
"""Edges of the range bins in metres."""


class Verification:
    """Counts of points by truth and propagated label.

    Args:
        info: info of the data set.

    Attributes:
        counts: (K,K+1) int64: truth in the rows, propagated label in the columns; the last column
            counts points without one.
        by_distance: distance of the nearest labelled scan, as text -> such counts.
        by_range: bin of the range, as text -> such counts.
    """

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info
        classes = info.label_map.num_classes
        self.counts = np.zeros((classes, classes + 1), dtype=np.int64)
        self.by_distance: dict[str, np.ndarray] = {}
        self.by_range: dict[str, np.ndarray] = {}

    def add(self, points: np.ndarray, truth: np.ndarray, given: np.ndarray, apart: str) -> None:
        """Count the points of a scan; those whose truth is IGNORE are left out.

        Args:
            points: (N,4).
            truth: (N,) uint8 train ids.
            given: (N,) uint8, IGNORE where unknown.
            apart: distance of the nearest labelled scan.
        """
        counts = self._count(truth, given)
        self.counts += counts
        self.by_distance[apart] = self.by_distance.get(apart, 0) + counts
        bins = np.digitize(np.linalg.norm(points[:, :3], axis=1), RANGES_M)
        for number, name in enumerate(_range_names()):
            here = bins == number
            counts = self._count(truth[here], given[here])
            self.by_range[name] = self.by_range.get(name, 0) + counts

    def _count(self, truth: np.ndarray, given: np.ndarray) -> np.ndarray:
        classes = self.info.label_map.num_classes
        known = truth != IGNORE
        columns = np.minimum(given[known], classes).astype(np.int64)
        pairs = truth[known].astype(np.int64) * (classes + 1) + columns
        return np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def document(self) -> dict[str, Any]:
        """All shares, from 0 to 1, for JSON; None without points.

        ``right`` is over points with a propagated label, ``covered`` over all with a known truth,
        ``miou`` over covered points and their classes.
        """
        iou = self._iou()
        classes = {}
        for number, name in enumerate(self.info.label_map.names):
            if self.counts[number].any():
                hits, covered = self.counts[number, number], self.counts[number, :-1].sum()
                classes[name] = {
                    "right": _share(hits, covered),
                    "covered": _share(covered, self.counts[number].sum()),
                    "iou": iou[number],
                    "points": int(self.counts[number].sum()),
                }
        present = [iou[n] for n in np.flatnonzero(self.counts[:, :-1].sum(axis=1))]
        return {
            **_shares(self.counts),
            "miou": float(np.mean(present)) if present else None,
            "classes": classes,
            "apart": {name: _shares(c) for name, c in sorted(self.by_distance.items(), key=_order)},
            "range": {name: _shares(self.by_range[name]) for name in self.by_range},
        }

    def _iou(self) -> list[float | None]:
        covered = self.counts[:, :-1]
        hits = np.diag(covered)
        union = covered.sum(axis=0) + covered.sum(axis=1) - hits
        return [_share(h, u) for h, u in zip(hits, union, strict=True)]


def verify(propagation: Propagation, apart: Callable[[str, str], str]) -> Verification:
    """Compare the labels of a folder with the data set's, with a progress bar.

    Args:
        propagation: folder of propagated labels.
        apart: (scan id, labelled scan id) -> their distance, as text.

    Raises:
        DataError: a scan or its labels cannot be read.
    """
    source = propagation.source
    found = Verification(source.info)
    wanted = [scan_id for scan_id in propagation.sources if source.has_labels(scan_id)]
    with Progress("verify", len(wanted), "scan") as progress:
        for scan_id in wanted:
            scan = source.read_scan(scan_id)
            assert scan.labels is not None
            nearest = propagation.sources[scan_id][0]
            given = propagation.labels(scan_id)
            found.add(scan.points, scan.labels, given, apart(scan_id, nearest))
            progress.update()
    return found


def _range_names() -> list[str]:
    edges = (0, *RANGES_M)
    return [f"{a}-{b} m" for a, b in zip(edges, RANGES_M, strict=False)] + [f"{edges[-1]}+ m"]


def _order(item: tuple[str, Any]) -> float:
    return float(item[0].split()[0])


def _shares(counts: np.ndarray) -> dict[str, float | int | None]:
    covered = counts[:, :-1].sum()
    right = np.diag(counts[:, :-1]).sum()
    total = counts.sum()
    return {
        "right": _share(right, covered),
        "covered": _share(covered, total),
        "points": int(total),
    }


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
