"""A description of a folder of scans for somebody who has none yet, to be edited."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import MOST_CLASSES, SEQUENCE_NAME, Custom, Description
from rangeseg.datasets.scan_files import file_size, npy_shape, read_labels, read_points
from rangeseg.datasets.sequences import Layout, SequenceFolder
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.row_rules import MOST_BEAMS, find_ring
from rangeseg.datasets.survey.statistics import (
    ImageStatistics,
    ScanStatistics,
    measure_images,
    measure_scans,
)
from rangeseg.errors import DataError
from rangeseg.geometry.sensor import RowRule, Sensor

_COLUMNS_STEP = 128  # a suggested image is a multiple of this wide
_MOST_COLUMNS = 16
_VALUES = 200_000  # of a file, enough to see how often they repeat
_ALIKE = 0.5  # least correlation of neighbouring points' values; above .8 in all scans tried
_GOLDEN = 0.618034  # successive hues this far apart never come close to each other


@dataclass(frozen=True)
class Draft:
    """What a folder shows before its scans are measured.

    Attributes:
        description: complete, but for the sensor and the statistics.
        left_out: folders beside the sequences that hold no scans.
        raw_ids: raw id -> points of the labelled scans that were read.
    """

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
    """

    total: int
    scans: ScanStatistics
    sensors: list[Sensor]
    images: ImageStatistics


def survey_scans(source: ScanSource, scan_ids: Sequence[str], most: int, sensor: Sensor) -> Survey:
    """Measure scans of a data set whose sensor is known.

    Args:
        source: the data set.
        scan_ids: of all its scans; up to ``most``, evenly spaced, are read.
        most: see scan_ids.
        sensor: with the size of the image.

    Raises:
        DataError: see ``measure_scans`` and ``measure_images``.
    """
    chosen = evenly_spaced(scan_ids, most)
    scans = measure_scans(source, chosen, sensor.beams)
    sensors = _allowed_sensors(sensor, scans, sensor.row_rule)
    return Survey(len(scan_ids), scans, sensors, measure_images(source, chosen, sensors))


def survey_folder(root: Path, layout: Layout, most: int) -> tuple[Draft, Survey, Description]:
    """Measure up to ``most`` scans of a folder without a description; see ``draft_description``.

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
    sensors = _allowed_sensors(source.info.sensor.resized(height, width), scans, scans.best.rule)
    images = measure_images(source, chosen, sensors)
    survey = Survey(len(scan_ids), scans, sensors, images)
    values = description.model_dump() | {"statistics": rounded(images.channels)}
    return draft, survey, Description.model_validate(values)


def _allowed_sensors(sensor: Sensor, scans: ScanStatistics, used: RowRule) -> list[Sensor]:
    """The sensor with each row rule that the files allow it, the one in use first."""
    rules = [f.rule for f in scans.findings if f.beams == sensor.beams]
    rules += [] if "inclination" in rules else ["inclination"]
    first = used if used in rules else "inclination"
    ordered = [first, *(rule for rule in rules if rule != first)]
    return [sensor.resized(sensor.height, sensor.width, rule) for rule in ordered]


def draft_description(root: Path, layout: Layout, most: int) -> Draft:
    """Describe a folder in KITTI's layout by what lies in it.

    What ``layout`` leaves open is taken from the files where they tell it: the ending
    ``.pcd.bin``, columns, ring, type of the labels. Each raw id becomes a class, but for 0, which
    data sets use for what has no class.

    Args:
        root: the folder that holds ``sequences/``.
        layout: where the files lie.
        most: how many label files are read at the most, evenly spaced.

    Raises:
        DataError: there is no scan, or the files are not what the layout says.
    """
    folder = SequenceFolder(root)
    folder.layout = layout
    sequences, left_out = _find_scans(folder)
    frames = [scan_id for ids in sequences.values() for scan_id in ids]
    if "points_suffix" not in layout.model_fields_set and all(i.endswith(".pcd") for i in frames):
        folder.layout = layout = layout.model_copy(update={"points_suffix": ".pcd.bin"})
        sequences, left_out = _find_scans(folder)
    scan_ids = [scan_id for ids in sequences.values() for scan_id in ids]
    folder.layout = layout = _completed(folder, scan_ids)

    labelled = [scan_id for scan_id in scan_ids if folder.has_labels(scan_id)]
    raw_ids: Counter[int] = Counter()
    for scan_id in evenly_spaced(labelled, most):
        points_path, label_path = folder.paths(scan_id)
        points = folder.check_files(scan_id)
        labels = read_labels(label_path, points_path, points, layout.label_type)
        found, counts = np.unique(labels.astype(np.uint16), return_counts=True)
        raw_ids.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    own = sorted(raw_ids.keys() - {0}) or [0]
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
            for raw, colour in zip(own, distinct_colours(len(own)), strict=True)
        ],
        "ignored_ids": [] if own == [0] else [0],  # what pseudo-labels are not sure of needs one
        "sensor": {"beams": MOST_BEAMS, "fov_up_deg": 90, "fov_down_deg": -90},
        "sequences": {
            "train": names[:-1] or names,
            "val": names[-1:] if names[1:] else [f"{names[0]}-val"],
        },
        "statistics": {},
    }
    return Draft(Description.model_validate(values), sequences, left_out, raw_ids)


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


def _find_scans(folder: SequenceFolder) -> tuple[dict[str, list[str]], list[str]]:
    """Sequence -> ids of its scans, and the folders that hold none."""
    folder.check_root()
    sequences, left_out = {}, []
    for name in sorted(p.name for p in (folder.root / "sequences").iterdir() if p.is_dir()):
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
    layout, first = folder.layout, folder.root / "sequences" / (left_out or [""])[0]
    inside = sorted(str(p.relative_to(first)) for p in first.glob("*/*"))[:3]
    raise DataError(
        f"no sequence of {folder.root} has files {layout.points_folder}/FRAME"
        f"{layout.points_suffix}; {first} holds {', '.join(inside) or 'no folder with files'}: "
        "state where the points are with --layout points_folder=... points_suffix=..."
    )


def _completed(folder: SequenceFolder, scan_ids: Sequence[str]) -> Layout:
    """The layout with what the files tell and the user did not."""
    layout = folder.layout
    told: dict[str, Any] = {"ring_zero": "highest"}  # which it is, the inclinations will tell
    path = folder.paths(scan_ids[0])[0]
    if "columns" not in layout.model_fields_set:
        told["columns"] = guess_columns(path)
    values = read_points(path, told.get("columns", layout.columns))
    if "ring_column" not in layout.model_fields_set:
        told["ring_column"] = find_ring(values)
    if "label_type" not in layout.model_fields_set:
        labels = next((i for i in scan_ids if folder.has_labels(i)), scan_ids[0])
        points_path, label_path = folder.paths(labels)
        points = len(read_points(points_path, told.get("columns", layout.columns)))
        types = {points: "uint8", 2 * points: "uint16"}  # by the size of the file
        told["label_type"] = types.get(file_size(label_path) or 0, layout.label_type)
    return Layout.model_validate(layout.model_dump() | told)


def guess_columns(path: Path) -> int:
    """How many values each point of a file has.

    Neighbouring points are alike, so the values of a raw file repeat themselves, roughly, after
    as many as a point has; ``.npy`` says it.

    Returns:
        4 where nothing can be told.

    Raises:
        DataError: the file cannot be read, or has no intensity.
    """
    columns = npy_shape(path)[1] if path.suffix == ".npy" else _repetition(path)
    if columns == 3:
        raise DataError(
            f"{path} seems to hold x, y, z alone: add an intensity to each point, 0 if there is "
            "none; if it does hold one, state --layout columns=4"
        )
    return columns


def _repetition(path: Path) -> int:
    """After how many values those of a raw file repeat themselves; 4 if they do not."""
    values = read_points(path, 1)[:_VALUES, 0]
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    values = np.sign(values) * np.log1p(np.abs(values))  # or a few outliers would decide
    size = file_size(path) or 0
    for columns in range(3, _MOST_COLUMNS + 1):
        later, earlier = values[columns:], values[:-columns]
        if size % (4 * columns) or later.size < 2 or not (later.std() and earlier.std()):
            continue
        if np.corrcoef(later, earlier)[0, 1] > _ALIKE:
            return columns
    return 4
