"""The interface of a method: a module that owns its networks and returns named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rangeseg.errors import ConfigError
from rangeseg.methods.layers import front
from rangeseg.methods.losses import CrossEntropySettings, SupervisedLoss, TermsOn, ramp_up
from rangeseg.methods.mixing import Fields, cutmix_mask, mix, partner
from rangeseg.methods.perturbation import PerturbationSettings, StrongPerturbation
from rangeseg.models import NetworkFactory
from rangeseg.models.network import Network
from rangeseg.settings import Settings

Labelled = Literal["plain", "strong", "coin"]
"""Labelled scans as published, perturbed and mixed, or each of them one or the other by a coin."""


@dataclass(frozen=True)
class Task:
    """Facts about the data and the training for every method.

    Attributes:
        num_classes: K.
        channels: names of the image channels.
        statistics: (mean, std) of each channel.
        class_weights: (K,) weights of the cross-entropy with truth.
        labelled: how the student sees labelled scans, see ``Labelled``.
        lovasz_weight: weight of the Lovász-softmax term of the supervised loss.
        boundary_weight: weight of the boundary term of the supervised loss.
        perturbation: strength of the strong views.
        full_turn: whether the first and the last column of an image are neighbours.
        cross_entropy: how the cross-entropy of the supervised loss is reduced.
        terms_on: the heads with the Lovász-softmax and boundary terms.
    """

    num_classes: int
    channels: tuple[str, ...]
    statistics: tuple[tuple[float, float], ...]
    class_weights: Tensor
    labelled: Labelled
    lovasz_weight: float
    boundary_weight: float
    perturbation: PerturbationSettings
    full_turn: bool = True
    cross_entropy: CrossEntropySettings = field(default_factory=CrossEntropySettings)
    terms_on: TermsOn = "all_heads"


@dataclass(frozen=True)
class StepContext:
    """A step of the training.

    Attributes:
        step: finished steps, from 0.
        steps: steps of the whole training.
        generator: random generator of this step, on the device of the batch.
    """

    step: int
    steps: int
    generator: torch.Generator

    @property
    def progress(self) -> float:
        """Finished share of the training, in [0,1)."""
        return self.step / self.steps


@dataclass(frozen=True)
class TrainingBatch:
    """The scans of one step.

    Attributes:
        labelled: ``image`` (B,C,H,W), ``valid`` (B,H,W) bool, ``labels`` (B,H,W) uint8; see
            ``Fields`` for layers.
        unlabelled: the same without ``labels``; None for a method that does not use them.
    """

    labelled: Fields
    unlabelled: Fields | None


class UnsupervisedSettings(Settings):
    """Settings of the semi-supervised methods.

    The ramp is in shares of the training: the unsupervised loss is off before ``ramp_start`` and
    rises over ``ramp_length``.

    ``pseudo_label_weights``: class weights of a cross-entropy with pseudo-labels. ``none`` is the
    papers' choice, ``class_weights`` uses those of the supervised loss. A network trained with
    class weights predicts rare classes too often, and its pseudo-labels would repeat that. In a
    mixed scan truth gets the same weights as pseudo-labels.

    ``pool``: the unlabelled scans: the ``others`` of the train split, or ``all``, including
    labelled ones without their labels.
    """

    pool: Literal["others", "all"] = "others"
    weight: float = Field(default=1.0, ge=0)
    ramp_start: float = Field(default=0.0, ge=0, le=1)
    ramp_length: float = Field(default=0.0, ge=0, le=1)
    pseudo_label_weights: Literal["none", "class_weights"] = "none"

    def weight_at(self, progress: float) -> float:
        """The weight at this share of the training."""
        return self.weight * ramp_up(progress, self.ramp_start, self.ramp_length)

    def pseudo_weights(self, class_weights: Tensor) -> Tensor:
        """The weights (K,) of the classes of pseudo-labels.

        Args:
            class_weights: (K,) of the supervised loss.
        """
        if self.pseudo_label_weights == "none":
            return torch.ones_like(class_weights)
        return class_weights


AnySettings = TypeVar("AnySettings", bound=Settings)


class Method(nn.Module, ABC, Generic[AnySettings]):
    """A training method: it owns its networks and returns their losses.

    Args:
        build_network: makes a newly initialised network; called once per network.
        task: the data and the labelled branch.
        settings: settings of the method.
    """

    Settings: ClassVar[type[Settings]]
    uses_unlabelled: ClassVar[bool] = True

    def __init__(self, build_network: NetworkFactory, task: Task, settings: AnySettings) -> None:
        super().__init__()
        self.settings = settings
        self.labelled_mode = task.labelled
        self.num_classes = task.num_classes
        self.student = build_network()
        self.supervised_loss = SupervisedLoss(
            task.class_weights, task.lovasz_weight, task.boundary_weight, task.full_turn,
            task.cross_entropy,
        )  # fmt: skip
        self._terms_on = task.terms_on
        self._range_statistics: tuple[int, float, float] | None = None
        if task.cross_entropy.range_weighting:
            self._range_statistics = _range_channel(task)
        self.perturb = StrongPerturbation(task.perturbation, task.channels, task.statistics)

    @abstractmethod
    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """Named, weighted loss terms (scalars); the trainer adds them up."""

    def after_batch(self) -> None:
        """Keep data of a batch for ``after_step``; called after each batch of a step."""

    def after_step(self, context: StepContext) -> None:
        """Update teacher, bank or prototypes; called after the optimiser's step."""

    def predictor(self) -> nn.Module:
        """The network for evaluation and export."""
        return self.student

    def trained_networks(self) -> list[nn.Module]:
        """The networks that the optimiser updates; each gradient is clipped separately."""
        return [self.student]

    def labelled_view(self, labelled: Fields, generator: torch.Generator) -> Fields:
        """The labelled scans for the student, the same for every method."""
        if self.labelled_mode == "plain":
            return labelled
        strong = self.cutmix(labelled, generator)
        if self.labelled_mode == "strong":
            return strong
        shape = labelled["valid"].shape
        coin = torch.rand((shape[0], 1, 1), generator=generator, device=generator.device) < 0.5
        return mix(labelled, strong, coin.expand(shape[0], *shape[-2:]))

    def cutmix(self, scans: Fields, generator: torch.Generator) -> Fields:
        """Perturb the scans; each gets a box of half the image from its neighbour."""
        return self.mixed_by_box(self.perturb(scans, generator), generator)

    def mixed_by_box(self, scans: Fields, generator: torch.Generator) -> Fields:
        """Give each scan a box of half the image from its neighbour."""
        mask = cutmix_mask(scans["valid"].shape, generator)
        return mix(scans, partner(scans), mask)

    def supervise(
        self,
        network: Network,
        labelled: Fields,
        *others: Tensor,
        disturb: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Run one forward for all images, so that they share batch-norm statistics.

        Args:
            network: of the method.
            labelled: what ``labelled_view`` returned.
            others: images (B,C,H,W) to predict with the labelled ones.
            disturb: changes each feature (B,C,h,w) of the encoder before it is decoded; the
                labelled scans come first in its batch.

        Returns:
            The supervised term, and the logits (B,K,H,W) of labelled and other images.
        """
        images = [labelled["image"], *others]
        features = network.encode(torch.cat(images))
        decoded = features if disturb is None else network.disturbed(features, disturb)
        logits = network.classify(network.decode(decoded))
        parts = list(torch.split(logits, [len(image) for image in images]))
        return self.supervised_term(network, features, parts[0], labelled), parts

    def supervised_term(
        self, network: Network, features: list[Tensor], logits: Tensor, labelled: Fields
    ) -> Tensor:
        """The loss of the labelled scans, the same for every method.

        Each auxiliary head adds the same loss of its logits. In a network of layers, a head that
        predicts pixels learns the labels of the nearest points.

        Args:
            network: of the method.
            features: features of its encoder, for a batch that begins with the labelled scans.
            logits: (B,K,H,W) or (B,K,k,H,W) of the labelled scans.
            labelled: what ``labelled_view`` returned.
        """
        heads = network.auxiliary([feature[: len(logits)] for feature in features])
        labels, valid = labelled["labels"], labelled["valid"]
        ranges = self.ranges(labelled["image"])
        losses = [self.classifier_loss(logits, labels, valid, ranges)]
        for head in heads:
            if head.dim() < labels.dim() + 1:
                labels, valid = front(labels), front(valid)
                ranges = None if ranges is None else front(ranges)
            losses.append(self.supervised_loss(head, labels, valid, ranges))
        return torch.stack(losses).sum()

    def classifier_loss(
        self, logits: Tensor, labels: Tensor, valid: Tensor, ranges: Tensor | None
    ) -> Tensor:
        """The supervised loss of the main head, with its terms.

        Args:
            logits: (B,K,H,W) or (B,K,k,H,W).
            labels: (B,H,W) or (B,k,H,W) train ids; IGNORE does not count.
            valid: likewise, bool.
            ranges: ranges of the same images; see the method ``ranges``.
        """
        all_terms = self._terms_on == "all_heads" or len(self.student.heads) == 1
        loss: Tensor = self.supervised_loss(logits, labels, valid, ranges, all_terms)
        return loss

    def ranges(self, image: Tensor) -> Tensor | None:
        """The range in metres of each pixel or point, if the supervised loss uses it."""
        if self._range_statistics is None:
            return None
        channel, mean, std = self._range_statistics
        return image[:, channel] * std + mean


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Run the network in eval mode without gradients, then restore its mode."""
    mode = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(mode)


def _range_channel(task: Task) -> tuple[int, float, float]:
    """The index of the range channel, its mean and standard deviation."""
    if "range" not in task.channels:
        raise ConfigError(
            "train.cross_entropy.range_weighting needs the range, but range_image.channels are "
            f"{', '.join(task.channels)}: add range"
        )
    channel = task.channels.index("range")
    return channel, *task.statistics[channel]
