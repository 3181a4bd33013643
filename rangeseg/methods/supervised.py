"""Training on labelled scans only: the baseline of every comparison."""

from __future__ import annotations

from torch import Tensor

from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.settings import Settings


class SupervisedSettings(Settings):
    """No settings."""


class Supervised(Method[SupervisedSettings]):
    """Cross-entropy (and Lovász-softmax) on labelled scans.

    With ``train.labelled: strong`` this is the control. A gain over it comes from unlabelled scans,
    unless a method also learns labelled pixels in mixes or averages two networks.

    Reference:
        Kong et al. 2023, "LaserMix for Semi-Supervised LiDAR Semantic Segmentation", Sec. 4, the
        range-view baseline. Departures, by default:

        1. Loss. Official: unweighted cross-entropy over all pixels, 3 Lovász and a boundary term
           in LaserMix's trainer. FIDNet's own has weights 1/(f + .001), ranges as weights, the
           hardest 15 % and 3 Lovász. Ours: weights 1/sqrt(f), over the labelled pixels. Why: few
           scans hold few rare pixels. ``configs/published/`` has the official one.
        2. Labelled scans. Official: augmented (``train.labelled: plain``). Ours: also perturbed
           and mixed. Why: a method's gain must not be the augmentation's.
    """

    Settings = SupervisedSettings
    uses_unlabelled = False

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        labelled = self.labelled_view(batch.labelled, context.generator)
        return {"supervised": self.supervise(self.student, labelled)[0]}
