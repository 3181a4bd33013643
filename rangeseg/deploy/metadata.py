"""Metadata of an exported network, which it needs to label a scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, field_validator

from rangeseg import __version__
from rangeseg.datasets.base import DatasetInfo, MiouPolicy, ScanSource
from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.engine.inference import EvaluateSettings
from rangeseg.errors import ConfigError
from rangeseg.geometry.sensor import Sensor
from rangeseg.settings import Settings

KEY = "rangeseg"
"""Key of the metadata (JSON) among the properties of an ONNX file."""

FORMAT = 1
"""Version of these fields; a file of another version is refused."""


class NetworkMetadata(Settings):
    """Metadata to prepare the network's input and to read its output.

    The network maps ``image`` (B,C,H,W) float32 to ``logits`` (B,K,H,W) float32; with k layers
    (B,C,k,H,W) to (B,K,k,H,W).
    """

    format: int = FORMAT
    version: str = __version__  # of rangeseg
    dataset: str
    channels: tuple[str, ...]
    layers: int = 1  # points that a pixel keeps
    statistics: dict[str, tuple[float, float]]  # channel -> mean, standard deviation
    sensor: Sensor  # includes image size and row rule
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # red, green, blue in 0..255
    raw_ids: tuple[int, ...]  # raw id of each class in predictions
    ignored_id: int | None  # raw id of a withheld label
    label_type: str  # NumPy type of the data set's label files
    layout: Layout = Layout()  # of the data set's files
    policy: MiouPolicy
    evaluate: EvaluateSettings  # back-projection to the points
    half: bool = False  # weights and activations in float16
    bfloat16: bool = True  # allow bfloat16 on a processor
    run: dict[str, Any] = Field(default_factory=dict)  # training method

    @field_validator("format")
    @classmethod
    def _known(cls, value: int) -> int:
        if value != FORMAT:
            raise ValueError(f"format {value}, this version of rangeseg reads {FORMAT}")
        return value

    def info(self) -> DatasetInfo:
        """The network's info of its training data set."""
        raw_to_train = {raw: train for train, raw in enumerate(self.raw_ids)}
        if self.ignored_id is not None:
            raw_to_train[self.ignored_id] = IGNORE
        label_map = LabelMap(self.class_names, self.colours, raw_to_train)
        return DatasetInfo(self.dataset, label_map, self.sensor, self.statistics, self.policy)

    def images(self) -> RangeImages:
        """The network's range images."""
        sensor = self.sensor
        size = {"height": sensor.height, "width": sensor.width}
        content = {"channels": self.channels, "layers": self.layers}
        return RangeImages(self.info(), RangeImageSettings.model_validate({**size, **content}))


def describe(
    source: ScanSource, images: RangeImages, evaluate: EvaluateSettings, **more: Any
) -> NetworkMetadata:
    """Collect the metadata of a network.

    Args:
        source: training data set.
        images: range images of the network.
        evaluate: the back-projection. Test-time augmentation is not part of the network and left
            out.
        more: further fields.
    """
    info, label_map = source.info, source.info.label_map
    classes = np.arange(label_map.num_classes, dtype=np.uint8)
    try:
        ignored = int(label_map.to_raw(np.array([IGNORE], dtype=np.uint8))[0])
    except ConfigError:
        ignored = None
    channels = images.settings.channels
    return NetworkMetadata(
        dataset=info.name,
        channels=channels,
        layers=images.settings.layers,
        statistics={c: images.statistics[c] for c in channels if c in images.statistics},
        sensor=images.sensor,
        class_names=label_map.names,
        colours=tuple((int(r), int(g), int(b)) for r, g, b in label_map.colours),
        raw_ids=tuple(int(raw) for raw in label_map.to_raw(classes)),
        ignored_id=ignored,
        label_type=source.encode_labels(classes).dtype.name,
        layout=getattr(source, "layout", Layout()),
        policy=info.policy,
        evaluate=evaluate.model_copy(update={"tta": 1}),
        **more,
    )
