"""Check whether a scan is from the network's sensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.judge import judge_scan
from rangeseg.datasets.survey.row_rules import count_clusters
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.geometry.sensor import Sensor

_OUTSIDE = 0.02
"""Accepted share of points outside the view with half a beam's spacing of margin. Real scans: .006
at most in their own sensor's view, .2 and more with other beams. A Pandar64 in an HDL-64E's view
may pass: .02 of its points lie outside."""

_FEWER, _MORE = 0.5, 1.6
"""Clusters of inclinations for each beam of the sensor. Real scans: .63 to 1.25."""

_FULL_TURN_DEG = 320.0
_FAR_M = 5.0  # nearer, the beams' offsets in the device blur their inclinations
_FEWEST = 1000  # points needed

_OF_INTENSITY = (
    "no_intensity", "constant_intensity", "negative_intensity", "intensity_scale",
)  # fmt: skip


def judge_for_network(found: Evidence, sensor: Sensor, needs_intensity: bool) -> Iterator[Verdict]:
    """Give all verdicts on a scan for a network to label.

    Args:
        found: evidence from the scan.
        sensor: the network's training sensor.
        needs_intensity: whether the network reads intensity; then a scan without it is refused.
    """
    verdicts = list(judge_scan(found))
    others: list[Verdict] = []
    if not any(verdict.refused for verdict in verdicts):
        others = [v for v in judge_sensor_of(found, sensor) if v.name not in found.layout.accept]
    for verdict in verdicts:
        if verdict.name in _OF_INTENSITY and not needs_intensity:
            continue
        if verdict.name == "lost_echoes" and others:  # counted by the network's beams
            continue
        if verdict.name == "no_intensity":
            verdict = replace(
                verdict, refused=True, means="the network needs it",
                remedy="name its field, layout.fields=intensity:NAME",
            )  # fmt: skip
        yield verdict
    yield from others


def judge_sensor_of(found: Evidence, sensor: Sensor) -> Iterator[Verdict]:
    """``other_sensor``: beams, vertical or horizontal view differ from the sensor's."""
    seen = found.directions
    if len(seen.depth) < _FEWEST:
        return
    margin = 0.5 * (sensor.fov_up_deg - sensor.fov_down_deg) / max(sensor.beams - 1, 1)
    up, down = sensor.fov_up_deg + margin, sensor.fov_down_deg - margin
    above_or_below = (seen.inclination_deg > up) | (seen.inclination_deg < down)
    aside = (sensor.azimuth_left_deg - seen.azimuth_deg) % 360.0 > sensor.view_deg
    beams = count_clusters(seen.inclination_deg[seen.depth >= _FAR_M])
    outside = float((above_or_below | aside).mean())
    if outside <= _OUTSIDE and _FEWER * sensor.beams <= beams <= _MORE * sensor.beams:
        return
    low, high = np.percentile(seen.inclination_deg, (0.1, 99.9))
    view = ""
    if sensor.view_deg < _FULL_TURN_DEG:
        view = f", azimuth {sensor.azimuth_left_deg:g} to {sensor.azimuth_right_deg:g}"
    yield Verdict(
        "other_sensor", False,
        f"{found.scan_id} shows about {beams} beams from {high:.1f} to {low:.1f} degrees, "
        f"{outside:.0%} of its points outside the view of the network's sensor {sensor.name} "
        f"({sensor.beams} beams, {sensor.fov_up_deg:g} to {sensor.fov_down_deg:g} degrees{view})",
        "another sensor, so labels will be worse than the network's figures",
        "train on its scans, from this network with train.init",
    )  # fmt: skip
