"""Mean Teacher."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.consistency import ConsistencySettings, consistency_loss
from rangeseg.methods.teacher import TeacherMethod


class MeanTeacherSettings(ConsistencySettings):
    """The paper's consistency: squared error on every pixel.

    ``weight`` has no source for LiDAR. The nearest is CPS's code: its Mean Teacher for Pascal VOC
    has 100 on a mean over 21 classes, 4.8 in our sum over classes.
    ``scans``: the ``unlabelled`` scans, or ``all`` of the batch, including labelled ones.
    """

    weight: float = Field(default=5.0, ge=0)
    scans: Literal["unlabelled", "all"] = "unlabelled"


class MeanTeacher(TeacherMethod[MeanTeacherSettings]):
    """The student's strong view must agree with the EMA teacher's weak view.

    Reference:
        Tarvainen and Valpola 2017, "Mean teachers are better role models". Official is their
        classifier; CPS's code (TorchSemiSeg) and LaserMix's have segmentation. Departures, by
        default:

        1. Views. Official: each network sees its own noise; in segmentation both see one image
           (``perturb: false``). Ours: the teacher sees the augmented scan, the student the same
           scan perturbed along the rays. Why: equal views teach nothing but averaged weights.
        2. Scans. Official: labelled and unlabelled ones (``scans: all``). Ours: unlabelled ones.
           Why: labelled ones have their truth.
        3. Weight. Official: 100 for CIFAR-10's classes after a ramp; none is known for LiDAR.
           Ours: 5, see the settings. Why: the nearest source.
        4. Momentum. Official: .99, later .999. Ours: .99. Why: LaserMix's.
        5. Divisor. Official: all pixels (``divisor: all``). Ours: the valid ones. Why: a range
           image has empty pixels.
        6. Batch norms. Official: a forward for each batch. Ours: labelled and strong scans share
           one. Why: equal statistics for both, and one forward less.
        7. Loss. Official: squared error. Ours: the same, or a cross-entropy on confident
           pseudo-labels (``loss``). Why: a choice for few labels.
    """

    Settings = MeanTeacherSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        known = batch.labelled
        if self.settings.scans == "all":
            known = {**known, "teacher": self.teach(known["image"])}
        labelled = self.labelled_view(known, context.generator)
        strong = {**batch.unlabelled, "teacher": self.teach(batch.unlabelled["image"])}
        if self.settings.perturb:
            strong = self.perturb(strong, context.generator)

        supervised, logits = self.supervise(self.student, labelled, strong["image"])
        compared = [labelled, strong] if self.settings.scans == "all" else [strong]
        consistency = consistency_loss(
            torch.cat(logits[-len(compared) :]),
            torch.cat([view["teacher"] for view in compared]),
            torch.cat([view["valid"] for view in compared]),
            self.supervised_loss.class_weights,
            self.settings,
        )
        return {
            "supervised": supervised,
            "consistency": self.settings.weight_at(context.progress) * consistency,
        }
