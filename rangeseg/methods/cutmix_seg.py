"""CutMix-Seg."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import StepContext, TeacherMethod, TrainingBatch
from rangeseg.methods.consistency import ConsistencySettings, consistency_loss
from rangeseg.methods.layers import is_class
from rangeseg.methods.mixing import Fields, cutmix_mask, mix, partner


class CutMixSegSettings(ConsistencySettings):
    """The official code's values, and two choices of ours.

    ``partner``: mix unlabelled scans with each other, or with labelled ones and their truth.
    ``perturb``: also perturb the student's scans; the paper only mixes.
    """

    confidence: float = Field(default=0.97, ge=0, le=1)
    partner: Literal["unlabelled", "labelled"] = "unlabelled"
    perturb: bool = True


class CutMixSeg(TeacherMethod[CutMixSegSettings]):
    """The student's predictions of a mixed scan must agree with the teacher's, mixed alike.

    Reference:
        French et al. 2020, "Semi-supervised semantic segmentation needs strong, varied
        perturbations", Sec. 3.3. Departures:

        1. The student's scans are also perturbed (``perturb``).
        2. Scans are mixed with their neighbours in the batch, or with labelled ones (``partner``).
           Theirs mixes two unlabelled batches, which doubles the teacher's cost.
        3. Boxes are shares of the image and wrap along azimuth.
        4. Labelled and mixed images share a forward.
        5. The loss may be a cross-entropy on confident pseudo-labels.
    """

    Settings = CutMixSegSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        labelled = self.labelled_view(batch.labelled, context.generator)
        scans = {**batch.unlabelled, "teacher": self.teach(batch.unlabelled["image"])}
        if self.settings.perturb:
            scans = self.perturb(scans, context.generator)
        other = partner(scans if self.settings.partner == "unlabelled" else self._truth(labelled))
        mixed = mix(scans, other, cutmix_mask(scans["valid"].shape, context.generator))

        supervised, (_, logits) = self.supervise(self.student, labelled, mixed["image"])
        consistency = consistency_loss(
            logits,
            mixed["teacher"],
            mixed["valid"],
            self.supervised_loss.class_weights,
            self.settings,
        )
        return {
            "supervised": supervised,
            "consistency": self.settings.weight_at(context.progress) * consistency,
        }

    def _truth(self, labelled: Fields) -> Fields:
        """Labelled scans with their truth as the teacher's probabilities, zero where ignored."""
        return {
            "image": labelled["image"],
            "valid": labelled["valid"],
            "teacher": is_class(labelled["labels"], self.num_classes).float(),
        }
