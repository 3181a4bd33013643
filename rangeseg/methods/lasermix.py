"""LaserMix."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from rangeseg.datasets.labels import IGNORE
from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.losses import masked_cross_entropy, masked_squared_error
from rangeseg.methods.mixing import BANDS, Fields, band_mask, interleave
from rangeseg.methods.teacher import TeacherMethod, TeacherSettings


class LaserMixSettings(TeacherSettings):
    """The official values of its voxel configurations, except ``mix_loss`` and ``perturb``.

    There is no configuration for FIDNet.
    ``weight`` scales both unsupervised terms, ``consistency`` the squared error: 250 on KITTI and
    500 on nuScenes, as means over 20 channels.
    ``bands``: the smallest and the largest number of bands. Official: 4 and 8 for Cylinder3D on
    KITTI, 3 and 6 elsewhere.
    ``mix_loss``: loss of the mixed scans: only the cross-entropy, or the whole ``supervised`` loss,
    as officially, with all its settings, e.g. ``train.cross_entropy.divisor``. Auxiliary heads do
    not learn the mixes.
    ``perturb``: also perturb the student's unlabelled scans.
    """

    confidence: float = Field(default=0.9, ge=0, le=1)  # pseudo-labels below it are ignored
    consistency: float = Field(default=12.5, ge=0)
    bands: tuple[int, int] = BANDS
    mix_loss: Literal["cross_entropy", "supervised"] = "cross_entropy"
    perturb: bool = True

    @field_validator("bands")
    @classmethod
    def _upwards(cls, bands: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= bands[0] <= bands[1]:
            raise ValueError("write the smallest number of bands, from 2 on, then the largest")
        return bands


class LaserMix(TeacherMethod[LaserMixSettings]):
    """Labelled and unlabelled scans exchange bands of inclination.

    The student learns the truth and the teacher's confident pseudo-labels on both mixes of each
    pair. On the unmixed scans it must agree with the teacher.

    Reference:
        Kong et al. 2023, "LaserMix for Semi-Supervised LiDAR Semantic Segmentation", Sec. 3.
        Departures from the official code, by default:

        1. Bands. Official: equal steps of inclination; equal numbers of rows, rounded down, in
           its range-view branch. Ours: equal numbers of rows, rounded up. Why: rows may be beams
           in scan order. Their number is drawn for each pair in both.
        2. Labelled scans. Official: as they are (``train.labelled: plain``). Ours: perturbed and
           mixed with each other, the teacher's predictions along with them. Why: the same control
           for every method.
        3. Perturbation. Official: none (``perturb: false``). Ours: the student's unlabelled scans.
           Why: a strong view in every method.
        4. Squared error. Official: mean over channels and voxels, in its range-view branch over
           all pixels, the empty ones too. Ours: summed over classes, mean over the valid pixels.
           Why: no weight should depend on the number of classes or of echoes. So the official 250,
           for 20 channels, is 12.5 here, and 500 is 25.
        5. Loss of the mixes. Official: the supervised loss, unweighted cross-entropy and 3 Lovász,
           over all pixels (``mix_loss: supervised``). Ours: the cross-entropy, over the pixels
           that are not ignored. Why: it is cheaper, and few sure pixels count as much as many.
        6. Batch norms. Official: a forward for the labelled, the unlabelled and the mixed scans.
           Ours: one for all. Why: equal statistics for all.
        7. Teacher. Official: in training mode, batch-norm statistics of its own forwards, momentum
           .99 from the first step. Ours: in eval mode, statistics averaged like weights, warmed up
           over 100 steps. Why: the same teacher in every method.
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
        consistency = masked_squared_error(
            torch.cat([logits, logits_unlabelled]).float().softmax(dim=1),
            torch.cat([labelled["teacher"], unlabelled["teacher"]]),
            torch.cat([labelled["valid"], unlabelled["valid"]]),
        )
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": supervised,
            "mix": weight * self._mix_loss(logits_mixed, mixed),
            "consistency": weight * self.settings.consistency * consistency,
        }

    def _mix_loss(self, logits: Tensor, mixed: Fields) -> Tensor:
        """The loss of the mixed scans with truth and pseudo-labels."""
        labels, valid = mixed["labels"], mixed["valid"]
        if self.settings.mix_loss == "supervised":
            return self.classifier_loss(logits, labels, valid, self.ranges(mixed["image"]))
        weights = self.settings.pseudo_weights(self.supervised_loss.class_weights)
        return masked_cross_entropy(logits, labels, valid, weights)

    def _views(
        self, labelled: Fields, unlabelled: Fields, generator: torch.Generator
    ) -> tuple[Fields, Fields]:
        """Both batches for the student, with the teacher's predictions."""
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
        mask = self.mask(tuple(labelled["valid"].shape), generator)
        a, b = ({k: f[k] for k in ("image", "valid", "labels")} for f in (labelled, unlabelled))
        return interleave(a, b, mask)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """(B,H,W) bool: the exchanged pixels of each pair."""
        return band_mask(shape, generator, self.settings.bands)
