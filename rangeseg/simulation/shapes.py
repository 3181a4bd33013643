"""Boxes, cylinders and ellipsoids, and the builder of objects from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rangeseg.simulation.materials import MATERIALS, Raw
from rangeseg.simulation.styles import SequenceStyle

BOX, CYLINDER, ELLIPSOID = 0, 1, 2


@dataclass(frozen=True)
class Primitives:
    """Shapes in one frame of reference.

    Attributes:
        kind: (N,) int8, BOX, CYLINDER or ELLIPSOID.
        shape: (N,7) float64: centre x, y, z, half sizes along the own x, y, z axes, yaw in
            radians. A cylinder stands upright; its radius is the first half size.
        optics: (N,4) float64: albedo, mean free path in metres (0 is solid), probability of
            passing through, distance of window columns in metres (0 is none).
        label: (N,) uint32, raw id in the low 16 bits, instance in the high ones.
    """

    kind: np.ndarray
    shape: np.ndarray
    optics: np.ndarray
    label: np.ndarray

    @staticmethod
    def from_rows(rows: list[tuple[float, ...]]) -> Primitives:
        """Pack rows of kind, the shape's 7, the optics' 4 and the label."""
        table = np.array(rows, dtype=np.float64).reshape(-1, 13)
        return Primitives(
            kind=table[:, 0].astype(np.int8),
            shape=table[:, 1:8].copy(),
            optics=table[:, 8:12].copy(),
            label=table[:, 12].astype(np.uint32),
        )

    @staticmethod
    def concatenate(parts: list[Primitives]) -> Primitives:
        """Join several lists of shapes, in order."""
        return Primitives(
            kind=np.concatenate([part.kind for part in parts]),
            shape=np.concatenate([part.shape for part in parts]),
            optics=np.concatenate([part.optics for part in parts]),
            label=np.concatenate([part.label for part in parts]),
        )

    def select(self, keep: np.ndarray) -> Primitives:
        """Select the shapes where the mask (N,) is true."""
        return Primitives(self.kind[keep], self.shape[keep], self.optics[keep], self.label[keep])


class ShapeBuilder:
    """Collects shapes in the world's frame.

    A thing is drawn in its own frame: u ahead, v to the left, heights above its foot, all times
    the sequence's scale. Within one thing a material keeps its tint.

    Args:
        style: style of the sequence.
        rng: generator of shapes and tints.
    """

    def __init__(self, style: SequenceStyle, rng: np.random.Generator) -> None:
        self.style, self.rng = style, rng
        self._rows: list[tuple[float, ...]] = []
        self._pose = (0.0, 0.0, 0.0, 0.0)
        self._scale, self._label = 1.0, 0
        self._tints: dict[str, float] = {}

    def place(
        self,
        pose: tuple[float, float, float, float],
        raw: Raw,
        instance: int = 0,
        scale: float | None = None,
    ) -> None:
        """Begin a thing at x, y, z and yaw."""
        self._pose, self._tints = pose, {}
        self._scale = self.style.scale if scale is None else scale
        self._label = int(raw) | instance << 16

    def relabel(self, raw: Raw) -> None:
        """Set another class for the following shapes (a trunk's crown)."""
        self._label = int(raw)

    def box(
        self, material: str, u: float, v: float, low: float, high: float,
        length: float, width: float, turn: float = 0.0,
    ) -> None:  # fmt: skip
        """A box of full length and width between two heights, rotated about its own axis."""
        self._add(BOX, material, u, v, low, high, length / 2, width / 2, turn)

    def cylinder(
        self, material: str, u: float, v: float, low: float, high: float, radius: float
    ) -> None:
        """An upright cylinder."""
        self._add(CYLINDER, material, u, v, low, high, radius, radius, 0.0)

    def ellipsoid(
        self, material: str, u: float, v: float, low: float, high: float,
        length: float, width: float,
    ) -> None:  # fmt: skip
        """An ellipsoid of full length and width between two heights."""
        self._add(ELLIPSOID, material, u, v, low, high, length / 2, width / 2, 0.0)

    def finish(self) -> Primitives:
        """Return all shapes so far."""
        return Primitives.from_rows(self._rows)

    def _add(
        self, kind: int, material: str, u: float, v: float, low: float, high: float,
        half_u: float, half_v: float, turn: float,
    ) -> None:  # fmt: skip
        x, y, z, yaw = self._pose
        scale = self._scale
        cosine, sine = np.cos(yaw), np.sin(yaw)
        stuff = MATERIALS[material]
        if material not in self._tints:
            self._tints[material] = float(np.exp(self.rng.normal(0.0, stuff.spread)))
        albedo = min(self.style.albedo[material] * self._tints[material], 0.98)
        free_path = stuff.free_path * (self.style.foliage if material == "leaves" else 1.0)
        self._rows.append(
            (
                kind,
                x + scale * (u * cosine - v * sine),
                y + scale * (u * sine + v * cosine),
                z + scale * 0.5 * (low + high),
                scale * half_u, scale * half_v, scale * 0.5 * (high - low), yaw + turn,
                albedo, free_path, stuff.pass_through, stuff.windows, self._label,
            )
        )  # fmt: skip
