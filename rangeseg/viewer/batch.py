"""A training batch of a method's student: its images and targets.

No method needs changes. The scans of a batch get one more image channel, the number of their scan.
Nothing perturbs it, mixing carries it along, and it is removed before a network. So each pixel of
the student's images names its scan. Mixing never moves a pixel, so the scan's values at the same
place belong to the pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rangeseg.datasets.batches import TrainingScans
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import class_frequencies
from rangeseg.datasets.sampler import SampleKey, StepSampler, batch_seed
from rangeseg.datasets.splits import ListFile
from rangeseg.engine.checkpoint import load_checkpoint
from rangeseg.errors import ConfigError, RangesegError
from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.methods.layers import front, front_channels
from rangeseg.methods.mixing import Fields
from rangeseg.methods.perturbation import StrongPerturbation
from rangeseg.models.network import Network
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import LABELLED
from rangeseg.system.device import channels_last, to_device
from rangeseg.viewer.propagated import labels_of_training

Kind = Literal["labelled", "propagated", "unlabelled"]
"""Source of a scan's labels: its own, propagated ones, or none."""


@dataclass(frozen=True)
class StudentBatch:
    """One training step to view; with layers, the nearest point of each pixel.

    Attributes:
        scans: id of each scan, and its kind; number 1 comes first.
        depth: (B,H,W) float32 metres in the student's images.
        origin: (B,H,W) uint8 number of each pixel's scan; 0 without an echo, or for dropped pixels.
        taught: (B,H,W) uint8: the label of pixels from labelled and propagated scans, elsewhere the
            class predicted by the method's own network for the scan; IGNORE without either.
        confidence: (B,H,W) float32 of the predicted classes; 1 for labels.
        threshold: the confidence of the method's settings, 0 if it has none. Most methods do not
            learn predictions below it.
    """

    scans: list[tuple[str, Kind]]
    depth: np.ndarray
    origin: np.ndarray
    taught: np.ndarray
    confidence: np.ndarray
    threshold: float


def student_batch(
    experiment: Experiment[RunConfig], checkpoint: Path | None, step: int, device: torch.device
) -> StudentBatch:
    """Make the student's batch of a step, the first one if it has several.

    The scans, crops, augmentation and random draws are those of the training.

    Args:
        experiment: the parts of the run.
        checkpoint: checkpoint in the run's folder; None takes untrained networks, whose predictions
            mean nothing.
        step: number of the step, from 0.
        device: device of the networks.

    Raises:
        ConfigError: the images have no range, or the method has no unlabelled scan to learn from.
        DataError: a scan cannot be read.
        CheckpointError: the checkpoint does not fit.
    """
    config, source, images = experiment.config, experiment.source, experiment.images
    channels = config.range_image.channels
    if "range" not in channels:
        raise ConfigError(f"a batch is shown by its ranges, and {', '.join(channels)} has none")
    run = config.run
    # The run's list of labelled scans may be gone: its folder has a copy.
    kept = None if checkpoint is None else ListFile(checkpoint.parent / LABELLED)
    labelled, unlabelled = experiment.scans(kept)
    method = experiment.method(class_frequencies(source, labelled))
    if checkpoint is not None:
        load_checkpoint(checkpoint, experiment.identity(labelled), method, torch.device("cpu"))
    folder = None if checkpoint is None else checkpoint.parent
    propagated = labels_of_training(experiment, labelled, folder)
    first = step * config.train.accumulate  # number of batches in the step
    given = list(propagated)
    sampler = StepSampler(
        labelled, unlabelled, config.train.batch_size, run.seed, range(first, first + 1),
        propagated=given, share=config.train.propagation.share_of(len(labelled), len(given)),
    )  # fmt: skip
    statistics = images.channel_statistics
    method.perturb = StrongPerturbation(
        config.train.perturbation, (*channels, NUMBER), (*statistics, (0.0, 1.0))
    )
    to_device(method, device).train()
    keys = next(iter(sampler))
    scans = TrainingScans(
        source, images, config.train.augmentation, labelled, unlabelled, propagated=propagated
    )
    read = [_numbered(number, scans, key) for number, key in enumerate(keys, 1)]
    recorder = ForwardRecorder(method)
    generator = torch.Generator(device)
    generator.manual_seed(batch_seed(run.seed, first))
    method(_batch(read, keys, device), StepContext(step, config.train.steps, generator))
    place = channels.index("range")
    threshold = float(getattr(method.settings, "confidence", 0.0))
    told = [(key.scan_id, _kind(key, propagated)) for key in keys]
    return _told(recorder, read, told, place, statistics[place], threshold)


NUMBER = "number"
"""The additional channel."""


class ForwardRecorder:
    """Records the networks of a method: the student's images, and predictions.

    Attributes:
        seen: images (B,C+1,H,W) of the student's forwards with gradient, in order.
        predicted: number of a scan -> probabilities (K,H,W) of its last unmixed prediction without
            gradient, the source of pseudo-labels.
    """

    def __init__(self, method: Method[Any]) -> None:
        self.seen: list[Tensor] = []
        self.predicted: dict[int, Tensor] = {}
        for network in method.modules():
            if isinstance(network, Network):
                self._listen(network, network is method.student)

    def _listen(self, network: Network, is_student: bool) -> None:
        encode, classify = network.encode, network.classify
        numbers = torch.empty(0)

        def encode_and_tell(image: Tensor) -> list[Tensor]:
            nonlocal numbers
            numbers = image[:, -1]
            if is_student and torch.is_grad_enabled():
                self.seen.append(image.detach().cpu())
            return encode(image[:, :-1].contiguous(memory_format=channels_last(image)))

        def classify_and_tell(embedding: Tensor) -> Tensor:
            logits = classify(embedding)
            if not torch.is_grad_enabled():
                self._keep(numbers, logits)
            return logits

        network.encode = encode_and_tell  # type: ignore[method-assign]
        network.classify = classify_and_tell  # type: ignore[method-assign]

    def _keep(self, numbers: Tensor, logits: Tensor) -> None:
        probabilities = logits.float().softmax(dim=1).cpu()
        for scan, each in zip(front(numbers), front_channels(probabilities), strict=True):
            found = scan.unique()
            found = found[found > 0]
            if len(found) == 1:
                self.predicted[int(found)] = each


def _kind(key: SampleKey, propagated: Mapping[str, np.ndarray]) -> Kind:
    if not key.labelled:
        return "unlabelled"
    return "propagated" if key.scan_id in propagated else "labelled"


def _numbered(number: int, scans: TrainingScans, key: SampleKey) -> Fields:
    """The sample of a key as tensors, with the scan's number as the last channel.

    Raises:
        DataError: the scan, or the one that gives it objects, cannot be read.
        RangesegError: see ``TrainingScans``.
    """
    loaded = scans[key]
    if isinstance(loaded, RangesegError):
        raise loaded
    for bad in loaded.bad:
        raise bad.error
    fields = {name: torch.from_numpy(array) for name, array in loaded.sample.items()}
    fields["image"] = torch.cat([fields["image"], number * fields["valid"][None].float()])
    return fields


def _batch(read: list[Fields], keys: list[SampleKey], device: torch.device) -> TrainingBatch:
    kinds: list[Fields | None] = []
    for labelled in (True, False):
        chosen = [
            fields for fields, key in zip(read, keys, strict=True) if key.labelled is labelled
        ]
        kinds.append(
            {name: torch.stack([f[name] for f in chosen]).to(device) for name in chosen[0]}
            if chosen
            else None
        )
    assert kinds[0] is not None
    return TrainingBatch(kinds[0], kinds[1])


def _told(
    recorder: ForwardRecorder, read: list[Fields], scans: list[tuple[str, Kind]],
    range_channel: int, statistics: tuple[float, float], threshold: float,
) -> StudentBatch:  # fmt: skip
    """Assemble the recorded targets pixel by pixel from the scans."""
    images = front_channels(torch.cat(recorder.seen))
    origin = images[:, -1].round().to(torch.uint8)
    taught = torch.full(origin.shape, IGNORE, dtype=torch.uint8)
    confidence = torch.zeros(origin.shape)
    for number, (fields, (_, kind)) in enumerate(zip(read, scans, strict=True), 1):
        here = origin == number
        if kind != "unlabelled":
            known = front(fields["labels"][None])[0]
            sure = torch.ones(known.shape)
        elif number in recorder.predicted:
            sure, classes = recorder.predicted[number].max(dim=0)
            known = classes.to(torch.uint8)
        else:
            continue
        taught = torch.where(here, known, taught)
        confidence = torch.where(here, sure, confidence)
    mean, std = statistics
    return StudentBatch(
        scans,
        (images[:, range_channel] * std + mean).numpy(),
        origin.numpy(),
        taught.numpy(),
        confidence.numpy(),
        threshold,
    )
