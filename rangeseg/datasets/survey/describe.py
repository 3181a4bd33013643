"""Measure a data set, and derive its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.draft import Draft, draft_description
from rangeseg.datasets.survey.judge import first_scans, judge_source, refuse_unless
from rangeseg.datasets.survey.statistics import (
    ImageStatistics,
    ScanStatistics,
    measure_images,
    measure_scans,
    measure_widths,
)
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.geometry.sensor import RowRule, Sensor

_COLUMNS_STEP = 16  # suggested widths are multiples of this
_MEASURED = ("front_view", "intensity_scale")  # verdicts that the description resolves
_NEIGHBOURS = (0.5, 0.75, 1.0, 1.5, 2.0)  # widths to compare, relative to the suggested one
_COMPARED = 10  # scans for the comparison


@dataclass(frozen=True)
class Survey:
    """Measurements of the scans of a split or folder.

    Attributes:
        total: number of scans; ``scans.scans`` of them were read.
        sensors: the sensor with each row rule that the files allow, the one in use first.
        lost: width of the image -> share of lost points, at the width in use and at its neighbours.
        verdicts: verdicts on the first scans of each sequence.
    """

    total: int
    scans: ScanStatistics
    sensors: list[Sensor]
    images: ImageStatistics
    lost: Mapping[int, float]
    verdicts: Sequence[Verdict]


def survey_scans(
    source: ScanSource, split: str, most: int, sensor: Sensor, anyway: bool = False
) -> Survey:
    """Measure scans of a data set whose sensor is known.

    Args:
        source: the data set.
        split: read up to ``most`` of its scans, evenly spaced.
        most: see split.
        sensor: sensor with the image size.
        anyway: continue despite a refused verdict.

    Raises:
        DataError: see ``measure_scans`` and ``measure_images``, or a verdict is refused.
    """
    sequences = {name: source.sequence_ids(name) for name in source.sequences(split)}
    verdicts = judge_source(source, first_scans(sequences))
    refuse_unless(anyway, verdicts)
    scan_ids = [scan_id for ids in sequences.values() for scan_id in ids]
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(source, chosen, sensor.beams)
    sensors = _allowed_sensors(sensor, scans, sensor.row_rule)
    images = measure_images(source, chosen, sensors)
    lost = _compare_widths(source, chosen, sensors[0])
    return Survey(len(scan_ids), scans, sensors, images, lost, verdicts)


def _compare_widths(source: ScanSource, chosen: Sequence[str], sensor: Sensor) -> dict[int, float]:
    widths = {max(round(part * sensor.width / 16), 1) * 16 for part in _NEIGHBOURS}
    return measure_widths(
        source, evenly_spaced(chosen, _COMPARED), sensor, sorted(widths | {sensor.width})
    )


def survey_folder(
    root: Path, layout: Layout, most: int, anyway: bool = False
) -> tuple[Draft, Survey, Description]:
    """Measure up to ``most`` scans of a folder without a description; see ``draft_description``.

    Returns:
        The draft, the measurements, and the whole description.

    Raises:
        DataError: see ``draft_description``, ``measure_scans`` and ``measure_images``, or a
            verdict is refused.
    """
    draft = draft_description(root, layout, most, anyway)
    undescribed = Custom(draft.root, draft.description)
    first = first_scans(draft.sequences)
    found = judge_source(undescribed, first, sensor=False)
    verdicts = [verdict for verdict in found if verdict.name not in _MEASURED]
    refuse_unless(anyway, verdicts)
    scan_ids = [scan_id for ids in draft.sequences.values() for scan_id in ids]
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(undescribed, chosen)
    description = with_sensor(draft.description, scans)
    source = Custom(draft.root, description)
    height, width = -(-scans.beams // 8) * 8, -(-scans.columns // _COLUMNS_STEP) * _COLUMNS_STEP
    sensors = _allowed_sensors(source.info.sensor.resized(height, width), scans, scans.best.rule)
    images = measure_images(source, chosen, sensors)
    lost = _compare_widths(source, chosen, sensors[0])
    survey = Survey(len(scan_ids), scans, sensors, images, lost, verdicts)
    values = description.model_dump() | {"statistics": rounded(images.channels)}
    return draft, survey, Description.model_validate(values)


def _allowed_sensors(sensor: Sensor, scans: ScanStatistics, used: RowRule) -> list[Sensor]:
    """The sensor with each row rule that the files allow, the one in use first."""
    rules = [f.rule for f in scans.findings if f.beams == sensor.beams]
    rules += [] if "inclination" in rules else ["inclination"]
    first = used if used in rules else "inclination"
    ordered = [first, *(rule for rule in rules if rule != first)]
    return [sensor.resized(sensor.height, sensor.width, rule) for rule in ordered]


def with_sensor(description: Description, scans: ScanStatistics) -> Description:
    """Set the measured sensor, ring and intensity scale in the description."""
    values = description.model_dump()
    values["sensor"] = suggested_sensor(scans)
    values["layout"]["intensity_max"] = scans.intensity_max(description.layout.intensity_max)
    values["layout"]["ring_zero"] = "lowest" if scans.ring_rises else "highest"
    return Description.model_validate(values)


def suggested_sensor(scans: ScanStatistics) -> dict[str, Any]:
    """The measured sensor, in the form of a description."""
    down, up = scans.field_of_view_deg
    sensor: dict[str, Any] = {
        "beams": scans.beams, "fov_up_deg": up, "fov_down_deg": down, "rows": scans.best.rule,
    }  # fmt: skip
    left, right = scans.view_deg
    if left - right < 360.0:
        sensor |= {"azimuth_left_deg": left, "azimuth_right_deg": right}
    return sensor | ({"min_range": scans.min_range} if scans.min_range else {})


def rounded(channels: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Round statistics to three digits; a constant channel is only shifted."""
    return {
        channel: [float(f"{mean:.3g}"), float(f"{deviation:.3g}") or 1.0]
        for channel, (mean, deviation) in channels.items()
    }
