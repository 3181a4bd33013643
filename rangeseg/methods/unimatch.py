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
    """The official code's values."""

    confidence: float = Field(default=0.95, ge=0, le=1)  # pseudo-labels below it do not count
    feature_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of the channels


class UniMatch(Method[UniMatchSettings]):
    """One network that learns its own confident pseudo-labels under three disturbances.

    Two strong views of each unlabelled scan, each mixed with a box of its own, and the scan itself
    with channels of the encoder's features dropped; the pseudo-labels are made on the scan itself.

    Reference:
        Yang et al. 2023, "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic
        Segmentation", Sec. 3. Departures from the official code:
        1. The whole loss is twice theirs, because the supervised term has the weight 1 for every
           method here; the ratios are kept: 1/4 for each strong view, 1/2 for the features.
        2. Every pseudo-label is made in eval mode; theirs are only for the scan that is mixed in.
        3. One unlabelled batch is mixed with its own neighbours instead of with a second batch.
        4. Every strong view is mixed, with a box of half the area that wraps along azimuth; theirs
           are mixed half of the time, with boxes of 2 to 40 % of a square image.
        5. Features are dropped at every level the encoder has, not at two.
        6. The strong views are disturbed along the rays, not in colour; the labelled scans are
           those of the labelled view.
        7. In the decoder the dropped features of the unlabelled scans replace the whole ones
           instead of standing beside them; those of the labelled scans are not dropped.
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
        """The fields with the network's most probable class and its probability."""
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
