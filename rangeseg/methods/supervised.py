"""Training on the labelled scans alone: the baseline of every comparison."""

from __future__ import annotations

from torch import Tensor

from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.settings import Settings


class SupervisedSettings(Settings):
    """Nothing to set."""


class Supervised(Method[SupervisedSettings]):
    """Cross-entropy (and Lovász-softmax) on labelled scans.

    With ``train.labelled: strong`` this is the control. A gain over it comes from the unlabelled
    scans, unless a method also learns labelled pixels in its mixes or averages two networks.
    """

    Settings = SupervisedSettings
    uses_unlabelled = False

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        labelled = self.labelled_view(batch.labelled, context.generator)
        return {"supervised": self.supervise(self.student, labelled)[0]}
