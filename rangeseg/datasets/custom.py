"""Your own scans: KITTI's layout, and a description of classes, sensor and sequences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from rangeseg.datasets.base import DatasetInfo, MiouPolicy
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.datasets.split_files import SEQUENCE_NAME
from rangeseg.errors import unknown_name
from rangeseg.geometry.channels import CHANNELS
from rangeseg.geometry.sensor import RowRule, Sensor
from rangeseg.settings import Settings

MOST_CLASSES = 253
"""Train ids are bytes; 254 and 255 have other meanings."""

Problem = tuple[tuple[int | str, ...], str, object]
"""A problem in a field: its place, the problem, the value found."""


def _folder_name(name: object) -> object:
    if not isinstance(name, str):
        raise ValueError("quote it: '01'; unquoted, YAML takes a name for a number or a date")
    if not re.fullmatch(SEQUENCE_NAME, name):
        raise ValueError(
            "a sequence is a folder's name, without '/', '\\\\', '#', a dot in front or a blank "
            "at an end"
        )
    return name


SequenceName = Annotated[str, BeforeValidator(_folder_name)]
Splits = dict[Literal["train", "val", "test"], tuple[SequenceName, ...]]


class ClassDescription(Settings):
    """One class of the network."""

    name: str
    ids: tuple[int, ...]  # raw ids; predictions are written as the first
    colour: tuple[int, int, int]  # red, green, blue
    movable: bool = False  # may move between two scans, as cars do


class SensorDescription(Settings):
    """The device; ``range_image`` sets the image size."""

    beams: int = Field(ge=1)
    fov_up_deg: float = Field(ge=-90, le=90)
    fov_down_deg: float = Field(ge=-90, le=90)
    rows: RowRule = "inclination"
    min_range: float = Field(default=0.0, ge=0)
    # 0 is straight ahead, 90 on the left; a rear view runs from 270 to 90.
    azimuth_left_deg: float = 180.0
    azimuth_right_deg: float = -180.0

    @model_validator(mode="after")
    def _has_a_view(self) -> SensorDescription:
        if self.fov_down_deg >= self.fov_up_deg:
            raise ValueError(
                f"fov_down_deg {self.fov_down_deg:g} must be below fov_up_deg "
                f"{self.fov_up_deg:g}: angles are signed, up is positive"
            )
        if not 0 < self.azimuth_left_deg - self.azimuth_right_deg <= 360:
            raise ValueError(
                f"azimuth must fall from azimuth_left_deg {self.azimuth_left_deg:g} to "
                f"azimuth_right_deg {self.azimuth_right_deg:g} by at most 360 degrees: 0 is "
                "ahead, 90 left, a rear view is 270 to 90"
            )
        return self


def _without(problems: Callable[[Any, ValidationInfo], Iterator[Problem]]) -> AfterValidator:
    """Raise all problems of a field together, each with its place."""

    def check(value: Any, info: ValidationInfo) -> Any:
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("value_error", "{problem}", {"problem": problem}),
                loc=place,
                input=found,
            )
            for place, problem, found in problems(value, info)
        ]
        if errors:
            raise ValidationError.from_exception_data("description", errors)
        return value

    return AfterValidator(check)


def _class_problems(
    classes: tuple[ClassDescription, ...], info: ValidationInfo
) -> Iterator[Problem]:
    limits = _id_limits(info)
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    if not 1 <= len(classes) <= MOST_CLASSES:
        yield (), f"name 1 to {MOST_CLASSES} classes, not {len(classes)}", {}
    for number, c in enumerate(classes):
        if not c.name.strip():
            yield (number, "name"), "a class needs a name", c.name
        elif c.name in numbers:
            yield (number, "name"), f"classes.{numbers[c.name]} has this name already", c.name
        numbers.setdefault(c.name, number)
        if not c.ids:
            yield (number, "ids"), f"'{c.name}' needs the raw ids that belong to it", []
        yield from _id_problems(c.ids, owners, f"'{c.name}'", limits, (number, "ids"))
        for value in c.colour:
            if not 0 <= value <= 255:
                yield (number, "colour"), "red, green and blue run from 0 to 255", value


def _ignored_problems(ids: tuple[int, ...], info: ValidationInfo) -> Iterator[Problem]:
    owners = {raw: f"'{c.name}'" for c in info.data.get("classes", ()) for raw in c.ids}
    yield from _id_problems(ids, owners, "ignored_ids", _id_limits(info), ())


def _id_problems(
    ids: tuple[int, ...],
    owners: dict[int, str],
    owner: str,
    limits: tuple[int, int],
    place: tuple[int | str, ...],
) -> Iterator[Problem]:
    """Find problems with the raw ids of one owner, and add the ids to ``owners``."""
    for raw in ids:
        if not limits[0] <= raw <= limits[1]:
            yield place, f"raw ids run from {limits[0]} to {limits[1]}", raw
        elif raw in owners:
            where = "twice" if owners[raw] == owner else f"and also in {owners[raw]}"
            yield (
                place,
                f"a raw id belongs to one class or is ignored; this one is here {where}",
                raw,
            )
        owners.setdefault(raw, owner)


def _id_limits(info: ValidationInfo) -> tuple[int, int]:
    """The lowest and the highest class that the labels can hold."""
    layout = info.data.get("layout")
    if layout is None or (layout.label_type == "uint32" and "label" not in layout.fields):
        return 0, (1 << 16) - 1
    if layout.label_type == "colour":
        return 0, (1 << 24) - 1
    if layout.label_type.startswith("float"):
        highest = 1 << (24 if layout.label_type == "float32" else 53)  # the whole numbers end there
        return -highest, highest
    if "label" in layout.fields:  # the file knows its type
        return -(1 << 63), (1 << 63) - 1
    limits = np.iinfo(layout.label_type)
    return int(limits.min), min(int(limits.max), (1 << 63) - 1)


def _sensor_problems(sensor: SensorDescription, info: ValidationInfo) -> Iterator[Problem]:
    layout = info.data.get("layout")
    if sensor.rows == "ring" and layout is not None and layout.ring_column is None:
        raw = layout.points_suffix.endswith(".bin")  # of other files the fields have names
        if raw and "ring" not in layout.fields:
            problem = "rows by ring need layout.ring_column, the column that names the beam"
            yield ("rows",), problem, sensor.rows


def _split_problems(
    splits: Mapping[str, tuple[str, ...]], info: ValidationInfo
) -> Iterator[Problem]:
    for split, purpose in (("train", "train"), ("val", "evaluate")):
        if not splits.get(split):
            yield (split,), f"name at least one sequence to {purpose} on", []
    home: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in home:
                where = "twice" if home[name] == split else f"and also in {home[name]}"
                yield (
                    (split,),
                    f"a sequence belongs to one split; this one is here {where}",
                    name,
                )
            home.setdefault(name, split)


def _statistics_problems(
    statistics: Mapping[str, tuple[float, float]], info: ValidationInfo
) -> Iterator[Problem]:
    for channel, (_, deviation) in statistics.items():
        if channel not in CHANNELS:
            yield (channel,), str(unknown_name("channel", channel, CHANNELS)), {}
        elif deviation <= 0:
            yield (channel, 1), "a standard deviation must be positive", deviation


class Description(Settings):
    """The facts that other data sets define in code.

    The order of the fields matters: a field is checked against those above it.
    """

    layout: Layout = Layout()
    classes: Annotated[tuple[ClassDescription, ...], _without(_class_problems)]
    ignored_ids: Annotated[tuple[int, ...], _without(_ignored_problems)] = ()
    sensor: Annotated[SensorDescription, _without(_sensor_problems)]
    sequences: Annotated[Splits, _without(_split_problems)]
    # Channel: mean, standard deviation.
    statistics: Annotated[dict[str, tuple[float, float]], _without(_statistics_problems)]
    policy: MiouPolicy = "nuscenes"


class Custom(SequenceFolder):
    """Your own scans.

    Args:
        root: the folder that holds ``sequences/``.
        description: classes, sensor, sequences, files.
    """

    def __init__(self, root: Path, description: Description) -> None:
        super().__init__(root)
        self.description, self.layout = description, description.layout
        self.SPLITS = {str(k): v for k, v in description.sequences.items()}  # type: ignore[misc]
        sensor = description.sensor
        view_deg = sensor.azimuth_left_deg - sensor.azimuth_right_deg
        self.info = DatasetInfo(
            name="custom",
            label_map=_label_map(description),
            sensor=Sensor(
                name="custom", beams=sensor.beams, height=sensor.beams,
                width=max(1, round(2048 * view_deg / 360)),
                fov_up_deg=sensor.fov_up_deg, fov_down_deg=sensor.fov_down_deg,
                row_rule=sensor.rows, min_range=sensor.min_range,
                azimuth_left_deg=sensor.azimuth_left_deg,
                azimuth_right_deg=sensor.azimuth_right_deg,
            ),
            statistics=description.statistics,
            policy=description.policy,
            movable=frozenset(c.name for c in description.classes if c.movable),
        )  # fmt: skip

    def needs_labels(self, scan_id: str) -> bool:
        """Whether the scan has a label file: without one it is unlabelled."""
        return self.has_labels(scan_id)


def _label_map(description: Description) -> LabelMap:
    classes = description.classes
    own = {raw: index for index, c in enumerate(classes) for raw in c.ids}
    return LabelMap(
        names=tuple(c.name for c in classes),
        colours=tuple(c.colour for c in classes),
        raw_to_train=own | dict.fromkeys(description.ignored_ids, IGNORE),
    )
