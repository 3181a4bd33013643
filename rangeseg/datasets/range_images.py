"""Scans as range images: one at a time, and as the batches of a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.utils.data import DataLoader, Dataset, Sampler

from rangeseg.datasets.base import DatasetInfo, Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import ConfigError, RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings, augment_points
from rangeseg.geometry.projection import (
    CHANNELS,
    Projection,
    beam_rows,
    make_range_image,
    project_points,
    to_image,
)
from rangeseg.geometry.sensor import RowRule
from rangeseg.progress import Progress
from rangeseg.settings import Settings

_log = logging.getLogger(__name__)

Sample = dict[str, np.ndarray]
"""``image`` (C,H,W) float32, ``valid`` (H,W) bool, and ``labels`` (H,W) uint8 if labelled."""

STRIDE = 8
"""The networks halve an image three times."""


class RangeImageSettings(Settings):
    """The size and the content of a range image."""

    height: int = Field(ge=STRIDE, multiple_of=STRIDE)
    width: int = Field(ge=STRIDE, multiple_of=STRIDE)
    rows: Literal["auto"] | RowRule = "auto"  # auto: the sensor's
    channels: tuple[Literal[CHANNELS], ...] = CHANNELS  # type: ignore[valid-type]
    # Training only. The networks still pad around the crop's edges as if it closed a circle.
    crop_width: int | None = Field(default=None, ge=STRIDE, multiple_of=STRIDE)

    @model_validator(mode="after")
    def _fits(self) -> RangeImageSettings:
        if self.crop_width is not None and self.crop_width > self.width:
            raise ValueError(f"crop_width {self.crop_width} exceeds width {self.width}")
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError("channels must name each channel once, and at least one")
        return self


class RangeImages:
    """Turns scans of one data set into range images.

    Args:
        info: the data set: its sensor and its statistics.
        settings: size, row rule, channels.
    """

    def __init__(self, info: DatasetInfo, settings: RangeImageSettings) -> None:
        self.settings = settings
        rule = None if settings.rows == "auto" else settings.rows
        self.sensor = info.sensor.resized(settings.height, settings.width, rule)
        self.statistics = info.statistics

    @property
    def channel_statistics(self) -> tuple[tuple[float, float], ...]:
        """(mean, std) of each channel, in the order of the channels."""
        return tuple(self.statistics.get(c, (0.0, 1.0)) for c in self.settings.channels)

    def project(self, scan: Scan) -> tuple[Projection, RowRule]:
        """Where every point of a scan falls, and the row rule that the scan allowed."""
        beams = beam_rows(scan.points, self.sensor, scan.ring)
        rule = "inclination" if beams is None else self.sensor.row_rule
        return project_points(scan.points, self.sensor, beams), rule

    def image(self, points: np.ndarray, projection: Projection) -> np.ndarray:
        """The normalised range image (C,H,W) float32 of points (N,4)."""
        return make_range_image(points, projection, self.settings.channels, self.statistics)

    def training_sample(
        self,
        scan: Scan,
        rng: np.random.Generator,
        augmentation: AugmentationSettings,
        window: float,
    ) -> Sample:
        """An augmented, perhaps cropped, range image.

        Args:
            scan: labelled or not.
            rng: of the augmentation.
            augmentation: how strong.
            window: where a crop begins, in turns [0,1) from the image's first column.

        Returns:
            ``image`` (C,H,W) float32 and ``valid`` (H,W) bool; ``labels`` (H,W) uint8 where the
            scan has labels.
        """
        # Before the augmentation: rotation moves the wraps from which rows are read.
        beams = beam_rows(scan.points, self.sensor, scan.ring)
        points = augment_points(scan.points, rng, augmentation)
        projection = project_points(points, self.sensor, beams)
        sample = {"image": self.image(points, projection), "valid": projection.valid}
        if scan.labels is not None:
            sample["labels"] = to_image(scan.labels, projection.point_index, IGNORE)
        if self.settings.crop_width is None:
            return sample
        start = int(window * self.settings.width)
        columns = (start + np.arange(self.settings.crop_width)) % self.settings.width
        return {name: np.take(field, columns, axis=-1) for name, field in sample.items()}


@dataclass(frozen=True)
class SampleKey:
    """Which scan, and how it is seen: a pure function of the training's seed.

    Attributes:
        labelled: whether its labels are read.
        scan_id: which scan.
        seed: of its augmentation.
        window: where its crop begins, the same for all scans of a step: mixing replaces pixels of
            one scan by those of another, which are the same rays only in the same window.
    """

    labelled: bool
    scan_id: str
    seed: tuple[int, ...]
    window: float


class TrainingScans(Dataset["Sample | RangesegError"]):
    """Reads, augments and projects the scan of a key."""

    def __init__(
        self, source: ScanSource, images: RangeImages, augmentation: AugmentationSettings
    ) -> None:
        self.source, self.images, self.augmentation = source, images, augmentation

    def __getitem__(self, key: SampleKey) -> Sample | RangesegError:
        """The sample of a key; the labels of an unlabelled scan are never read.

        A damaged scan is returned as its error: raised in a worker process it would reach the
        user wrapped in two tracebacks.
        """
        try:
            scan = self.source.read_scan(key.scan_id, with_labels=key.labelled)
        except RangesegError as error:
            return error
        rng = np.random.default_rng(key.seed)
        return self.images.training_sample(scan, rng, self.augmentation, key.window)


# NumPy pads a seed with zeros, so (1, 2) and (1, 2, 0) are one stream: a word tells them apart.
_SHUFFLE, _AUGMENT, _WINDOW = 0, 1, 2


class StepSampler(Sampler[list[SampleKey]]):
    """The keys of each step: ``batch_size`` labelled scans and as many unlabelled ones.

    Both lists are shuffled anew each time they are through, and cycle. What a step gets depends
    on the seed and the step alone, so a resumed training goes on where it stopped.

    Args:
        labelled: ids of the labelled scans.
        unlabelled: ids of the unlabelled scans; empty for a method that does not use them.
        batch_size: scans of each kind.
        seed: of the training.
        steps: first and one past the last step.
    """

    def __init__(
        self,
        labelled: list[str],
        unlabelled: list[str],
        batch_size: int,
        seed: int,
        steps: range,
    ) -> None:
        self.lists = (labelled, unlabelled)
        self.batch_size, self.seed, self.steps = batch_size, seed, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        orders: dict[tuple[int, int], np.ndarray] = {}
        for step in self.steps:
            keys = []
            window = float(np.random.default_rng((self.seed, _WINDOW, step)).random())
            for kind, ids in enumerate(self.lists):
                if not ids:
                    continue
                for slot in range(self.batch_size):
                    epoch, place = divmod(step * self.batch_size + slot, len(ids))
                    if (kind, epoch) not in orders:
                        orders.pop((kind, epoch - 2), None)
                        rng = np.random.default_rng((self.seed, _SHUFFLE, kind, epoch))
                        orders[kind, epoch] = rng.permutation(len(ids))
                    scan_id = ids[orders[kind, epoch][place]]
                    seed = (self.seed, _AUGMENT, kind, step, slot)
                    keys.append(SampleKey(kind == 0, scan_id, seed, window))
            yield keys


def collate(
    samples: list[Sample | RangesegError],
) -> list[dict[str, torch.Tensor]] | RangesegError:
    """Samples of one step -> the labelled fields and, if there are any, the unlabelled ones.

    If any scan could not be read, its error instead.
    """
    read: list[Sample] = []
    for sample in samples:
        if isinstance(sample, RangesegError):
            return sample
        read.append(sample)
    kinds = [[s for s in read if "labels" in s], [s for s in read if "labels" not in s]]
    return [
        {name: torch.from_numpy(np.stack([s[name] for s in kind])) for name in kind[0]}
        for kind in kinds
        if kind
    ]


def training_loader(
    scans: TrainingScans, sampler: StepSampler, workers: int, pin_memory: bool
) -> DataLoader[Sample | RangesegError]:
    """One batch per step; see ``collate`` for what it holds."""
    return DataLoader(
        scans,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
    )


def class_frequencies(source: ScanSource, scan_ids: list[str], most: int = 500) -> np.ndarray:
    """How often each class occurs among the points of labelled scans.

    Classes that do not occur are named in a warning.

    Args:
        source: where the scans are.
        scan_ids: labelled scans.
        most: how many of them are read at the most, evenly spaced.

    Returns:
        (K,) float64 that sum to 1.

    Raises:
        ConfigError: no point of these scans carries a class.
    """
    num_classes = source.info.label_map.num_classes
    counts = np.zeros(256, dtype=np.int64)
    chosen = scan_ids[:: -(-len(scan_ids) // most)]
    with Progress("counting classes", len(chosen), "scan") as progress:
        for scan_id in chosen:
            labels = source.read_scan(scan_id).labels
            assert labels is not None
            counts += np.bincount(labels, minlength=256)
            progress.update()
    counts = counts[:num_classes]
    if counts.sum() == 0:
        raise ConfigError(
            f"none of the {len(scan_ids)} labelled scans has a labelled point; "
            "choose other scans to label"
        )
    names = source.info.label_map.names
    absent = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if absent:
        _log.warning(
            "none of the %d labelled scans that were read holds a point of %s: the network cannot "
            "learn what it looks like; label more scans, or others (--labels, --seed)",
            len(chosen),
            ", ".join(absent),
        )
    frequencies: np.ndarray = counts / counts.sum()
    return frequencies
