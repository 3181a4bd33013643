"""What ``rangeseg-data stats`` measures, of a described data set or of a bare folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.sequences import Layout
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.describe import (
    Draft,
    draft_description,
    with_sensor,
    with_statistics,
)
from rangeseg.datasets.survey.statistics import (
    ImageStatistics,
    ScanStatistics,
    measure_images,
    measure_scans,
)
from rangeseg.geometry.sensor import RowRule, Sensor

_COLUMNS_STEP = 128  # a suggested image is a multiple of this wide


@dataclass(frozen=True)
class Survey:
    """Measurements of the scans of a split or folder.

    Attributes:
        total: how many scans there are; ``scans.scans`` of them were read.
        scans: what they show before projection.
        sensors: the sensor with each row rule that the files allow, the one in use first.
        images: what their range images show.
    """

    total: int
    scans: ScanStatistics
    sensors: list[Sensor]
    images: ImageStatistics


def survey_scans(source: ScanSource, scan_ids: Sequence[str], most: int, sensor: Sensor) -> Survey:
    """Measure scans of a data set whose sensor is known.

    Args:
        source: the data set.
        scan_ids: all scans in question.
        most: how many are read, evenly spaced.
        sensor: with the size of the image.

    Raises:
        DataError: see ``measure_scans`` and ``measure_images``.
    """
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(source, chosen, sensor.beams)
    sensors = _allowed(sensor, scans, sensor.row_rule)
    return Survey(len(scan_ids), scans, sensors, measure_images(source, chosen, sensors))


def survey_folder(root: Path, layout: Layout, most: int) -> tuple[Draft, Survey, Description]:
    """Measure a folder without a description.

    Args:
        root: the folder that holds ``sequences/``.
        layout: where the files lie, as far as it is known.
        most: how many scans are read, evenly spaced.

    Returns:
        The draft, the measurements, and the whole description.

    Raises:
        DataError: see ``draft_description``, ``measure_scans`` and ``measure_images``.
    """
    draft = draft_description(root, layout, most)
    scan_ids = [scan_id for ids in draft.sequences.values() for scan_id in ids]
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(Custom(root, draft.description), chosen)
    description = with_sensor(draft.description, scans)
    source = Custom(root, description)
    height, width = -(-scans.beams // 8) * 8, -(-scans.columns // _COLUMNS_STEP) * _COLUMNS_STEP
    sensors = _allowed(source.info.sensor.resized(height, width), scans, scans.best.rule)
    images = measure_images(source, chosen, sensors)
    survey = Survey(len(scan_ids), scans, sensors, images)
    return draft, survey, with_statistics(description, images.channels)


def _allowed(sensor: Sensor, scans: ScanStatistics, used: RowRule) -> list[Sensor]:
    """The sensor with each row rule that the files allow it, the one in use first."""
    rules = [f.rule for f in scans.findings if f.beams == sensor.beams]
    rules += [] if "inclination" in rules else ["inclination"]
    first = used if used in rules else "inclination"
    ordered = [first, *(rule for rule in rules if rule != first)]
    return [sensor.resized(sensor.height, sensor.width, rule) for rule in ordered]
