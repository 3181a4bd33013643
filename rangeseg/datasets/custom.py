"""Your own scans: KITTI's layout, and a description of classes, sensor and sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from rangeseg.datasets.base import DatasetInfo, MiouPolicy
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.sequences import Layout, SequenceFolder
from rangeseg.geometry.sensor import RowRule, Sensor
from rangeseg.settings import Settings


class ClassDescription(Settings):
    """One class of the network."""

    name: str
    ids: tuple[int, ...]  # raw ids; predictions are written as the first
    colour: tuple[int, int, int]  # red, green, blue


class SensorDescription(Settings):
    """The device; the size of the image is that of ``range_image``."""

    beams: int = Field(ge=1)
    fov_up_deg: float
    fov_down_deg: float
    rows: RowRule = "inclination"
    min_range: float = Field(default=0.0, ge=0)


class Description(Settings):
    """What the other data sets know of themselves."""

    classes: tuple[ClassDescription, ...]
    ignored_ids: tuple[int, ...] = ()
    sensor: SensorDescription
    sequences: dict[Literal["train", "val", "test"], tuple[str, ...]]
    statistics: dict[str, tuple[float, float]]
    layout: Layout = Layout()
    policy: MiouPolicy = "nuscenes"


class Custom(SequenceFolder):
    """Your own scans.

    Args:
        root: the folder that holds ``sequences/``.
        description: classes, sensor, sequences, files.
    """

    def __init__(self, root: Path, description: Description) -> None:
        super().__init__(root)
        self.layout = description.layout
        self.SPLITS = {str(k): v for k, v in description.sequences.items()}  # type: ignore[misc]
        sensor = description.sensor
        self.info = DatasetInfo(
            name="custom",
            label_map=_label_map(description),
            sensor=Sensor(
                name="custom", beams=sensor.beams, height=sensor.beams, width=2048,
                fov_up_deg=sensor.fov_up_deg, fov_down_deg=sensor.fov_down_deg,
                row_rule=sensor.rows, min_range=sensor.min_range,
            ),
            statistics=description.statistics,
            policy=description.policy,
        )  # fmt: skip

    def labelled_ids(self, split: str) -> list[str]:
        """Ids of the scans of a split that have a label file: the others are unlabelled."""
        return [i for i in self.scan_ids(split) if self.has_labels(i)]


def _label_map(description: Description) -> LabelMap:
    classes = description.classes
    own = {raw: index for index, c in enumerate(classes) for raw in c.ids}
    return LabelMap(
        names=tuple(c.name for c in classes),
        colours=tuple(c.colour for c in classes),
        raw_to_train=own | dict.fromkeys(description.ignored_ids, IGNORE),
        train_to_raw=tuple(c.ids[0] for c in classes),
        raw_names={raw: c.name for c in classes for raw in c.ids}
        | dict.fromkeys(description.ignored_ids, "ignored"),
    )
