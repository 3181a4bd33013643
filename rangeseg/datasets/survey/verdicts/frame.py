"""Judge whether points are in metres, in the sensor's frame, x forward and z up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rangeseg.datasets.survey.directions import (
    azimuth_differences,
    beam_likeness,
    densest_place,
    find_directions,
    find_step,
    thinned,
)
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.ground import Plane, find_planes
from rangeseg.datasets.survey.verdicts.base import Verdict

BEAMS_FROM = 0.2
"""Least ``beam_likeness`` of a spinning sensor. Real scans: .27 and more (KITTI, corrected for
motion), .63 and more without that; .17 at most about a wrong axis, tilted by more than 3 degrees or
from a rosette."""

STEP_FROM = 8.0
"""Least contrast of a true azimuth step. Real scans: 50 and more; 17 with 18 %, 9 with 40 %
and 6 with 60 % of the points dropped; rosettes and scans 30 m off: 6 at most."""

MANY_VIEWS_FROM = 0.12
"""Least ``hidden_share`` of points not all seen from the origin. Real scans: .052 at most; ten
merged .28 and more, 30 m off .28 and more."""

_FARTHEST_M, _NEAREST_M = 250.0, 0.1
"""In all real scans half of the points lie within .8 (indoors) to 23 m of the middle."""

_OFFSET_M, _OFFSET_SPREADS = 500.0, 5.0  # maps' coordinates; a LiDAR sees 300 m
_DENSEST_M, _SPARSE = 18.0, 0.2
"""Real scans are densest within 13 m of the sensor, at most 3.4 times as dense as at the sensor.
Scans 30 m off are densest 25 m away or more, 12 times as dense there."""

_TILT_DEG, _SMALL_TILT_DEG = 20.0, 5.0  # cars' real scans: 2.8 at most; 6 is a steep road
_GROUND = 0.25
"""Least support of tilted ground. Indoors, with small floors, false planes have .20 at most; ground
has .28 and more, except one scene of PandaSet, .11 to .17."""

_NO_GROUND = 0.4  # a plane with less than this share of the opposite plane's support is no ground
_LEVEL = 0.7  # a level plane through part of tilted ground has less than this share of its support
_CEILING = 0.08  # least support of ground above


def judge_frame(found: Evidence) -> Iterator[Verdict]:
    """``scale``, ``world``, ``axes``, ``upside_down``, ``tilt``, ``small_tilt``: the first."""
    xyz = found.xyz if found.coordinates is None else found.coordinates
    xyz = xyz[np.isfinite(xyz).all(axis=1) & (xyz != 0).any(axis=1)]
    if len(xyz) < 100:
        return
    for judge in (_scale, _far_frame, _near_frame, _axes, _up):
        verdict = judge(found, xyz)
        if verdict is not None and verdict.name not in found.layout.accept:
            yield verdict
            return


def _scale(found: Evidence, xyz: np.ndarray) -> Verdict | None:
    spread = _spread(xyz)
    if _NEAREST_M < spread < _FARTHEST_M:
        return None
    per_metre = 10.0 ** round(np.log10(spread / 12.0)) if spread else 1.0
    unit = {1000.0: "millimetres", 100.0: "centimetres"}.get(per_metre, "another unit")
    scale = found.layout.scale / per_metre
    return Verdict(
        "scale", True, f"half of the points of {found.scan_id} lie within {spread:.3g} m",
        f"coordinates in {unit}, where metres are expected",
        f"state layout.scale={scale:g}",
    )  # fmt: skip


def _far_frame(found: Evidence, xyz: np.ndarray) -> Verdict | None:
    offset = float(np.linalg.norm(np.median(xyz, axis=0)))
    if offset < max(_OFFSET_M, _OFFSET_SPREADS * _spread(xyz)):
        return None
    seen = f"the middle of {found.scan_id} lies {offset:,.0f} m from the origin"
    return _world(found, seen)


def _near_frame(found: Evidence, xyz: np.ndarray) -> Verdict | None:
    if found.hidden <= MANY_VIEWS_FROM:
        return None
    distance, density = densest_place(xyz)
    if distance < _DENSEST_M or density > _SPARSE:
        return None
    return _world(
        found,
        f"the points of {found.scan_id} are densest {distance:.0f} m from the origin, and as seen "
        f"from the origin {found.hidden:.0%} hide behind others",
    )  # fmt: skip


def _world(found: Evidence, seen: str) -> Verdict:
    if found.layout.frame == "world":
        return Verdict(
            "world", True, seen, "the poses do not take them back to the sensor",
            "check poses.txt, and whether the points are in its frame",
        )  # fmt: skip
    return Verdict(
        "world", True, seen, "world coordinates, not sensor coordinates",
        "state layout.frame=world, with poses.txt in each sequence, or write points as the sensor "
        "sees them",
    )  # fmt: skip


def _axes(found: Evidence, xyz: np.ndarray) -> Verdict | None:
    likeness = found.likeness
    if likeness is None or likeness >= BEAMS_FROM or found.hidden > MANY_VIEWS_FROM:
        return None
    below = found.planes.get("below")
    if below is not None and below.support >= _GROUND and below.tilt_deg < _TILT_DEG:
        return None
    about = {axis: thinned(find_directions(found.xyz, axis)) for axis in (0, 1)}
    others = {axis: beam_likeness(directions) or 0.0 for axis, directions in about.items()}
    axis = max(others, key=lambda a: others[a])
    step = find_step(azimuth_differences(about[axis]))
    if others[axis] >= BEAMS_FROM and step.contrast >= STEP_FROM:
        seen = f"the beams of {found.scan_id} turn about {'xy'[axis]}, not about z"
    else:
        beside = found.planes.get("beside")
        if beside is None or not _dominates(found, beside):
            return None
        axis = int(np.abs(beside.normal).argmax())
        if axis == 2 or abs(beside.normal[axis]) < np.cos(np.radians(_TILT_DEG)):
            return None
        seen = f"the ground of {found.scan_id} is a plane across {'xy'[axis]}, not below"
    axes = _axes_with_up(found.xyz, axis)
    means = "a camera's axes" if axis == 1 else "axes of another order"
    return Verdict("axes", True, seen, means, f"state layout.axes=[{_composed(found, axes)}]")


def _axes_with_up(xyz: np.ndarray, axis: int) -> tuple[str, str, str]:
    """Forward, left and up, if one axis is up (or down, with more ground on that side)."""
    turned = np.roll(xyz, 2 - axis, axis=1)  # the axis becomes z
    planes = find_planes(turned)
    below = planes["below"].support if "below" in planes else 0.0
    above = planes["above"].support if "above" in planes else 0.0
    if axis == 1:
        return ("z", "-x", "-y") if above >= below else ("z", "x", "y")
    return ("y", "-z", "-x") if above > below else ("y", "z", "x")


def _up(found: Evidence, xyz: np.ndarray) -> Verdict | None:
    below, above = (found.planes.get(side) for side in ("below", "above"))
    rest = 0.0 if below is None else below.support
    if above is not None and above.support >= max(_CEILING, rest / _NO_GROUND):
        return Verdict(
            "upside_down", True,
            f"the ground of {found.scan_id} lies {above.height:.1f} m above the sensor",
            "it hangs upside down, or z points down",
            f"state layout.axes=[{_composed(found, ('x', '-y', '-z'))}]",
        )  # fmt: skip
    if below is None or below.tilt_deg < _SMALL_TILT_DEG or not _dominates(found, below):
        return None
    roll, pitch = below.mounting_deg
    far = below.tilt_deg > _TILT_DEG
    return Verdict(
        "tilt" if far else "small_tilt", far,
        f"the ground of {found.scan_id} leans by {below.tilt_deg:.0f} degrees",
        "the sensor is tilted" if far else "a tilted sensor, or a slope",
        f"state layout.roll_deg={found.layout.roll_deg + roll:.1f} "
        f"layout.pitch_deg={found.layout.pitch_deg + pitch:.1f}"
        + ("" if far else " if it is so in all scans"),
    )  # fmt: skip


def _dominates(found: Evidence, plane: Plane) -> bool:
    """Whether a tilted plane is the ground: well supported, without a level rival."""
    level = find_planes(found.xyz, min(plane.tilt_deg / 2, _SMALL_TILT_DEG)).get("below")
    rest = 0.0 if level is None else level.support
    return plane.support >= _GROUND and rest < _LEVEL * plane.support


def _composed(found: Evidence, axes: tuple[str, str, str]) -> str:
    """Compose the file's axes with a further turn of the points."""
    stated = dict(zip("xyz", found.layout.axes, strict=True))
    words = [("-" if a.startswith("-") else "") + stated[a[-1]] for a in axes]
    return ", ".join(word.replace("--", "") for word in words)


def _spread(xyz: np.ndarray) -> float:
    """Median distance of points from their median position."""
    return float(np.median(np.linalg.norm(xyz - np.median(xyz, axis=0), axis=1)))
