"""The shapes of which everything above the ground is built, and lists of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

    def __len__(self) -> int:
        return len(self.kind)

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
        """All shapes of several lists, in their order."""
        return Primitives(
            kind=np.concatenate([part.kind for part in parts]),
            shape=np.concatenate([part.shape for part in parts]),
            optics=np.concatenate([part.optics for part in parts]),
            label=np.concatenate([part.label for part in parts]),
        )

    def select(self, keep: np.ndarray) -> Primitives:
        """The shapes where the mask (N,) is true."""
        return Primitives(self.kind[keep], self.shape[keep], self.optics[keep], self.label[keep])
