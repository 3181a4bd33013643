"""Numba kernels that find the first hit of each ray of a turn.

They loop over objects, not rays: a shape is tested only on the beams and columns of its bounding
cylinder, with a depth buffer. The ground is one outward march per column. All rays of a column
share an azimuth. So a shape's horizontal section is cut once per column, and beams only add the
vertical part. Along a ray, ``reach`` is the horizontal distance and ``depth`` the Euclidean one; a
ray is at height ``reach * tangent``.

Kernels are serial: a parallel one can hang in a forked worker after torch has run in the parent.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rangeseg.geometry.kernel import kernel

_WINDOW_SHADE = 0.3  # a pane's albedo relative to the wall's
_WINDOW_RECESS = 0.18  # metres behind the wall
_ABSORBED = 0.6  # share of the pulses that a pane stops


class Rays(NamedTuple):
    """One turn of the sensor, highest beam first, columns by rising azimuth.

    Attributes:
        nominal: (H,) inclination of the beams in radians, falling.
        azimuth: (W,) azimuth of the columns in radians, rising in [0, 2 pi).
        tangent: (H,W) tangent of each ray's inclination, with jitter.
    """

    nominal: np.ndarray
    azimuth: np.ndarray
    tangent: np.ndarray


class Hits(NamedTuple):
    """The first hit of each ray; kernels lower ``depth`` in place.

    Attributes:
        depth: (H,W) float64 Euclidean metres, infinite without a hit.
        cosine: (H,W) float64 cosine of the angle to the surface's normal.
        shade: (H,W) float64 factor of the albedo; 0 swallows the pulse.
        owner: (H,W) int32: position of a shape; -2 - s for the ground's surface s; -1 nothing.
    """

    depth: np.ndarray
    cosine: np.ndarray
    shade: np.ndarray
    owner: np.ndarray


class Ground(NamedTuple):
    """The ground around the sensor as a grid along (x) and across (t) the road.

    The road's centre line is y = line(x); t is the distance to it along y, times the line's cosine.

    Attributes:
        height: (X,T) float32 metres at the cells' centres.
        surface: (X,T) uint8 position in SURFACES.
        line: (X,2) float64: y of the centre line and its cosine at the cells' centres.
        corner: (4,) float64: x of the first cell, its step, t of the first cell, its step.
        pose: (7,) float64: the sensor's x, y, z, cosine and sine of its heading, slopes ahead and
            to the left. Its z is relative to a plane with these slopes.
    """

    height: np.ndarray
    surface: np.ndarray
    line: np.ndarray
    corner: np.ndarray
    pose: np.ndarray


def empty_hits(height: int, width: int) -> Hits:
    """Make empty buffers."""
    return Hits(
        np.full((height, width), np.inf),
        np.zeros((height, width)),
        np.ones((height, width)),
        np.full((height, width), -1, dtype=np.int32),
    )


@kernel
def _uniform(seed: int, shape: int, ray: int) -> float:
    """A number in (0, 1) hashed from its arguments (splitmix64's finaliser)."""
    x = np.uint64(seed) + np.uint64(shape + 1) * np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(ray + 1) * np.uint64(0xD1B54A32D192ED03)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (float(x >> np.uint64(11)) + 0.5) / 9007199254740992.0


@kernel
def _sample(ground: Ground, x: float, y: float) -> tuple[float, int]:
    """Height (bilinear) and surface (nearest) of the ground at a place; clamped at its rim."""
    cells_x, cells_t = ground.height.shape
    fx = (x - ground.corner[0]) / ground.corner[1]
    fx = min(max(fx, 0.0), cells_x - 1.001)
    i = int(fx)
    u = fx - i
    line = ground.line[i, 0] * (1.0 - u) + ground.line[i + 1, 0] * u
    cosine = ground.line[i, 1] * (1.0 - u) + ground.line[i + 1, 1] * u
    ft = ((y - line) * cosine - ground.corner[2]) / ground.corner[3]
    ft = min(max(ft, 0.0), cells_t - 1.001)
    j = int(ft)
    v = ft - j
    h = (ground.height[i, j] * (1.0 - v) + ground.height[i, j + 1] * v) * (1.0 - u) + (
        ground.height[i + 1, j] * (1.0 - v) + ground.height[i + 1, j + 1] * v
    ) * u
    return h, ground.surface[int(fx + 0.5), int(ft + 0.5)]


@kernel
def cast_ground(ground: Ground, rays: Rays, max_range: float, hits: Hits) -> None:
    """March outward along every column; the lowest free beam lands first."""
    beams, columns = rays.tangent.shape
    ex, ey, ez, ch, sh, ahead, left = ground.pose
    for c in range(columns):
        ca, sa = math.cos(rays.azimuth[c]), math.sin(rays.azimuth[c])
        dx, dy = ca * ch - sa * sh, ca * sh + sa * ch
        plane = ahead * ca + left * sa
        row = beams - 1
        before, reach = 0.5, 0.5
        h, _ = _sample(ground, ex + dx * reach, ey + dy * reach)
        h_before = h - ez - plane * reach
        while row >= 0 and reach < max_range:
            reach += max(0.08, 0.012 * reach)
            h, _ = _sample(ground, ex + dx * reach, ey + dy * reach)
            h -= ez + plane * reach
            while row >= 0 and h >= reach * rays.tangent[row, c]:
                tangent = rays.tangent[row, c]
                above, below = before * tangent - h_before, h - reach * tangent
                part = min(max(above / (above + below + 1e-12), 0.0), 1.0)
                at = before + part * (reach - before)
                secant = math.sqrt(1.0 + tangent * tangent)
                if at * secant < min(max_range, hits.depth[row, c]):
                    slope = (h - h_before) / (reach - before)
                    _, surface = _sample(ground, ex + dx * at, ey + dy * at)
                    hits.depth[row, c] = at * secant
                    hits.cosine[row, c] = abs(tangent - slope) / (
                        secant * math.sqrt(1.0 + slope * slope)
                    )
                    hits.owner[row, c] = -2 - surface
                row -= 1
            before, h_before = reach, h


@kernel
def _column_span(azimuth: np.ndarray, x: float, y: float, radius: float) -> tuple[int, int]:
    """First column and number of columns of a circle, with one spare on either side."""
    columns = len(azimuth)
    distance = math.hypot(x, y)
    if distance <= radius * 1.02 + 0.05:
        return 0, columns
    half = math.asin(radius / distance)
    step = 2.0 * math.pi / columns
    first = math.floor((math.atan2(y, x) - half) / step) - 2
    last = math.ceil((math.atan2(y, x) + half) / step) + 2
    return first, min(last - first + 1, columns)


@kernel
def _row_span(
    nominal: np.ndarray, distance: float, radius: float, low: float, high: float
) -> tuple[int, int]:
    """First and past-the-last beam that hit heights low..high within radius of a distance."""
    near, far = max(distance - radius, 0.05), distance + radius
    top = math.atan2(high, near if high > 0.0 else far) + 0.004
    bottom = math.atan2(low, far if low > 0.0 else near) - 0.004
    first = 0
    while first < len(nominal) and nominal[first] > top:
        first += 1
    last = first
    while last < len(nominal) and nominal[last] >= bottom:
        last += 1
    return first, last


@kernel
def _slab(centre: float, direction: float, half: float) -> tuple[float, float]:
    """Entry and exit of a ray from 0 through |p - centre| <= half along one axis."""
    if abs(direction) < 1e-12:
        if abs(centre) <= half:
            return -np.inf, np.inf
        return np.inf, -np.inf
    one, two = (centre - half) / direction, (centre + half) / direction
    return min(one, two), max(one, two)


@kernel
def cast_primitives(
    kind: np.ndarray,
    shape: np.ndarray,
    optics: np.ndarray,
    rays: Rays,
    max_range: float,
    seed: int,
    hits: Hits,
) -> None:
    """Cast every shape.

    Args:
        kind: (N,) int8 of Primitives, in the sensor's frame.
        shape: (N,7) of Primitives.
        optics: (N,4) of Primitives.
        rays: the turn.
        max_range: metres.
        seed: seed of porous media and panes.
        hits: buffers, lowered in place.
    """
    columns = len(rays.azimuth)
    for n in range(len(kind)):
        cx, cy, cz, hx, hy, hz, yaw = shape[n]
        radius = hx if kind[n] == 1 else math.hypot(hx, hy) if kind[n] == 0 else max(hx, hy)
        distance = math.hypot(cx, cy)
        if distance - radius > max_range:
            continue
        top, bottom = _row_span(rays.nominal, distance, radius, cz - hz, cz + hz)
        if top >= bottom:
            continue
        first, count = _column_span(rays.azimuth, cx, cy, radius)
        cyaw, syaw = math.cos(yaw), math.sin(yaw)
        ox, oy = cx * cyaw + cy * syaw, cy * cyaw - cx * syaw  # the centre in the shape's axes
        free_path, passing, windows = optics[n, 1], optics[n, 2], optics[n, 3]
        for step in range(count):
            c = (first + step) % columns
            ca, sa = math.cos(rays.azimuth[c]), math.sin(rays.azimuth[c])
            dx, dy = ca * cyaw + sa * syaw, sa * cyaw - ca * syaw
            if kind[n] == 0:
                x0, x1 = _slab(ox, dx, hx)
                y0, y1 = _slab(oy, dy, hy)
                side0, side1 = max(x0, y0), min(x1, y1)
                side_cosine = abs(dx) if x0 >= y0 else abs(dy)
            elif kind[n] == 1:
                along = dx * ox + dy * oy
                gap = ox * ox + oy * oy - along * along
                if gap > hx * hx:
                    continue
                half = math.sqrt(hx * hx - gap)
                side0, side1 = along - half, along + half
                side_cosine = half / hx
            else:
                # (d - o)^T D (d - o) = 1 in reach; the beams add to each of the three terms
                square = (dx / hx) ** 2 + (dy / hy) ** 2
                mixed = dx * ox / hx**2 + dy * oy / hy**2
                rest = (ox / hx) ** 2 + (oy / hy) ** 2 + (cz / hz) ** 2 - 1.0
                side0, side1, side_cosine = 0.0, 1.0, 1.0
            if side0 > side1 or side1 <= 0.0:
                continue
            for r in range(top, bottom):
                tangent = rays.tangent[r, c]
                if kind[n] == 2:
                    a = square + (tangent / hz) ** 2
                    b = mixed + tangent * cz / hz**2
                    root = b * b - a * rest
                    if root < 0.0:
                        continue
                    root = math.sqrt(root)
                    enter, leave = (b - root) / a, (b + root) / a
                    vertical = False
                else:
                    z0, z1 = _slab(cz, tangent, hz)
                    vertical = z0 > side0
                    enter, leave = max(side0, z0), min(side1, z1)
                if enter > leave or leave <= 0.0 or enter <= 0.0:
                    continue
                secant = math.sqrt(1.0 + tangent * tangent)
                if enter * secant >= min(hits.depth[r, c], max_range):
                    continue
                shade = 1.0
                if passing > 0.0:
                    chance = _uniform(seed, 2 * n + 1, r * columns + c)
                    if chance < passing:
                        continue
                    if chance < passing + (1.0 - passing) * _ABSORBED:
                        shade = 0.0
                if free_path > 0.0:
                    run = -math.log(_uniform(seed, 2 * n, r * columns + c)) * free_path / secant
                    enter += run
                    if enter > leave or enter * secant >= min(hits.depth[r, c], max_range):
                        continue
                    # Leaves and wires face every way.
                    cosine = 0.25 + 0.75 * _uniform(seed, 2 * n + 1, r * columns + c)
                elif kind[n] == 2:
                    px, py = (enter * dx - ox) / hx**2, (enter * dy - oy) / hy**2
                    pz = (enter * tangent - cz) / hz**2
                    cosine = abs(px * dx + py * dy + pz * tangent) / (
                        secant * math.sqrt(px * px + py * py + pz * pz)
                    )
                elif vertical:
                    cosine = abs(tangent) / secant
                else:
                    cosine = side_cosine / secant
                    if windows > 0.0:
                        along_wall = enter * dy - oy if x0 >= y0 else enter * dx - ox
                        column = along_wall / windows
                        storey = (enter * tangent - cz + hz) / 3.0
                        across, up = column - math.floor(column), storey - math.floor(storey)
                        if 0.3 < across < 0.7 and 0.3 < up < 0.8:
                            # Panes lose half of the pulses and return the rest weakly.
                            pane = _uniform(seed, 2 * n, r * columns + c)
                            shade = 0.0 if pane < 0.5 else _WINDOW_SHADE
                            enter += _WINDOW_RECESS / max(side_cosine, 0.2)
                hits.depth[r, c] = enter * secant
                hits.cosine[r, c] = cosine
                hits.shade[r, c] = shade
                hits.owner[r, c] = n
