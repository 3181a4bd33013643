"""CutMix-Seg."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.consistency import ConsistencySettings, consistency_loss
from rangeseg.methods.layers import is_class
from rangeseg.methods.mixing import Fields, cutmix_mask, mix, partner
from rangeseg.methods.teacher import TeacherMethod


class CutMixSegSettings(ConsistencySettings):
    """The official code's values, except ``perturb``, ``divisor`` and ``pool``, which are ours.

    ``partner``: mix unlabelled scans with each other, or with labelled ones and their truth.
    """

    confidence: float = Field(default=0.97, ge=0, le=1)
    partner: Literal["unlabelled", "labelled"] = "unlabelled"


class CutMixSeg(TeacherMethod[CutMixSegSettings]):
    """The student's predictions of a mixed scan must agree with the teacher's, mixed alike.

    Reference:
        French et al. 2020, "Semi-supervised semantic segmentation needs strong, varied
        perturbations", Sec. 3.3. Departures, by default:

        1. Perturbation. Official: none, the scans are only mixed (``perturb: false``). Ours: the
           student's scans are also perturbed. Why: a strong view in every method.
        2. Unlabelled scans. Official: all training images (``pool: all``). Ours: those without
           labels. Why: the pools of all methods are the same, and those of LaserMix's tables.
        3. Divisor. Official: all pixels of the images (``divisor: all``). Ours: the valid ones.
           Why: a range image has empty pixels, whose number depends on the sensor.
        4. Partners. Official: a second unlabelled batch. Ours: the neighbours in the batch, or
           labelled scans (``partner``). Why: a second batch doubles the teacher's cost.
        5. Boxes. Official: within a square image. Ours: shares of the image that wrap along
           azimuth. Why: the image is wide, and its left and right edges are neighbours.
        6. Teacher. Official: in training mode, momentum .99 from the first step. Ours: in eval
           mode, warmed up over 100 steps. Why: the same teacher in every method.
        7. Batch norms. Official: a forward for each batch. Ours: labelled and mixed scans share
           one. Why: equal statistics for both, and one forward less.
        8. Loss. Official: squared error. Ours: the same, or a cross-entropy on confident
           pseudo-labels (``loss``). Why: a choice for few labels.
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
