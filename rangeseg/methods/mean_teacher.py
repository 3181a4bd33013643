"""Mean Teacher."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from rangeseg.methods.base import StepContext, TeacherMethod, TrainingBatch
from rangeseg.methods.consistency import ConsistencySettings, consistency_loss


class MeanTeacherSettings(ConsistencySettings):
    """The paper's consistency: squared error on every pixel."""

    weight: float = Field(default=5.0, ge=0)


class MeanTeacher(TeacherMethod[MeanTeacherSettings]):
    """The student's strong view must agree with the EMA teacher's weak view.

    Reference:
        Tarvainen and Valpola 2017, "Mean teachers are better role models". Departures:

        1. The weak view is the scan after ``train.augmentation`` (rotated, flipped, scaled, points
           dropped). The strong view is also perturbed along the rays.
        2. Labelled and strong images share a forward.
        3. The momentum is .99, as in the LiDAR literature.
        4. The loss may be a cross-entropy on confident pseudo-labels.
    """

    Settings = MeanTeacherSettings

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        labelled = self.labelled_view(batch.labelled, context.generator)
        teacher = self.teach(batch.unlabelled["image"])
        strong = self.perturb(batch.unlabelled, context.generator)

        supervised, (_, logits) = self.supervise(self.student, labelled, strong["image"])
        consistency = consistency_loss(
            logits,
            teacher,
            strong["valid"],
            self.supervised_loss.class_weights,
            self.settings,
        )
        return {
            "supervised": supervised,
            "consistency": self.settings.weight_at(context.progress) * consistency,
        }
