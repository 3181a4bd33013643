"""Analyse the directions of points: beams, azimuth steps, repeated and hidden points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NEAR_M = 1.0
"""Nearer points, mostly echoes of the vehicle, are not used."""

MOST_POINTS = 80_000
"""Most points of a scan to use; beyond this, use all points of four azimuth windows."""

_FEWEST = 300  # points needed
_INCLINATION_BIN_DEG = 0.05  # below the beam spacing of any device, 0.1 or more
_SECTORS = 72
_BROAD_BINS = 20  # a degree: broader structure belongs to the scene
_STEP_BIN_DEG = 0.002
_SMALLEST_STEP_DEG, _LARGEST_STEP_DEG = 0.03, 3.0  # devices have 0.07 to 1
_SAME_DIRECTION_DEG = 0.01
_CELL_DEG = 0.2
_HIDDEN_M = 0.5
_PLACE_M, _PLACES = 3.0, 200
_STRETCH_DEG, _CROWD = 10.0, 1.2  # sensors turn unevenly: 1.09 occurs in single turns


class Directions(NamedTuple):
    """Points in polar coordinates, without those nearer than NEAR_M.

    Attributes:
        azimuth_deg: (M,) float64 in -180..180, 90 is left.
        inclination_deg: (M,) float64, up is positive.
        depth: (M,) float64 in metres.
    """

    azimuth_deg: np.ndarray
    inclination_deg: np.ndarray
    depth: np.ndarray


class Step(NamedTuple):
    """The azimuth step between neighbours of one beam.

    Attributes:
        degrees: width, 0 if none was found.
        contrast: its frequency relative to one and a half steps. Spinning sensors: 50 or more, 6
            with 60 % of the points dropped; a rosette 1 to 6.
        between: share of steps from a twentieth to a half of it: few in one turn.
    """

    degrees: float
    contrast: float
    between: float

    def columns(self, view_deg: float = 360.0) -> int:
        """Number of steps in a horizontal field of view."""
        return round(view_deg / self.degrees)


def find_directions(xyz: np.ndarray, up: int = 2) -> Directions:
    """Directions of points (N,3) where one axis (0, 1 or 2) points up."""
    xyz = xyz.astype(np.float64)
    depth = np.sqrt(np.square(xyz).sum(axis=1))
    seen = np.isfinite(depth) & (depth >= NEAR_M)
    xyz, depth = xyz[seen], depth[seen]
    azimuth = np.degrees(np.arctan2(xyz[:, (up + 2) % 3], xyz[:, (up + 1) % 3]))
    inclination = np.degrees(np.arcsin(np.clip(xyz[:, up] / depth, -1.0, 1.0)))
    return Directions(azimuth, inclination, depth)


def thinned(found: Directions, most: int = MOST_POINTS) -> Directions:
    """The points in four azimuth windows with about ``most`` points; neighbours stay together."""
    share = most / max(len(found.depth), 1)
    if share >= 1.0:
        return found
    inside = (found.azimuth_deg % 90.0) < 90.0 * share
    return Directions(*(values[inside] for values in found))


def beam_likeness(found: Directions) -> float | None:
    """Similarity of fine inclinations in neighbouring 5-degree sectors: -1 to 1.

    The beams of a spinning sensor have the same inclinations everywhere. Smooth scenes and a
    rosette's directions have no such lines. A scan that is not seen from its sensor, or has a
    tilted axis, has none either.

    Returns:
        None for too few points.
    """
    if len(found.depth) < _FEWEST:
        return None
    from scipy.ndimage import uniform_filter1d

    sector = (found.azimuth_deg + 180.0) * (_SECTORS / 360.0)
    place = ((found.inclination_deg + 90.0) / _INCLINATION_BIN_DEG).astype(np.int64)
    place -= place.min()
    bins = int(place.max()) + 1
    cell = (sector.astype(np.int64) % _SECTORS) * bins + place
    counts = np.bincount(cell, minlength=_SECTORS * bins).reshape(_SECTORS, bins)
    counts = counts.astype(np.float64)
    fine = counts - uniform_filter1d(counts, _BROAD_BINS, axis=1, mode="constant")
    power = np.square(fine).sum()
    return float((fine * np.roll(fine, -1, axis=0)).sum() / power) if power else None


def azimuth_differences(found: Directions) -> np.ndarray:
    """Differences (K,) in degrees between neighbours of one beam, for any file order.

    Points within 0.05 degrees of inclination count as one beam. If jitter spreads a beam over two
    bins, multiples of its step occur too, as with lost echoes.
    """
    beam = np.floor(found.inclination_deg / _INCLINATION_BIN_DEG).astype(np.int64)
    order = np.argsort(beam * 1000.0 + found.azimuth_deg)
    differences = np.diff(found.azimuth_deg[order])
    within: np.ndarray = differences[np.diff(beam[order]) == 0]
    return within


def find_step(differences: np.ndarray) -> Step:
    """The most frequent of ``azimuth_differences``: lost echoes only add its multiples."""
    from scipy.ndimage import gaussian_filter1d

    tried = (differences > _SMALLEST_STEP_DEG) & (differences < _LARGEST_STEP_DEG)
    steps = differences[tried]
    if len(steps) < _FEWEST // 10:
        return Step(0.0, 0.0, 0.0)
    bins = round(_LARGEST_STEP_DEG / _STEP_BIN_DEG)
    counts = np.histogram(steps, bins, (0.0, _LARGEST_STEP_DEG))[0].astype(np.float64)
    smooth = gaussian_filter1d(counts, 3.0, mode="constant")
    peak = float(smooth.argmax() + 0.5) * _STEP_BIN_DEG
    aside = smooth[min(round(1.5 * peak / _STEP_BIN_DEG), bins - 1)]
    step = peak
    for _ in range(3):  # a jitter of single steps averages out
        step = float(steps[np.abs(steps - step) < 0.45 * step].mean())
    between = (differences > 0.05 * step) & (differences < 0.5 * step)
    contrast = smooth.max() / max(aside, 0.01 * smooth.max())
    return Step(step, float(contrast), float(between.mean()))


def nearest_of_each_direction(found: Directions) -> Directions:
    """The first return of each direction, to a hundredth of a degree.

    For a single-return scan these are all points.
    """
    azimuth, inclination = _cells(found, 2 * _SAME_DIRECTION_DEG, _INCLINATION_BIN_DEG)
    order = np.argsort(found.depth)
    first = np.unique((azimuth * 10_000 + inclination)[order], return_index=True)[1]
    return Directions(*(values[order[first]] for values in found))


def hidden_share(single: Directions) -> float:
    """Share of points far behind another one of nearly the same direction.

    Seen from the sensor, points hide those behind them: few are hidden, at edges.

    Args:
        single: result of ``nearest_of_each_direction``, without further returns.
    """
    azimuth, inclination = _cells(single, _CELL_DEG, _CELL_DEG)
    order = np.argsort(single.depth)
    cell, depth = (azimuth * 10_000 + inclination)[order], single.depth[order]
    _, first, place = np.unique(cell, return_index=True, return_inverse=True)
    return float((depth - depth[first][place] > _HIDDEN_M).mean()) if len(depth) else 0.0


def crowded_share(single: Directions, step: Step) -> float:
    """Share of points where a beam has more points than one turn has steps.

    Args:
        single: result of ``nearest_of_each_direction``.
        step: result of ``find_step``.
    """
    if not step.degrees:
        return 0.0
    azimuth, inclination = _cells(single, _STRETCH_DEG, _INCLINATION_BIN_DEG)
    counts = np.unique(azimuth * 10_000 + inclination, return_counts=True)[1]
    return float(counts[counts > _CROWD * _STRETCH_DEG / step.degrees].sum() / counts.sum())


def _cells(found: Directions, across_deg: float, along_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell indices of points, by azimuth and by inclination."""
    azimuth = np.floor((found.azimuth_deg + 180.0) / across_deg).astype(np.int64)
    return azimuth, np.floor((found.inclination_deg + 90.0) / along_deg).astype(np.int64)


def densest_place(xyz: np.ndarray) -> tuple[float, float]:
    """Find the densest place of points (N,3) from above: nearly always around the sensor.

    Returns:
        Its distance from the origin in metres, and the density at the origin relative to it.
    """
    from scipy.ndimage import uniform_filter

    centre = np.median(xyz[:, :2], axis=0).astype(np.float64)
    half = _PLACES // 2
    place = np.floor((xyz[:, :2] - centre) / _PLACE_M).astype(np.int64) + half
    place = place[((place >= 0) & (place < _PLACES)).all(axis=1)]
    counts = np.bincount(place[:, 0] * _PLACES + place[:, 1], minlength=_PLACES**2)
    dense = uniform_filter(counts.reshape(_PLACES, _PLACES).astype(np.float64), 3, mode="constant")
    peak = np.array(np.unravel_index(dense.argmax(), dense.shape))
    distance = float(np.hypot(*((peak - half + 0.5) * _PLACE_M + centre)))
    x, y = np.floor(-centre / _PLACE_M).astype(np.int64) + half
    around = dense[max(x - 1, 0) : max(x + 2, 0), max(y - 1, 0) : max(y + 2, 0)]
    return distance, float(around.max() / dense.max()) if around.size and dense.any() else 0.0


def widest_gap_deg(azimuth_deg: np.ndarray) -> tuple[float, float]:
    """The widest azimuth range without points: its width and start in degrees.

    It starts at its right end and runs left, with growing azimuth.
    """
    if len(azimuth_deg) == 0:
        return 360.0, -180.0
    filled = np.sort(azimuth_deg)
    gaps = np.diff(np.append(filled, filled[0] + 360.0))
    widest = int(gaps.argmax())
    return float(gaps[widest]), float(filled[widest])
