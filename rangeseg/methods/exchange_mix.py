"""ExchangeMix, this project's own method."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields, band_mask, cutmix_mask, interleave
from rangeseg.methods.perturbation import drop_channels
from rangeseg.methods.teacher import TeacherMethod, TeacherSettings


class ExchangeMixSettings(TeacherSettings):
    """Values chosen on the validation sequence of the simulated street."""

    confidence: float = Field(default=0.7, ge=0, le=1)  # pseudo-labels below it are not learnt
    feature_weight: float = Field(default=0.5, ge=0)  # weight of whole scans; mixed scans have 1
    feature_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of channels, whole scans


class ExchangeMix(TeacherMethod[ExchangeMixSettings]):
    """Unperturbed labelled scans and perturbed unlabelled ones exchange boxes and bands.

    This project's own method, combined from parts of others:

    1. A mean teacher labels the unlabelled scans. The student sees them perturbed.
    2. A labelled and an unlabelled scan are mixed both ways, so every pixel is used. A coin per
       pair chooses a box (CutMix-Seg) or bands of inclination (LaserMix).
    3. Labelled scans enter the mixes unperturbed and unmixed, as scans are evaluated. The
       supervised loss has them perturbed already.
    4. The student also learns each unlabelled scan whole and unperturbed, with channels of its
       features dropped (UniMatch).
    5. Truth and confident pseudo-labels share one cross-entropy without class weights. An
       unconfident pixel has no loss but keeps its share of the divisor.

    ``tests/benchmarks/README.md`` has its gains, and what each part adds.

    Reference:
        None for the whole. Not to be confused with the class ``RangeMix`` in the code of Liu et
        al. 2024, "ItTakesTwo: Leveraging Peer Representations for Semi-supervised LiDAR Semantic
        Segmentation" (IT2), which mixes boxes of range images; hence the other name.
    """

    Settings = ExchangeMixSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator = context.generator
        labelled = self.labelled_view(batch.labelled, generator)
        truth, unlabelled = self._truth(batch.labelled), self._pseudo_labelled(batch.unlabelled)
        mask = self.mask(tuple(truth["valid"].shape), generator)
        mixed = interleave(self.perturb(unlabelled, generator), truth, mask)

        share, kept = self.settings.feature_dropout, len(truth["image"]) + len(mixed["image"])
        drop = partial(drop_channels, start=kept, share=share, generator=generator)
        supervised, (_, logits_mixed, logits) = self.supervise(
            self.student, labelled, mixed["image"], unlabelled["image"], disturb=drop
        )
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": supervised,
            "mix": weight * self._cross(logits_mixed, mixed),
            "feature": weight * self.settings.feature_weight * self._cross(logits, unlabelled),
        }

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(B,H,W) bool: the labelled scan's pixels in each pair, a box or bands."""
        coin = torch.rand((shape[0], 1, 1), generator=generator, device=generator.device) < 0.5
        return torch.where(coin, cutmix_mask(shape, generator), band_mask(shape, generator))

    def _truth(self, labelled: Fields) -> Fields:
        """Labelled scans, with every label marked as sure."""
        fields = {name: labelled[name] for name in ("image", "valid", "labels")}
        return {**fields, "sure": torch.ones_like(labelled["valid"])}

    def _pseudo_labelled(self, unlabelled: Fields) -> Fields:
        """Unlabelled scans with the teacher's labels, marked as sure where it is confident."""
        confidence, classes = self.teach(unlabelled["image"]).max(dim=1)
        return {
            **{name: unlabelled[name] for name in ("image", "valid")},
            "labels": classes.to(torch.uint8),
            "sure": confidence >= self.settings.confidence,
        }

    def _cross(self, logits: Tensor, scans: Fields) -> Tensor:
        """Cross-entropy on sure pixels, divided by all valid ones."""
        weights = self.settings.pseudo_weights(self.supervised_loss.class_weights)
        return masked_cross_entropy(logits, scans["labels"], scans["valid"], weights, scans["sure"])
