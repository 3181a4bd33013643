"""Judge whether points are one turn of a spinning sensor, or a part of one."""

from __future__ import annotations

from collections.abc import Iterator

from rangeseg.datasets.survey.directions import widest_gap_deg
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.datasets.survey.verdicts.frame import BEAMS_FROM, MANY_VIEWS_FROM, STEP_FROM

_MOST_CROWDED = 0.04
"""``crowded_share``. Real scans: .002 at most; a map of a standing sensor .08, three scans .08."""

_MOST_RETURNS, _DUAL_FROM = 2.5, 1.05
"""Points for each direction. Real scans of one return: 1.03 at most; of two: 1.07 and more."""

_FULL_TURN_DEG = 320.0  # real full turns leave 34 degrees empty at most, indoors
_LOST = 0.15
"""Accepted share of rays without a point. KITTI, PandaSet, nuScenes: .085 at most; a crop of
nuScenes has .16 and gets a warning."""


def judge_sensor(found: Evidence) -> Iterator[Verdict]:
    """``merged`` or ``no_beams``; of one turn ``front_view``, ``dual_returns``, ``lost_echoes``."""
    if found.likeness is None:
        return
    refused = _merged(found) or _no_beams(found)
    if refused is not None:
        yield refused
        return
    gap = widest_gap_deg(found.own_directions.azimuth_deg)[0]
    yield from _view(found)
    if found.returns > _DUAL_FROM:
        yield Verdict(
            "dual_returns", False,
            f"{found.returns - 1:.0%} of the directions of {found.scan_id} have a second point",
            "the driver writes two returns; pixels show the nearer one",
            "let the driver write one return, or keep both",
        )  # fmt: skip
    yield from _lost(found, 360.0 - gap if gap > 1.0 else 360.0)


def _merged(found: Evidence) -> Verdict | None:
    points = len(found.points)
    remedy = "write one file for each turn, as the sensor sees it"
    means = "several scans in one file, a map, or points that are not in the sensor's frame"
    if found.hidden > MANY_VIEWS_FROM:
        seen = (
            f"{found.hidden:.0%} of the {points:,} points of {found.scan_id} hide behind others, "
            "as seen from the origin"
        )
        return Verdict("merged", True, seen, means, remedy)
    if found.returns > _MOST_RETURNS:
        seen = f"{found.scan_id} has {found.returns:.1f} points for each direction"
        return Verdict("merged", True, seen, means, remedy)
    if _has_beams(found) and found.crowded > _MOST_CROWDED:
        seen = (
            f"{found.crowded:.0%} of the {points:,} points of {found.scan_id} lie where a beam has "
            "more points than one turn has steps"
        )
        return Verdict("merged", True, seen, means, remedy)
    return None


def _no_beams(found: Evidence) -> Verdict | None:
    if _has_beams(found):
        return None
    return Verdict(
        "no_beams", True,
        f"the inclinations of {found.scan_id} show no beams (likeness of neighbouring sectors "
        f"{found.likeness:.2f}, {BEAMS_FROM:g} or more is usual)",
        "a rosette or a solid-state sensor, or points that were resampled",
        "range images need a spinning sensor, points in its own frame",
    )  # fmt: skip


def _has_beams(found: Evidence) -> bool:
    likeness = found.likeness or 0.0
    return likeness >= BEAMS_FROM or found.step.contrast >= STEP_FROM


def _view(found: Evidence) -> Iterator[Verdict]:
    gap, right = widest_gap_deg(found.directions.azimuth_deg)
    view = 360.0 - gap
    if view >= _FULL_TURN_DEG or found.view_deg < _FULL_TURN_DEG:
        return
    right = (right + gap + 180.0) % 360.0 - 180.0
    left = right + view
    yield Verdict(
        "front_view", False, f"{found.scan_id} covers {view:.0f} degrees of azimuth",
        f"{gap / 360:.0%} of an image all around stays empty",
        f"state sensor.azimuth_left_deg={left:.0f} azimuth_right_deg={right:.0f}",
    )  # fmt: skip


def _lost(found: Evidence, view_deg: float) -> Iterator[Verdict]:
    step = found.step
    if found.beams is None or step.contrast < STEP_FROM:
        return
    rays = found.beams * step.columns(view_deg)
    lost = 1.0 - len(found.points) / found.returns / rays
    if lost > _LOST:
        yield Verdict(
            "lost_echoes", False,
            f"{found.scan_id} holds {len(found.points):,} points of {rays:,} rays",
            f"{lost:.0%} were dropped, as drivers do with lost echoes; rows by file_order are not "
            "possible",
            "nothing needs to be done; keep lost echoes as (0, 0, 0) if the driver can",
        )  # fmt: skip
