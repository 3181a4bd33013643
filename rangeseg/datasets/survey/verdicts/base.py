"""A verdict: observation, meaning and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

VerdictName = Literal[
    "number_type", "label_type", "labels_minus_one", "one_class", "label_sector",
    "scale", "world", "axes", "upside_down", "tilt", "small_tilt",
    "merged", "no_beams", "front_view", "dual_returns", "lost_echoes",
    "other_sensor",
    "no_intensity", "constant_intensity", "negative_intensity", "intensity_scale",
]  # fmt: skip
NAMES: tuple[str, ...] = get_args(VerdictName)
"""Names allowed in ``layout.accept``."""


@dataclass(frozen=True)
class Verdict:
    """One finding about scans.

    Attributes:
        name: name in ``layout.accept``.
        refused: whether it stops training until the user states it; else a warning.
        seen: observation with its figure.
        means: meaning of the observation.
        remedy: setting or command that corrects it.
    """

    name: VerdictName
    refused: bool
    seen: str
    means: str
    remedy: str

    def __str__(self) -> str:
        """One line; a refused verdict shows how to accept it."""
        accepted = f", or accept it: layout.accept=[{self.name}]" if self.refused else ""
        return f"{self.seen}: {self.means}; {self.remedy}{accepted}"
