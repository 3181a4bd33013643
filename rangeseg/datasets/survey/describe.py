"""A description of a folder of scans for somebody who has none yet, to be edited."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import MOST_CLASSES, Custom, Description
from rangeseg.datasets.labels import classes_of
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.datasets.split_files import SEQUENCE_NAME
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.complete_layout import complete_layout
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.find_layout import find_scans, recordings_in
from rangeseg.datasets.survey.judge import first_scans, judge_files, judge_source, refuse
from rangeseg.datasets.survey.row_rules import MOST_BEAMS
from rangeseg.datasets.survey.statistics import (
    ImageStatistics,
    ScanStatistics,
    measure_images,
    measure_scans,
    measure_widths,
)
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.datasets.survey.verdicts.numbers import judge_numbers
from rangeseg.errors import DataError
from rangeseg.geometry.sensor import RowRule, Sensor

_COLUMNS_STEP = 16  # a suggested image is a multiple of this wide
_MEASURED = ("front_view", "intensity_scale")  # verdicts of what the description then states
_NEIGHBOURS = (0.5, 0.75, 1.0, 1.5, 2.0)  # widths to compare, of the suggested one
_COMPARED = 10  # scans for it
_GOLDEN = 0.618034  # successive hues this far apart never come close to each other


@dataclass(frozen=True)
class Draft:
    """What a folder shows before its scans are measured.

    Attributes:
        root: the folder of the data set: that above the one that was named, if that is a sequence.
        description: complete, but for the sensor and the statistics.
        left_out: folders beside the sequences that hold no scans.
        raw_ids: raw id -> points of the labelled scans that were read.
    """

    root: Path
    description: Description
    sequences: Mapping[str, list[str]]
    left_out: Sequence[str]
    raw_ids: Mapping[int, int]


@dataclass(frozen=True)
class Survey:
    """Measurements of the scans of a split or folder.

    Attributes:
        total: how many scans there are; ``scans.scans`` of them were read.
        sensors: the sensor with each row rule that the files allow, the one in use first.
        lost: width of the image -> share of the points that are lost, at the width in use and at
            its neighbours.
        verdicts: on the first scans of each sequence.
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
        split: of its scans up to ``most``, evenly spaced, are read.
        most: see split.
        sensor: with the size of the image.
        anyway: go on although a verdict is refused.

    Raises:
        DataError: see ``measure_scans`` and ``measure_images``, or a verdict is refused.
    """
    sequences = {name: source.sequence_ids(name) for name in source.sequences(split)}
    verdicts = judge_source(source, first_scans(sequences))
    _refuse(verdicts, anyway)
    scan_ids = [scan_id for ids in sequences.values() for scan_id in ids]
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(source, chosen, sensor.beams)
    sensors = _allowed_sensors(sensor, scans, sensor.row_rule)
    images = measure_images(source, chosen, sensors)
    lost = _compare_widths(source, chosen, sensors[0])
    return Survey(len(scan_ids), scans, sensors, images, lost, verdicts)


def _refuse(verdicts: Sequence[Verdict], anyway: bool) -> None:
    """Raise the refused verdict, if there is one and nobody wants to go on."""
    refused = [verdict for verdict in verdicts if verdict.refused]
    if refused and not anyway:
        refuse(refused, " (--anyway measures them all the same)")


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
    _refuse(verdicts, anyway)
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
    """The sensor with each row rule that the files allow it, the one in use first."""
    rules = [f.rule for f in scans.findings if f.beams == sensor.beams]
    rules += [] if "inclination" in rules else ["inclination"]
    first = used if used in rules else "inclination"
    ordered = [first, *(rule for rule in rules if rule != first)]
    return [sensor.resized(sensor.height, sensor.width, rule) for rule in ordered]


def draft_description(root: Path, layout: Layout, most: int, anyway: bool = False) -> Draft:
    """Describe a folder of scans by what lies in it.

    What ``layout`` leaves open is taken from the files where they tell it: where the points and
    the labels lie, their endings, columns, ring, type of the labels. Each raw id becomes a class,
    but for those that data sets use for what has no class.

    Args:
        root: the folder that holds ``sequences/``, or folders of scans, or the scans of one
            sequence.
        layout: where the files lie, as far as it is known.
        most: how many label files are read at the most, evenly spaced.
        anyway: go on although the files seem to hold other numbers than the layout says.

    Raises:
        DataError: there is no scan, or the files are not what the layout says.
    """
    found = find_scans(root, layout)
    folder = SequenceFolder(found.root)
    folder.layout = layout = Layout.model_validate(found.places)
    sequences, left_out = _find_scans(folder, root, found.only)
    scan_ids = [scan_id for ids in sequences.values() for scan_id in ids]
    _check_readable(found.root, layout, sequences, judge_numbers, anyway)
    folder.layout = layout = complete_layout(folder, scan_ids)
    _check_readable(found.root, layout, sequences, judge_files, anyway)

    labelled = [scan_id for scan_id in scan_ids if folder.has_labels(scan_id)]
    raw_ids: Counter[int] = Counter()
    for scan_id in evenly_spaced(labelled, most):
        classes = classes_of(folder.read_raw_labels(scan_id))
        ids, counts = np.unique(classes, return_counts=True)
        raw_ids.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
    ignored = _without_class(raw_ids, layout)
    own = sorted(raw_ids.keys() - ignored) or [0]
    if len(own) > MOST_CLASSES:
        raise DataError(
            f"{len(own)} different ids in the labels of {root}, at most {MOST_CLASSES} can be "
            f"classes: is {layout.label_type} their type, and do they hold classes?"
        )
    names = list(sequences)
    values = {
        "layout": layout.model_dump(),
        "classes": [
            {"name": f"class_{raw}", "ids": [raw], "colour": colour}
            for raw, colour in zip(own, _colours(own, layout), strict=True)
        ],
        # What pseudo-labels are not sure of needs one.
        "ignored_ids": sorted(ignored - set(own)),
        "sensor": {"beams": MOST_BEAMS, "fov_up_deg": 90, "fov_down_deg": -90},
        "sequences": {
            "train": names[:-1] or names,
            "val": names[-1:] if names[1:] else [f"{names[0]}-val"],
        },
        "statistics": {},
    }
    described = Description.model_validate(values)
    return Draft(found.root, described, sequences, left_out, raw_ids)


def _check_readable(
    root: Path,
    layout: Layout,
    sequences: Mapping[str, Sequence[str]],
    judge: Callable[[Evidence], Iterable[Verdict]],
    anyway: bool,
) -> None:
    """Judge the files of a folder before they are read in earnest.

    Raises:
        DataError: they hold other numbers than the layout says.
    """
    placeholder = Description.model_validate(
        {
            "layout": layout.model_dump(exclude_unset=True),
            "classes": [{"name": "any", "ids": [0], "colour": [0, 0, 0]}],
            "sensor": {"beams": MOST_BEAMS, "fov_up_deg": 90, "fov_down_deg": -90},
            "sequences": {"train": ["any"], "val": ["other"]},
            "statistics": {},
        }
    )
    source, scans = Custom(root, placeholder), first_scans(sequences)
    _refuse(judge_source(source, scans, judge, sensor=False, labels=False), anyway)


def with_sensor(description: Description, scans: ScanStatistics) -> Description:
    """The description with the sensor, the ring and the intensities that scans show."""
    values = description.model_dump()
    values["sensor"] = suggested_sensor(scans)
    values["layout"]["intensity_max"] = scans.intensity_max(description.layout.intensity_max)
    values["layout"]["ring_zero"] = "lowest" if scans.ring_rises else "highest"
    return Description.model_validate(values)


def suggested_sensor(scans: ScanStatistics) -> dict[str, Any]:
    """The sensor that scans show, as a description states it."""
    down, up = scans.field_of_view_deg
    sensor: dict[str, Any] = {
        "beams": scans.beams, "fov_up_deg": up, "fov_down_deg": down, "rows": scans.best.rule,
    }  # fmt: skip
    left, right = scans.view_deg
    if left - right < 360.0:
        sensor |= {"azimuth_left_deg": left, "azimuth_right_deg": right}
    return sensor | ({"min_range": scans.min_range} if scans.min_range else {})


def rounded(channels: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Statistics as they are written: three digits; a constant channel is only shifted."""
    return {
        channel: [float(f"{mean:.3g}"), float(f"{deviation:.3g}") or 1.0]
        for channel, (mean, deviation) in channels.items()
    }


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours (red, green, blue) that can be told apart, up to a few dozen of them by eye."""
    colours = []
    for i in range(count):
        saturation, value = (0.9, 0.55, 0.75)[i % 3], (0.95, 0.8, 0.6)[i // 3 % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * _GOLDEN % 1.0, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _without_class(raw_ids: Mapping[int, int], layout: Layout) -> set[int]:
    """The ids that stand for no class: below 0, or the last of an unsigned type, or else 0."""
    last = {"uint8": 255, "uint16": 65535, "uint32": 65535}.get(layout.label_type)  # -1, mostly
    none = {raw for raw in raw_ids if raw < 0 or raw == last}
    return none or {0}


def _colours(own: Sequence[int], layout: Layout) -> list[tuple[int, int, int]]:
    """Colours of classes: their own, where labels are colours."""
    if layout.label_type == "colour":
        return [(raw >> 16 & 255, raw >> 8 & 255, raw & 255) for raw in own]
    return distinct_colours(len(own))


def _find_scans(
    folder: SequenceFolder, named: Path, only: str | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Sequence -> ids of its scans, and the folders that hold none."""
    if named.is_dir() and (bags := recordings_in(named)) and only is None:
        raise DataError(
            f"{named} holds {', '.join(bags[:3])}: bags are not read in place: import their scans "
            f"with `rangeseg-data import {named} --out ROOT`"
        )
    folder.check_root()
    sequences, left_out = {}, []
    there = sorted(p.name for p in folder.sequences_root.iterdir() if p.is_dir())
    for name in there if only is None else [only]:
        try:
            if not re.fullmatch(SEQUENCE_NAME, name):
                raise DataError(f"'{name}' cannot name a sequence", "missing")
            sequences[name] = folder.sequence_ids(name)
        except DataError as error:
            if error.kind != "missing":
                raise
            left_out.append(name)
    if sequences:
        return sequences, left_out
    layout, first = folder.layout, folder.sequences_root / (left_out or [""])[0]
    inside = sorted(str(p.relative_to(first)) for p in first.glob("*/*"))[:3]
    raise DataError(
        f"no sequence of {folder.root} has files {layout.points_folder}/FRAME"
        f"{layout.points_suffix}; {first} holds {', '.join(inside) or 'no folder with files'}: "
        "state where the points are with --layout points_folder=... points_suffix=..."
    )
