"""Cross pseudo supervision (CPS)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from rangeseg.methods.base import (
    Method,
    StepContext,
    Task,
    TrainingBatch,
    UnsupervisedSettings,
    evaluating,
)
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields, mix, partner, three_box_mask
from rangeseg.models import NetworkFactory


class CpsSettings(UnsupervisedSettings):
    """The official code's choices, except ``perturb``, which is ours.

    ``weight``: official 1 with CutMix and 1.5 without on Pascal VOC, 5 and 6 on Cityscapes.
    ``cutmix``: mix the unlabelled scans (the paper's stronger variant). Without it the networks
    also learn each other's pseudo-labels of the labelled scans, as in the paper's Eq. 3.
    ``confidence``: pseudo-labels below it do not count; the paper keeps all.
    ``perturb``: also perturb the training scans of the networks.
    ``predictor``: evaluate the first network (official) or the averaged pair.
    """

    cutmix: bool = True
    confidence: float = Field(default=0.0, ge=0, le=1)
    perturb: bool = True
    predictor: Literal["first", "average"] = "first"


class Average(nn.Module):
    """The mean of two networks' probabilities, as logits."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: Tensor) -> Tensor:
        """(B,C,H,W) -> log of the mean probability (B,K,H,W)."""
        mean = self.first(image).float().softmax(1) + self.second(image).float().softmax(1)
        return torch.log(mean / 2)


class Cps(Method[CpsSettings]):
    """Two networks of one architecture that learn from each other's hard pseudo-labels.

    Reference:
        Chen et al. 2021, "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision",
        Sec. 3. Departures from the official code, by default:

        1. Perturbation. Official: none (``perturb: false``). Ours: the training scans of both
           networks. Why: a strong view in every method.
        2. Weight. Official: 1 with CutMix and 1.5 without on Pascal VOC, 5 and 6 on Cityscapes.
           Ours: 1. Why: none was published for LiDAR.
        3. Pseudo-labels. Official: in training mode. Ours: in eval mode; without ``cutmix`` those
           of the labelled scans on the labelled view. Why: they do not depend on the batch.
        4. Boxes. Official: an area for each of the three. Ours: one area for the three, wrapped
           along azimuth. Why: the left and right edges of a range image are neighbours.
        5. Partners. Official: a second unlabelled batch. Ours: the neighbours in the batch. Why: a
           second batch doubles the cost of pseudo-labels.
        6. Batch norms. Official: a forward for each batch. Ours: labelled and mixed scans share
           one. Why: equal statistics for both, and one forward less.
        7. Threshold and predictor. Official: every pseudo-label, the first network. Ours: the
           same, or ``confidence`` and the ``average``. Why: choices for few labels.
    """

    Settings = CpsSettings

    def __init__(self, build_network: NetworkFactory, task: Task, settings: CpsSettings) -> None:
        super().__init__(build_network, task, settings)
        self.second = build_network()

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        labelled = self.labelled_view(batch.labelled, context.generator)
        scans = self._with_predictions(batch.unlabelled)
        if self.settings.perturb:
            scans = self.perturb(scans, context.generator)
        if self.settings.cutmix:
            mask = three_box_mask(scans["valid"].shape, context.generator)
            scans = mix(scans, partner(scans), mask)
            crossed = scans
        else:
            seen = {"image": labelled["image"], "valid": labelled["valid"]}
            more = self._with_predictions(seen)
            crossed = {name: torch.cat([more[name], scans[name]]) for name in more}

        losses: dict[str, Tensor] = {}
        weight = self.settings.weight_at(context.progress)
        networks = (("first", self.student, "second"), ("second", self.second, "first"))
        for name, network, other in networks:
            supervised, predictions = self.supervise(network, labelled, scans["image"])
            losses[f"supervised_{name}"] = supervised
            logits = predictions[1] if self.settings.cutmix else torch.cat(predictions)
            losses[f"cross_{name}"] = weight * self._cross(logits, crossed, other)
        return losses

    def trained_networks(self) -> list[nn.Module]:
        """Both networks."""
        return [self.student, self.second]

    def predictor(self) -> nn.Module:
        """The first network, or the averaged pair."""
        if self.settings.predictor == "average":
            return Average(self.student, self.second)
        return self.student

    def _with_predictions(self, fields: Fields) -> Fields:
        """Add both networks' most probable classes and probabilities to the fields."""
        predictions: Fields = {}
        for name, network in (("first", self.student), ("second", self.second)):
            with evaluating(network):
                probabilities = network(fields["image"]).float().softmax(dim=1)
            confidence, classes = probabilities.max(dim=1)
            predictions |= {f"{name}_confidence": confidence, f"{name}_labels": classes}
        return {**fields, **predictions}

    def _cross(self, logits: Tensor, scans: Fields, other: str) -> Tensor:
        return masked_cross_entropy(
            logits,
            scans[f"{other}_labels"],
            scans["valid"],
            self.settings.pseudo_weights(self.supervised_loss.class_weights),
            (scans[f"{other}_confidence"] >= self.settings.confidence).float(),
        )
