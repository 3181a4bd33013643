"""UniMatch."""

from __future__ import annotations

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
from rangeseg.methods.mixing import Fields, cutmix_mask, mix, partner


class UniMatchSettings(UnsupervisedSettings):
    """The official code's values."""

    confidence: float = Field(default=0.95, ge=0, le=1)  # pseudo-labels below it do not count
    feature_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of the channels


class UniMatch(Method[UniMatchSettings]):
    """One network that learns its own confident pseudo-labels under three disturbances.

    Two strong views of each unlabelled scan, mixed with two boxes, and the scan itself with
    channels of the encoder's features dropped; the pseudo-labels are made on the scan itself.

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
        7. All scans share a forward, and so the statistics of the batch norms; in the decoder the
           dropped features replace the unlabelled scan's own instead of standing beside them.
        8. The cross-entropy carries the class weights of the supervised loss.
    """

    Settings = UniMatchSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator = context.generator
        labelled = self.labelled_view(batch.labelled, generator)
        weak = self._with_pseudo_labels(batch.unlabelled)
        scans = [labelled, weak, self._strong(weak, generator), self._strong(weak, generator)]
        sizes = [len(fields["image"]) for fields in scans]

        features = self.student.encode(torch.cat([fields["image"] for fields in scans]))
        dropped = self._drop_channels(features, sizes[0], sizes[1], generator)
        logits = self.student.classify(self.student.decode(dropped))
        ours, *others = torch.split(logits, sizes)
        feature, first, second = map(self._cross, others, scans[1:])
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": self.supervised_term(self.student, features, ours, labelled),
            "strong": weight * 0.25 * (first + second),
            "feature": weight * 0.5 * feature,
        }

    def _with_pseudo_labels(self, fields: Fields) -> Fields:
        """The fields with the network's most probable class and its probability."""
        with evaluating(self.student):
            probabilities = self.student(fields["image"]).float().softmax(dim=1)
        confidence, pseudo_labels = probabilities.max(dim=1)
        return {**fields, "confidence": confidence, "pseudo_labels": pseudo_labels}

    def _strong(self, weak: Fields, generator: torch.Generator) -> Fields:
        """A strong view, mixed with its neighbour's."""
        strong = self.perturb(weak, generator)
        batch, height, width = strong["valid"].shape
        return mix(strong, partner(strong), cutmix_mask((batch, height, width), generator))

    def _drop_channels(
        self, features: list[Tensor], start: int, count: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Features with whole channels of ``count`` scans from ``start`` on set to zero.

        Those that are kept grow so that the mean over the draws stays.
        """
        share, device = self.settings.feature_dropout, generator.device
        result = []
        for feature in features:
            scans, channels = feature.shape[:2]
            draw = torch.rand((count, channels, 1, 1), generator=generator, device=device)
            factor = torch.ones((scans, channels, 1, 1), dtype=feature.dtype, device=device)
            factor[start : start + count] = (draw >= share) / (1.0 - share)
            result.append(feature * factor)
        return result

    def _cross(self, logits: Tensor, scans: Fields) -> Tensor:
        """Cross-entropy on confident pixels, divided by all valid ones."""
        return masked_cross_entropy(
            logits,
            scans["pseudo_labels"],
            scans["valid"],
            self.supervised_loss.class_weights,
            (scans["confidence"] >= self.settings.confidence).float(),
        )
