"""UniMatch."""

from __future__ import annotations

from functools import partial

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import (
    Method,
    StepContext,
    TrainingBatch,
    UnsupervisedSettings,
    evaluating,
)
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields
from rangeseg.methods.perturbation import drop_channels


class UniMatchSettings(UnsupervisedSettings):
    """The official code's values for Pascal VOC; Cityscapes has confidence 0 and hard pixels."""

    confidence: float = Field(default=0.95, ge=0, le=1)  # pseudo-labels below it do not count
    feature_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of the channels


class UniMatch(Method[UniMatchSettings]):
    """One network that learns its confident pseudo-labels under three perturbations.

    The pseudo-labels are made on the unlabelled scan itself. They are learnt on two strong views,
    each mixed by its own box, and on the scan itself with channels of its features dropped.

    Reference:
        Yang et al. 2023, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
        Segmentation", Sec. 3. Departures from the official code:

        1. Weights. Official: half of the sum. Ours: twice that, with the same ratios, 1/4 for each
           strong view and 1/2 for the features. Why: the supervised term has weight 1 in every
           method.
        2. Pseudo-labels. Official: in training mode except for the mixed-in scan. Ours: all
           in eval mode. Why: they do not depend on the batch.
        3. Partners. Official: a second batch. Ours: the neighbours in the batch. Why: half the
           cost.
        4. Boxes. Official: of 2 to 40 % of a square image, half of the time. Ours: of half the
           area, always, wrapped along azimuth. Why: the box of every method.
        5. Dropped features. Official: at two levels of the encoder, of labelled scans too. Ours:
           at every level, of unlabelled ones. Why: the decoder reads all levels, and the
           supervised loss is the same in every method.
        6. Strong views. Official: colour. Ours: perturbed along the rays. Why: images of ranges
           have no colour.
        7. Decoder. Official: also sees the unlabelled scans whole. Ours: with dropped features
           only. Why: their logits have no loss.
        8. Cityscapes. Official: threshold 0 and hard pixels (OHEM). Ours: Pascal VOC's. Why: none
           was published for LiDAR.
    """

    Settings = UniMatchSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator = context.generator
        labelled = self.labelled_view(batch.labelled, generator)
        weak = self._with_pseudo_labels(batch.unlabelled)
        strong = [self.cutmix(weak, generator) for _ in range(2)]

        share, kept = self.settings.feature_dropout, len(labelled["image"])
        drop = partial(drop_channels, start=kept, share=share, generator=generator)
        # As in the official code, strong views do not share batch statistics with labelled scans.
        supervised, (_, logits) = self.supervise(
            self.student, labelled, weak["image"], disturb=drop
        )
        logits_strong = self.student(torch.cat([view["image"] for view in strong]))
        first, second = map(self._cross, logits_strong.chunk(2), strong)
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": supervised,
            "strong": weight * 0.25 * (first + second),
            "feature": weight * 0.5 * self._cross(logits, weak),
        }

    def _with_pseudo_labels(self, fields: Fields) -> Fields:
        """Add the network's most probable class and its probability to the fields."""
        with evaluating(self.student):
            probabilities = self.student(fields["image"]).float().softmax(dim=1)
        confidence, pseudo_labels = probabilities.max(dim=1)
        return {**fields, "confidence": confidence, "pseudo_labels": pseudo_labels}

    def _cross(self, logits: Tensor, scans: Fields) -> Tensor:
        """Cross-entropy on confident pixels, divided by all valid ones."""
        return masked_cross_entropy(
            logits,
            scans["pseudo_labels"],
            scans["valid"],
            self.settings.pseudo_weights(self.supervised_loss.class_weights),
            (scans["confidence"] >= self.settings.confidence).float(),
        )
