"""A verdict: what was seen, what it means, and what mends it."""

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
"""What ``layout.accept`` may name."""


@dataclass(frozen=True)
class Verdict:
    """One thing that scans show.

    Attributes:
        name: what ``layout.accept`` calls it.
        refused: whether nothing is trained until the user has stated it; else a warning.
        seen: what was found, with its figure.
        means: what that is.
        remedy: the setting or the command that mends it.
    """

    name: VerdictName
    refused: bool
    seen: str
    means: str
    remedy: str

    def __str__(self) -> str:
        """One line; a refused verdict names how to accept it."""
        accepted = f", or accept it: layout.accept=[{self.name}]" if self.refused else ""
        return f"{self.seen}: {self.means}; {self.remedy}{accepted}"
