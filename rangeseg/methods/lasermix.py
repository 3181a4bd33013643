"""LaserMix."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.datasets.labels import IGNORE
from rangeseg.methods.base import (
    StepContext,
    TeacherMethod,
    TeacherSettings,
    TrainingBatch,
)
from rangeseg.methods.losses import masked_cross_entropy, masked_squared_error
from rangeseg.methods.mixing import Fields, band_mask, interleave


class LaserMixSettings(TeacherSettings):
    """The official code's values; ``weight`` scales both unsupervised terms."""

    confidence: float = Field(default=0.9, ge=0, le=1)  # pseudo-labels below it are ignored
    consistency: float = Field(default=13.0, ge=0)  # weight of the squared error: 250 / 19 classes
    perturb: bool = True  # also perturb the student's unlabelled scans


class LaserMix(TeacherMethod[LaserMixSettings]):
    """Labelled and unlabelled scans exchange bands of inclination, which hold similar objects.

    The student learns the truth and the teacher's confident pseudo-labels on both mixes of each
    pair. On the unmixed scans it must agree with the teacher.

    Reference:
        Kong et al. 2023, "LaserMix for Semi-Supervised LiDAR Semantic Segmentation", Sec. 3.
        Departures from the official code:

        1. Bands have equal numbers of rows, as in its range-view branch. Rows are laser beams in
           scan order, or equal steps of inclination.
        2. Labelled scans come from the labelled view: with ``train.labelled: strong`` they are
           first perturbed and mixed with each other, the teacher's predictions along with them.
        3. The student's unlabelled scans are also perturbed (``perturb``).
        4. The squared error is summed over classes and averaged over valid pixels. So its weight
           is the official 250 over the number of classes (nuScenes: 500 over 16).
        5. Mixed scans have the cross-entropy alone, without Lovász-softmax or boundary term.
        6. All of the student's scans share a forward. Theirs has one for the labelled, one for the
           unlabelled and one for the mixed scans.
    """

    Settings = LaserMixSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        labelled, unlabelled = self._views(batch.labelled, batch.unlabelled, context.generator)
        mixed = self._mixed(labelled, unlabelled, context.generator)

        supervised, (logits, logits_unlabelled, logits_mixed) = self.supervise(
            self.student, labelled, unlabelled["image"], mixed["image"]
        )
        weights = self.settings.pseudo_weights(self.supervised_loss.class_weights)
        mixing = masked_cross_entropy(logits_mixed, mixed["labels"], mixed["valid"], weights)
        consistency = masked_squared_error(
            torch.cat([logits, logits_unlabelled]).float().softmax(dim=1),
            torch.cat([labelled["teacher"], unlabelled["teacher"]]),
            torch.cat([labelled["valid"], unlabelled["valid"]]),
        )
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": supervised,
            "mix": weight * mixing,
            "consistency": weight * self.settings.consistency * consistency,
        }

    def _views(
        self, labelled: Fields, unlabelled: Fields, generator: torch.Generator
    ) -> tuple[Fields, Fields]:
        """Both batches as the student sees them, with the teacher's predictions."""
        teacher = self.teach(torch.cat([labelled["image"], unlabelled["image"]]))
        known, unknown = torch.split(teacher, [len(labelled["image"]), len(unlabelled["image"])])
        labelled = self.labelled_view({**labelled, "teacher": known}, generator)
        confidence, classes = unknown.max(dim=1)
        pseudo_labels = torch.where(confidence >= self.settings.confidence, classes, IGNORE)
        labels = pseudo_labels.to(labelled["labels"].dtype)
        unlabelled = {**unlabelled, "labels": labels, "teacher": unknown}
        if self.settings.perturb:
            unlabelled = self.perturb(unlabelled, generator)
        return labelled, unlabelled

    def _mixed(self, labelled: Fields, unlabelled: Fields, generator: torch.Generator) -> Fields:
        """Both interleavings of each pair: twice as many scans."""
        bands = band_mask(labelled["valid"].shape, generator)
        a, b = ({k: f[k] for k in ("image", "valid", "labels")} for f in (labelled, unlabelled))
        return interleave(a, b, bands)
