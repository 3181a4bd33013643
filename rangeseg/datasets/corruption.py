"""Corrupted scans: fewer beams, lost points, noisy ranges, no intensity.

Reference:
    Kong et al., Robo3D: Towards Robust and Reliable 3D Perception against Corruptions, ICCV 2023,
    has beam missing, incomplete echo (of vehicles; here of any point) and motion blur (jitter;
    here along the ray). The severities, and the missing intensity, are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import ConfigError
from rangeseg.geometry.beams import beam_rows, beams_of_points
from rangeseg.geometry.sensor import Sensor

ALL = "all"

KINDS = {
    "beams": "beams:N (each Nth beam is kept, N from 2 to 16)",
    "points": "points:P (a share P of the points is lost, 0 < P < 1)",
    "noise": "noise:M (noise along the ray, standard deviation M metres, 0 < M <= 10)",
    "intensity": "intensity (0 everywhere)",
}
"""Name -> its form on the command line."""


@dataclass(frozen=True)
class Corruption:
    """A corruption of every scan.

    Attributes:
        kind: ``beams``, ``points``, ``noise`` or ``intensity``.
        severity: N of each Nth kept beam; the share of lost points; the standard deviation of the
            noise in metres; 0 for the intensity.
    """

    kind: str
    severity: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}:{self.severity:g}" if self.severity else self.kind


SEVERITIES = (
    Corruption("beams", 2), Corruption("beams", 4), Corruption("points", 0.5),
    Corruption("points", 0.9), Corruption("noise", 0.1), Corruption("noise", 0.3),
    Corruption("intensity"),
)  # fmt: skip
"""The corruptions of ``--corrupt all``, next to the clean scans."""


def parse_corruption(text: str) -> Corruption:
    """Parse ``beams:2``, ``points:0.5``, ``noise:0.1`` or ``intensity``.

    Raises:
        ConfigError: an unknown kind or a severity out of range; the message lists the known kinds.
    """
    kind, _, value = text.partition(":")
    try:
        corruption = Corruption(kind, float(value) if value else 0.0)
    except ValueError:
        corruption = Corruption(kind, math.nan)
    severity = corruption.severity
    possible = {
        "beams": severity in range(2, 17),
        "points": 0.0 < severity < 1.0,
        "noise": 0.0 < severity <= 10.0,
        "intensity": text == "intensity",
    }
    if kind not in possible:
        known = ", ".join(KINDS.values())
        raise ConfigError(
            f"--corrupt {text}: unknown corruption '{kind}'; known: {known}; evaluate takes {ALL} "
            "too"
        )
    if not possible[kind]:
        raise ConfigError(f"--corrupt {text}: write {KINDS[kind]}")
    return corruption


class Corrupted:
    """Reads the scans of a data set and corrupts them; see ``ScanReader``.

    The random numbers depend on the scan's id, so a scan is always corrupted alike. A lost point
    becomes NaN and its label IGNORE. Labels still match their points, and metrics count only the
    kept points.

    Rows are those of the original scan: the driver knows which beams are lost.

    Args:
        source: the data set.
        corruption: applied to each scan.
        sensor: sensor with the row rule of the range images.
    """

    def __init__(self, source: ScanSource, corruption: Corruption, sensor: Sensor) -> None:
        self.source, self.corruption, self.sensor = source, corruption, sensor

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """See ``ScanSource.read_scan``."""
        scan = self.source.read_scan(scan_id, with_labels)
        rows = beam_rows(scan.points, self.sensor, scan.ring)
        beams = beams_of_points(scan.points, self.source.info.sensor, scan.ring)
        points = corrupt_points(scan.points, self.corruption, scan_id, beams)
        labels = scan.labels
        if labels is not None:
            labels = np.where(np.isnan(points[:, 0]), np.uint8(IGNORE), labels)
        return replace(scan, points=points, labels=labels, beams=rows)


def corrupt_points(
    points: np.ndarray, corruption: Corruption, scan_id: str, beams: np.ndarray
) -> np.ndarray:
    """A corrupted copy of a scan, point for point.

    Args:
        points: (N,4) float32.
        corruption: applied to the points.
        scan_id: seeds the random numbers. A higher share loses the same points and more.
        beams: (N,) integer beam of each point.

    Returns:
        (N,4) float32; NaN where a point is lost.
    """
    points = points.copy()
    rng = np.random.default_rng(list(scan_id.encode()))
    if corruption.kind == "beams":
        points[beams % int(corruption.severity) != 0] = np.nan
    elif corruption.kind == "points":
        points[rng.random(len(points)) < corruption.severity] = np.nan
    elif corruption.kind == "noise":
        points[:, :3] *= _noisy_range(points[:, :3], corruption.severity, rng)[:, None]
    else:
        points[:, 3] = 0.0
    return points


def _noisy_range(xyz: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Range factors (N,) float32; noise never shortens a range below half."""
    noise = rng.normal(0.0, std, len(xyz))
    distance = np.linalg.norm(xyz.astype(np.float64), axis=1)
    seen = np.isfinite(distance) & (distance > 0.0)
    share = np.divide(noise, distance, out=np.zeros(len(xyz)), where=seen)
    return np.asarray(1.0 + np.maximum(share, -0.5), dtype=np.float32)
