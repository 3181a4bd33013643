"""Find the row rules that a data set's files allow, and the number of beams."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.survey.directions import NEAR_M, widest_gap_deg
from rangeseg.geometry.beams import ORDERED, count_turns, descent, firing_beams
from rangeseg.geometry.sensor import RowRule

MOST_BEAMS = 256
USUAL_BEAMS = (8, 16, 32, 64, 128, 256)
"""Estimates are rounded to these: the common devices, and the tallest image for others."""

_STEADY = 0.9
"""Least share of the inclinations' variance that true beams explain."""

_CLUSTERS_FROM_M = 5.0  # nearer, the beams' offsets in the device blur the clusters
_CLUSTERS_INDOORS_FROM_M = 2.0  # used if few points are farther away
_OUTDOORS = 0.6  # least share of points beyond 5 m; real scans: .73 and more, indoors .41 at most
_BIN_DEG = 0.01
_BLUR_DEG = 0.03
_DIP = 0.3  # least prominence of a cluster, as a share of its height


@dataclass(frozen=True)
class Finding:
    """The number of beams by a row rule, and the evidence; None and the reason if it fails."""

    rule: RowRule
    beams: int | None
    note: str


class RowRules:
    """Collects evidence from scan after scan.

    Args:
        beams: the described number; used where only the inclinations remain.
    """

    def __init__(self, beams: int | None = None) -> None:
        self._described = beams
        self._firings: set[int] = set(range(4, MOST_BEAMS + 1))
        self._turns: Counter[int] = Counter()
        self._turns_steady = True
        self._highest_ring: int | None = None
        self._ring_steady, self._ring_ordered, self._ring_falls = True, True, 0
        self._clusters: list[int] = []

    def add(self, scan: Scan) -> None:
        """Add one scan, with points in file order."""
        points = scan.points
        inclination, depth = inclinations(points)
        far = depth >= NEAR_M
        if not far.any():
            return
        self._firings = {
            beams
            for beams in self._firings
            if len(points) % beams == 0 and firing_beams(points, beams, NEAR_M) is not None
        }
        turn = np.empty(len(points), dtype=np.int32)
        azimuth = np.degrees(np.arctan2(points[far, 1], points[far, 0]))
        turns = count_turns(points, turn, 360.0 - widest_gap_deg(azimuth)[0])
        self._turns[turns] += 1
        if turns <= MOST_BEAMS:
            explained, order = _explained(inclination[far], turn[far])
            # The beams of a file that lists second returns after the first ones fall twice.
            self._turns_steady &= explained >= _STEADY and order >= ORDERED
        if scan.ring is not None:
            highest = int(scan.ring.max())
            self._highest_ring = max(highest, self._highest_ring or 0)
            explained, order = _explained(inclination[far], scan.ring[far])
            self._ring_steady &= explained >= _STEADY
            self._ring_ordered &= abs(order) >= ORDERED
            self._ring_falls += 1 if order > 0 else -1
        clear = depth >= _CLUSTERS_FROM_M
        if clear.sum() < _OUTDOORS * far.sum():
            clear = depth >= _CLUSTERS_INDOORS_FROM_M
        self._clusters.append(count_clusters(inclination[clear]))

    @property
    def ring_rises(self) -> bool:
        """Whether the ring counts from the lowest beam, where 0 should be the highest."""
        return self._ring_falls < 0

    def findings(self) -> list[Finding]:
        """One finding per rule; the rule that loses the fewest points comes first."""
        return [self._file_order(), self._ring(), self._scan_order(), self._inclination()]

    def _file_order(self) -> Finding:
        if self._turns and self._firings:
            beams = min(self._firings)  # any multiple fits as well
            return Finding("file_order", beams, f"every scan lists whole firings of {beams} points")
        return Finding("file_order", None, "points are not listed in whole, evenly spaced firings")

    def _ring(self) -> Finding:
        if self._highest_ring is None:
            return Finding("ring", None, "no column names the beam")
        if not self._ring_steady:
            return Finding("ring", None, "that column does not go with the inclination")
        if not self._ring_ordered:
            note = "the beams of that column do not fall or rise one by one"
            return Finding("ring", None, note)
        first = "lowest" if self.ring_rises else "highest"
        return Finding("ring", self._highest_ring + 1, f"0 is the {first} beam")

    def _scan_order(self) -> Finding:
        low, high = min(self._turns, default=0), max(self._turns, default=0)
        if low != high:
            note = f"the order of points shows {low} to {high} beams in different scans"
        elif not 2 <= low <= MOST_BEAMS or not self._turns_steady:
            note = "points are not listed beam after beam from the highest to the lowest"
        else:
            return Finding("scan_order", low, f"every scan lists {low} beams one after the other")
        return Finding("scan_order", None, note)

    def _inclination(self) -> Finding:
        seen = int(np.median(self._clusters)) if self._clusters else 1
        clusters = f"{seen} clusters of inclinations in a scan"
        if self._described is not None:
            return Finding("inclination", self._described, f"as described; about {clusters}")
        beams = min(USUAL_BEAMS, key=lambda usual: abs(usual - seen))
        return Finding("inclination", beams, f"an estimate: about {clusters}")


def find_ring(values: np.ndarray) -> int | None:
    """Find the column of values (N, columns) with the beam of each point; None if none."""
    inclination, depth = inclinations(values)
    far = depth >= NEAR_M
    for column in range(4, values.shape[1]):
        ring = values[far, column]
        whole = ring.size > 0 and np.isfinite(ring).all() and not (ring % 1).any()
        if whole and 0 <= ring.min() < ring.max() < MOST_BEAMS:
            explained, order = _explained(inclination[far], ring.astype(np.int32))
            if explained >= _STEADY and abs(order) >= ORDERED:
                return column
    return None


def inclinations(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inclination in degrees and depth in metres of points (N,4), each (N,) float64.

    Both are 0 for a point without a position.
    """
    xyz = points[:, :3].astype(np.float64)
    depth = np.sqrt(np.square(xyz).sum(axis=1))
    real = np.isfinite(depth) & (depth > 0)
    depth = np.where(real, depth, 0.0)
    sine = np.divide(xyz[:, 2], depth, out=np.zeros(len(xyz)), where=real)
    return np.degrees(np.arcsin(sine)), depth


def count_clusters(inclination: np.ndarray) -> int:
    """Estimate the number of beams of inclinations (N,) in degrees: peaks of their histogram."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    bins = round(180 / _BIN_DEG)
    counts = np.histogram(inclination, bins, (-90, 90))[0].astype(np.float64)
    smooth = gaussian_filter1d(counts, _BLUR_DEG / _BIN_DEG, mode="constant")
    peaks, found = find_peaks(smooth, prominence=0)
    height = smooth[peaks]
    high = height > 0.02 * smooth.max()
    return int(np.count_nonzero(high & (found["prominences"] > _DIP * height)))


def _explained(inclination: np.ndarray, beams: np.ndarray) -> tuple[float, float]:
    """The share of the inclinations' variance explained by the beam, and their ``descent``."""
    variance = inclination.var()
    if variance == 0.0:
        return 0.0, 0.0
    count = np.bincount(beams)
    total = np.bincount(beams, weights=inclination)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    rest = inclination - mean[beams]
    return float(1.0 - rest.var() / variance), descent(mean)
