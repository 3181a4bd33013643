"""Judge whether intensities exist and have the expected scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.verdicts.base import Verdict

_BEYOND = 0.02
"""Accepted share of intensities beyond 0..1: a scale need not fit the brightest echoes."""

_DIM = 0.01
"""If 99.9 % of the intensities are below this, they have another scale. Real scans: .42 and more,
except RELLIS's Ouster with .0095."""


def judge_intensity(found: Evidence) -> Iterator[Verdict]:
    """Give the first fitting of four verdicts on intensities, each a warning."""
    if not found.has_intensity:
        yield _warning(
            "no_intensity", f"{found.file_name} holds no intensity", "it is set to 0",
            "leave intensity out of range_image.channels, or name its field: layout.fields",
        )  # fmt: skip
        return
    measured = found.points[(found.points[:, :3] != 0).any(axis=1)]
    values = measured[np.isfinite(measured).all(axis=1), 3]
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    if low == high:
        yield _warning(
            "constant_intensity", f"the intensity of all points is {low:g}", "it tells nothing",
            "leave intensity out of range_image.channels, or name its field: layout.fields",
        )  # fmt: skip
    elif (share := float((values < 0).mean())) > _BEYOND:
        yield _warning(
            "negative_intensity", f"{share:.0%} of the intensities are negative, down to {low:g}",
            "they are decibels, or column 3 is no intensity",
            "shift them, or check layout.columns and layout.fields",
        )  # fmt: skip
    elif (values > 1).mean() > _BEYOND:
        yield _warning(
            "intensity_scale", f"intensities run from {low:g} to {high:g}", "0 to 1 is expected",
            "state the files' value for the brightest echo: layout.intensity_max, which "
            "`rangeseg-data stats` measures (255 for most sensors)",
        )  # fmt: skip
    elif (most := float(np.percentile(values, 99.9))) < _DIM:
        yield _warning(
            "intensity_scale", f"99.9 % of the intensities are below {most:.2g}",
            "the expected range is 0 to 1, hardly used",
            "correct layout.intensity_max, which `rangeseg-data stats` measures",
        )  # fmt: skip


def _warning(name: str, seen: str, means: str, remedy: str) -> Verdict:
    return Verdict(name, False, seen, means, remedy)  # type: ignore[arg-type]
