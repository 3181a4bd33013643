"""Paths and contents of a data set's files: ``dataset.description.layout``."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from rangeseg.settings import Settings

PointType = Literal[
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"
]
LabelType = Literal[
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
    "colour",
]  # fmt: skip
LABEL_TYPES: tuple[str, ...] = get_args(LabelType)
ByteOrder = Literal["little", "big"]
Role = Literal["x", "y", "z", "intensity", "ring", "time", "label"]
Axis = Literal["x", "y", "z", "-x", "-y", "-z"]


class Layout(Settings):
    """Paths and contents of a sequence's files.

    Points are converted in this order: times ``scale``; with ``frame: world`` by the scan's pose to
    the sensor's frame; ``axes``; the tilt of the mounting.
    """

    sequences_folder: str = "sequences"  # of the root; ".": the sequences lie in the root itself
    points_folder: str = "velodyne"  # of a sequence; ".": the files lie in the sequence itself
    points_suffix: str = Field(default=".bin", min_length=1)  # the format is told by the content
    # Of raw files:
    columns: int = Field(default=4, ge=3)  # values per point: x, y, z, intensity, and more
    dtype: PointType = "float32"
    byte_order: ByteOrder = "little"  # also of raw label files
    # Unusual names in files with named fields: role -> name.
    fields: dict[Role, str] = Field(default_factory=dict)
    scale: float = Field(default=1.0, gt=0)  # metres per unit: 0.001 for millimetres
    # Which axes of the file point forward, left and up; cameras: z, -x, -y.
    axes: tuple[Axis, Axis, Axis] = ("x", "y", "z")
    # How the sensor is mounted, as in a URDF; a positive pitch looks down.
    roll_deg: float = Field(default=0.0, ge=-180, le=180)
    pitch_deg: float = Field(default=0.0, ge=-90, le=90)
    frame: Literal["sensor", "world"] = "sensor"  # world: needs the poses of every sequence
    intensity_max: float = Field(default=1.0, gt=0)  # value of the brightest echo in the files
    ring_column: int | None = None  # column of each point's beam, from 0
    time_column: int | None = None  # column of each point's time, from 0
    ring_zero: Literal["highest", "lowest"] = "highest"  # beam with number 0 in the files
    labels_folder: str = "labels"
    labels_suffix: str = Field(default=".label", min_length=1)
    label_type: LabelType = "uint32"  # uint32: class in the lower half
    accept: tuple[str, ...] = ()  # accepted verdicts, e.g. merged

    @field_validator("axes", "accept", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Command lines write ``z,-x,-y``."""
        return [word.strip() for word in value.split(",")] if isinstance(value, str) else value

    @field_validator("fields", mode="before")
    @classmethod
    def _paired(cls, value: Any) -> Any:
        """Command lines write ``ring:channel,time:stamp``."""
        if not isinstance(value, str):
            return value
        pairs = [pair.partition(":") for pair in value.split(",")]
        return {role.strip(): name.strip() for role, _, name in pairs}

    @field_validator("axes")
    @classmethod
    def _three_directions(cls, axes: tuple[Axis, Axis, Axis]) -> tuple[Axis, Axis, Axis]:
        if {axis[-1] for axis in axes} != {"x", "y", "z"}:
            raise ValueError("forward, left and up are three different axes, e.g. [z, -x, -y]")
        return axes

    @field_validator("ring_column", "time_column")
    @classmethod
    def _beyond_intensity(cls, column: int | None, info: ValidationInfo) -> int | None:
        columns = info.data.get("columns")  # absent if itself invalid
        if column is not None and columns is not None and not 4 <= column < columns:
            raise ValueError(
                f"columns 0 to 3 are x, y, z and intensity, and there are {columns} in all: "
                "correct layout.columns or this column"
            )
        return column

    @field_validator("sequences_folder", "points_folder", "labels_folder")
    @classmethod
    def _below(cls, folder: str) -> str:
        path = PurePath(folder)
        if path.is_absolute() or ".." in path.parts or "\0" in folder:
            raise ValueError("a folder below the sequence's, or below the root")
        return folder

    @field_validator("points_suffix", "labels_suffix")
    @classmethod
    def _ends_a_name(cls, suffix: str) -> str:
        if {"/", "\\", "\0"} & set(suffix):
            raise ValueError("the ending of the files' names, such as .bin")
        return suffix

    @model_validator(mode="after")
    def _ring_once(self) -> Layout:
        for role, column in (("ring", self.ring_column), ("time", self.time_column)):
            if column is not None and role in self.fields:
                raise ValueError(f"state {role}_column or fields.{role}, not both")
        return self

    @model_validator(mode="after")
    def _labels_elsewhere(self) -> Layout:
        points = PurePath(self.points_folder, self.points_suffix)
        if points == PurePath(self.labels_folder, self.labels_suffix):
            raise ValueError("labels_folder and labels_suffix name the files of the points")
        return self

    @property
    def moves(self) -> bool:
        """Whether coordinates differ from metres in the sensor's frame."""
        return self.scale != 1.0 or self.frame == "world" or self.turns

    @property
    def turns(self) -> bool:
        """Whether the file's axes differ from those of a level sensor."""
        return self.axes != ("x", "y", "z") or bool(self.roll_deg or self.pitch_deg)

    def rotation(self) -> np.ndarray:
        """The matrix (3,3) float64 from the file's axes to forward, left and up, level.

        Its determinant is -1 where the file's axes are left-handed.
        """
        axes = np.zeros((3, 3))
        for row, axis in enumerate(self.axes):
            axes[row, "xyz".index(axis[-1])] = -1.0 if axis.startswith("-") else 1.0
        roll, pitch = np.radians([self.roll_deg, self.pitch_deg])
        about_x = np.array(
            [
                [1.0, 0.0, 0.0],
                [0.0, np.cos(roll), -np.sin(roll)],
                [0.0, np.sin(roll), np.cos(roll)],
            ]
        )
        about_y = np.array(
            [
                [np.cos(pitch), 0.0, np.sin(pitch)],
                [0.0, 1.0, 0.0],
                [-np.sin(pitch), 0.0, np.cos(pitch)],
            ]
        )
        turned: np.ndarray = about_y @ about_x @ axes
        return turned
