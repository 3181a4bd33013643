"""The road's course and the ground beside it, in tiles of one segment each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rangeseg.simulation.layout import HALF_WIDTH, SEGMENT, Segment, Side
from rangeseg.simulation.materials import SURFACE
from rangeseg.simulation.styles import SequenceStyle, stream

CELL_X, CELL_T = 0.4, 0.15
CELLS_X, CELLS_T = round(SEGMENT / CELL_X), 2 * round(HALF_WIDTH / CELL_T) + 1
ACROSS = (np.arange(CELLS_T) - CELLS_T // 2) * CELL_T
"""t of a tile's cells, negative on the right of the road."""

_ROUGHNESS = np.zeros(len(SURFACE))
_ROUGHNESS[SURFACE["grass"]] = 0.035
_ROUGHNESS[SURFACE["gravel"]] = 0.015


class Course:
    """The road's centre line y = line(x), and its height.

    As a line over x, not a general curve, it gives the position across the road by a formula. t is
    the distance to the line along y times the line's cosine, which is the distance across the road
    in wide bends.
    """

    def __init__(self, style: SequenceStyle) -> None:
        self._bends, self._hills = style.bends, style.hills

    def line(self, x: np.ndarray | float) -> np.ndarray:
        """The y of the centre line at x."""
        amplitude, wave, phase = self._bends.T
        turn = 2 * np.pi * np.asarray(x)[..., None] / wave + phase
        result: np.ndarray = (amplitude * wave / (2 * np.pi) * np.sin(turn)).sum(-1)
        return result

    def slope(self, x: np.ndarray | float) -> np.ndarray:
        """The slope dy/dx of the centre line at x."""
        amplitude, wave, phase = self._bends.T
        turn = 2 * np.pi * np.asarray(x)[..., None] / wave + phase
        result: np.ndarray = (amplitude * np.cos(turn)).sum(-1)
        return result

    def cosine(self, x: np.ndarray | float) -> np.ndarray:
        """Cosine of the centre line's heading at x."""
        result: np.ndarray = 1.0 / np.sqrt(1.0 + self.slope(x) ** 2)
        return result

    def height(self, x: np.ndarray | float) -> np.ndarray:
        """The z of the road's centre at x."""
        amplitude, wave, phase = self._hills.T
        turn = 2 * np.pi * np.asarray(x)[..., None] / wave + phase
        result: np.ndarray = (amplitude * wave / (2 * np.pi) * np.sin(turn)).sum(-1)
        return result

    def gradient(self, x: float) -> float:
        """The slope dz/dx of the road's centre at x."""
        amplitude, wave, phase = self._hills.T
        return float((amplitude * np.cos(2 * np.pi * x / wave + phase)).sum())


@dataclass(frozen=True)
class Tile:
    """The ground of one segment.

    Attributes:
        height: (CELLS_X, CELLS_T) float32 metres.
        surface: (CELLS_X, CELLS_T) uint8 position in SURFACES.
    """

    height: np.ndarray
    surface: np.ndarray

    def height_at(self, x: float, t: float) -> float:
        """Height of the nearest cell; x counts from the segment's start."""
        i = min(max(int(x / CELL_X), 0), CELLS_X - 1)
        j = min(max(round(t / CELL_T) + CELLS_T // 2, 0), CELLS_T - 1)
        return float(self.height[i, j])


def make_tile(seed: int, sequence: str, number: int, segment: Segment, course: Course) -> Tile:
    """Make the ground of a segment from its cross section."""
    rng = stream(seed, sequence, purpose=4, number=10_000 + number)
    inside = (np.arange(CELLS_X) + 0.5) * CELL_X
    along = number * SEGMENT + inside
    surface = np.full((CELLS_X, CELLS_T), SURFACE["grass"], dtype=np.uint8)
    rise = np.zeros((CELLS_X, CELLS_T))
    for side in segment.sides:
        out = ACROSS * side.sign  # distance from the centre on this side, negative on the other
        for band in side.bands:
            cells = (out >= band.start) & (out < band.end)
            surface[:, cells] = SURFACE[band.material]
            rise[:, cells] = band.rise
        bank = out > side.bank_from
        rise[:, bank] += _bank(out[bank] - side.bank_from, side)
        for patch in side.patches:
            rows = (inside >= patch.x0) & (inside < patch.x1)
            cells = (out >= patch.t0) & (out < patch.t1)
            surface[np.ix_(rows, cells)] = SURFACE[patch.material]
            if patch.rise is not None:
                rise[np.ix_(rows, cells)] = patch.rise
    _mark_lanes(surface, segment, along)
    bumps = _smooth_noise(along, segment.relief)
    off_road = np.clip((np.abs(ACROSS) - segment.road_half - 2.0) / 15.0, 0.0, 1.0)
    height = course.height(along)[:, None] - 0.015 * np.minimum(np.abs(ACROSS), segment.road_half)
    height = height + rise + bumps * off_road
    height += rng.standard_normal(height.shape, dtype=np.float32) * _ROUGHNESS[surface]
    return Tile(height.astype(np.float32), surface)


def _bank(out: np.ndarray, side: Side) -> np.ndarray:
    """Height of an embankment: a slope that flattens towards its full height."""
    if side.bank_height == 0.0:
        return np.zeros_like(out)
    full = side.bank_height
    return np.asarray(full * np.tanh(out * side.bank_slope / abs(full)))


def _mark_lanes(surface: np.ndarray, segment: Segment, along: np.ndarray) -> None:
    """Paint dashed and full lines; ``along`` is the world's x, so dashes continue across tiles."""
    dashed = np.mod(along, 9.0) < 4.5
    for t, full in segment.lines:
        column = round(t / CELL_T) + CELLS_T // 2
        rows = np.ones_like(dashed) if full else dashed
        on_road = surface[:, column] == SURFACE["asphalt"]
        surface[rows & on_road, column] = SURFACE["marking"]


def _smooth_noise(along: np.ndarray, relief: np.ndarray) -> np.ndarray:
    """Gentle bumps from a few waves (K,4): amplitude, two wave numbers, phase."""
    waves = np.zeros((len(along), CELLS_T))
    for amplitude, kx, kt, phase in relief:
        # The addition theorem of the sine needs a few outer products instead of a sine per cell.
        there, across = kx * along + phase, kt * ACROSS
        waves += np.multiply.outer(amplitude * np.sin(there), np.cos(across))
        waves += np.multiply.outer(amplitude * np.cos(there), np.sin(across))
    return waves
