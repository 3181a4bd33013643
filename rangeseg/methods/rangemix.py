"""RangeMix."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import ConfigError
from rangeseg.methods.base import (
    StepContext,
    Task,
    TeacherMethod,
    TrainingBatch,
    UnsupervisedSettings,
)
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields, band_mask, cutmix_mask, interleave, mix, partner
from rangeseg.methods.perturbation import drop_channels
from rangeseg.models import NetworkFactory


class RangeMixSettings(UnsupervisedSettings):
    """Chosen on the validation sequence of the simulated street."""

    ema_momentum: float = Field(default=0.99, ge=0, lt=1)
    confidence: float = Field(default=0.7, ge=0, le=1)  # pseudo-labels below it are not learnt
    paste: float = Field(default=1.0, ge=0, le=1)  # scales the probability that a class is pasted
    feature_weight: float = Field(default=0.5, ge=0)  # of whole scans, beside 1 for mixed ones
    feature_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of the channels of these


class RangeMix(TeacherMethod[RangeMixSettings]):
    """Labelled and unlabelled scans exchange boxes and bands, and rare things are put on top.

    This project's own method, made of the parts of others:

    1. A mean teacher labels the unlabelled scans; the student sees them perturbed.
    2. Each labelled and unlabelled scan are mixed both ways, so that no ray is wasted, by a box
       (CutMix-Seg) or by bands of inclination (LaserMix), as a coin decides for each pair.
    3. Onto both mixes come things of another labelled scan. A class of weight w is chosen with
       probability w / (1 + w), so that rare classes come most of the time; its points replace
       those of their rays where they are nearer, as a sensor would have it (AEL chooses by its
       bank and pastes on labelled scans only).
    4. The student also learns each unlabelled scan whole and as it is, as it will be evaluated,
       with channels of its features dropped (UniMatch).
    5. One cross-entropy for truth and sure pseudo-labels alike, without class weights: a teacher
       trained with them says rare classes too often already. An unsure pixel has no loss but its
       share of the divisor.

    On the simulated street, at 1 % and over five seeds, it gains 1.7 points on test over
    supervised training on the strong labelled branch (95 % interval 0.5 to 2.9), 8.0 over the
    plain one, at 2.5 times the cost; UniMatch, CPS and LaserMix gain more. Its fourth part brings
    0.6 on validation (-0.8 to 1.9). At 10 % it gains nothing. ``tests/benchmarks/ablation.py``
    takes it apart.
    """

    Settings = RangeMixSettings

    def __init__(
        self, build_network: NetworkFactory, task: Task, settings: RangeMixSettings
    ) -> None:
        super().__init__(build_network, task, settings, settings.ema_momentum)
        if "range" not in task.channels:
            raise ConfigError(
                f"rangemix compares ranges, but range_image.channels are "
                f"{', '.join(task.channels)}: add range"
            )
        self._range = task.channels.index("range")
        weights = task.class_weights
        self.register_buffer("_chance", settings.paste * weights / (1.0 + weights))

    _chance: Tensor

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator = context.generator
        labelled = self.labelled_view(batch.labelled, generator)
        truth, unlabelled = self._truth(labelled), self._pseudo_labelled(batch.unlabelled)
        mask = self.mask(tuple(truth["valid"].shape), generator)
        mixed = interleave(self.perturb(unlabelled, generator), truth, mask)
        donor = {name: torch.cat([field, field]) for name, field in partner(truth).items()}
        mixed = self._paste(mixed, donor, generator)

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
        """(B,H,W) bool, where the labelled scan of each pair shows: a box or bands."""
        coin = torch.rand((shape[0], 1, 1), generator=generator, device=generator.device) < 0.5
        return torch.where(coin, cutmix_mask(shape, generator), band_mask(shape, generator))

    def _truth(self, labelled: Fields) -> Fields:
        """Labelled scans, sure of their labels."""
        fields = {name: labelled[name] for name in ("image", "valid", "labels")}
        return {**fields, "sure": torch.ones_like(labelled["valid"])}

    def _pseudo_labelled(self, unlabelled: Fields) -> Fields:
        """Unlabelled scans with what the teacher says."""
        confidence, classes = self.teach(unlabelled["image"]).max(dim=1)
        return {
            **{name: unlabelled[name] for name in ("image", "valid")},
            "labels": classes.to(torch.uint8),
            "sure": confidence >= self.settings.confidence,
        }

    def _cross(self, logits: Tensor, scans: Fields) -> Tensor:
        """Cross-entropy on what is sure, divided by all valid pixels."""
        weights = self.settings.pseudo_weights(self.supervised_loss.class_weights)
        return masked_cross_entropy(logits, scans["labels"], scans["valid"], weights, scans["sure"])

    def _paste(self, base: Fields, donor: Fields, generator: torch.Generator) -> Fields:
        """Scans with the chosen classes of their donors, where those can be seen."""
        shape = (len(donor["valid"]), self.num_classes)
        chosen = torch.rand(shape, generator=generator, device=generator.device) < self._chance
        known = donor["valid"] & (donor["labels"] != IGNORE)
        labels = torch.where(known, donor["labels"], 0).long()
        wanted = known & chosen.gather(1, labels.flatten(1)).view_as(known)
        # One normalisation for both scans: the smaller value is the smaller range.
        nearer = donor["image"][:, self._range] < base["image"][:, self._range]
        return mix(base, donor, wanted & (nearer | ~base["valid"]))
