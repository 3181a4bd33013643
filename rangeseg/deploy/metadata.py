"""What an exported network must know besides its weights, to take a scan to labels."""

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
"""Of the metadata, as JSON, among the properties of an ONNX file."""

FORMAT = 1
"""Of these fields; a file of another format is refused."""


class NetworkMetadata(Settings):
    """All that a program needs to prepare the network's input and to read its output.

    The network maps ``image`` (B,C,H,W) float32 to ``logits`` (B,K,H,W) float32; with k layers
    (B,C,k,H,W) to (B,K,k,H,W).
    """

    format: int = FORMAT
    version: str = __version__  # of rangeseg
    dataset: str
    channels: tuple[str, ...]
    layers: int = 1  # points that a pixel keeps
    statistics: dict[str, tuple[float, float]]  # channel -> mean, standard deviation
    sensor: Sensor  # with the size of the image and the row rule
    class_names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]  # red, green, blue in 0..255
    raw_ids: tuple[int, ...]  # that each class is written as
    ignored_id: int | None  # that a withheld label is written as
    label_type: str  # of the data set's label files, as NumPy names it
    layout: Layout = Layout()  # of the data set's files
    policy: MiouPolicy
    evaluate: EvaluateSettings  # how predictions return to the points
    half: bool = False  # weights and activations in float16
    bfloat16: bool = True  # whether a processor may compute in it
    run: dict[str, Any] = Field(default_factory=dict)  # how it was trained

    @field_validator("format")
    @classmethod
    def _known(cls, value: int) -> int:
        if value != FORMAT:
            raise ValueError(f"format {value}, this version of rangeseg reads {FORMAT}")
        return value

    def info(self) -> DatasetInfo:
        """What the network knows of the data set that it learnt from."""
        raw_to_train = {raw: train for train, raw in enumerate(self.raw_ids)}
        if self.ignored_id is not None:
            raw_to_train[self.ignored_id] = IGNORE
        label_map = LabelMap(self.class_names, self.colours, raw_to_train)
        return DatasetInfo(self.dataset, label_map, self.sensor, self.statistics, self.policy)

    def images(self) -> RangeImages:
        """The range images that the network reads."""
        sensor = self.sensor
        size = {"height": sensor.height, "width": sensor.width}
        content = {"channels": self.channels, "layers": self.layers}
        return RangeImages(self.info(), RangeImageSettings.model_validate({**size, **content}))


def describe(
    source: ScanSource, images: RangeImages, evaluate: EvaluateSettings, **more: Any
) -> NetworkMetadata:
    """The metadata of a network.

    Args:
        source: the data set that it learnt from.
        images: what it reads.
        evaluate: the back-projection. Test-time augmentation is left out: it is no part of the
            network.
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
