"""Adaptive equalization learning (AEL)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import ConfigError
from rangeseg.methods.base import StepContext, Task, TrainingBatch
from rangeseg.methods.components import bounding_boxes, grow
from rangeseg.methods.confidence_bank import ConfidenceBank, true_class_confidence
from rangeseg.methods.layers import front
from rangeseg.methods.mixing import Fields, cutmix_mask, mix, partner
from rangeseg.methods.sampling import draw_classes, draw_pixel
from rangeseg.methods.teacher import TeacherMethod, TeacherSettings
from rangeseg.models import NetworkFactory
from rangeseg.system.distributed import shared_divisor

REACH = 64
"""The largest distance of a component's pixel from its seed, in pixels."""


class AelSettings(TeacherSettings):
    """The official code's values for Cityscapes, except ``min_area`` (.005) and ``perturb``.

    Pascal VOC has 1 pasted class, ``min_area`` .03 and ``confidence`` .7. A pseudo-label below
    ``confidence`` has no loss but keeps its share of the divisor.
    ``perturb``: also perturb the student's unlabelled scans.
    """

    bank_momentum: float = Field(default=0.999, ge=0, lt=1)  # of the bank
    paste_probability: float = Field(default=0.5, ge=0, le=1)  # per labelled scan
    paste_classes: int = Field(default=3, ge=1)  # per labelled scan
    min_area: float = Field(default=0.001, gt=0, lt=1)  # share of the image an object must cover
    confidence: float = Field(default=0.0, ge=0, le=1)
    perturb: bool = True


class Ael(TeacherMethod[AelSettings]):
    """A mean teacher that shows the student more of its least confident classes.

    A bank keeps the student's mean confidence in each class. It selects labelled classes to paste,
    predicted objects to mix in, and pixels to learn.

    Reference:
        Hu et al. 2021, "Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning",
        Sec. 3. Departures from the official code, by default:

        1. Bank. Official: an absent class averages in a zero, the first values are noise. Ours: an
           absent class keeps its confidence, the first values are averaged. Why: a rare class
           would decay towards its frequency.
        2. Bank's update. Official: in the forward. Ours: after the optimiser's step, with every
           batch of it. Why: gradients may be accumulated.
        3. Copy-paste. Official: donors of the data set, rescaled by .1 to 2, classes drawn for the
           batch. Ours: the neighbour in the batch, classes drawn for each scan, the nearer point
           of a ray, no rescaling. Why: a ray sees the nearest object, in its true size.
        4. Adaptive CutMix. Official: donors of the data set, one mixed image per GPU. Ours: donors
           of the batch, or CutMix with the neighbour; every unlabelled scan is mixed. Why: no
           second loader.
        5. Components. Official: exact ones, on the CPU. Ours: grown on the device from a random
           pixel, up to 64 pixels far and across the seam. Why: no copies to the CPU. Large
           components are cut off, and drawn more often.
        6. Equal confidences. Official: 0/0 keeps no pixel. Ours: every pixel. Why: no class is
        weaker.
        7. Supervised loss. Official: hard pixels (OHEM, .7) and an auxiliary head of weight .4.
           Ours: that of the training. Why: the same supervised loss for every method.
        8. Views. Official: flips and rescaled crops. Ours: also perturbed along the rays
           (``perturb``), one forward for all, the teacher in eval mode. Why: as in every method.
    """

    Settings = AelSettings

    def __init__(self, build_network: NetworkFactory, task: Task, settings: AelSettings) -> None:
        super().__init__(build_network, task, settings)
        if "range" not in task.channels:
            raise ConfigError(
                f"ael compares ranges, but range_image.channels are {', '.join(task.channels)}: "
                "add range"
            )
        self._range = task.channels.index("range")
        self._full_turn = task.full_turn
        self.bank = ConfidenceBank(task.num_classes, settings.bank_momentum)
        self._seen: Tensor | None = None  # by the student in a batch, for the bank
        self._seen_in_step: list[Tensor] = []

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator = context.generator
        pasted = self._copy_paste(batch.labelled, generator)
        images = torch.cat([pasted["image"], batch.unlabelled["image"]])
        confidence, pseudo_labels = self.teach(images).max(dim=1)
        scans = len(pasted["image"])
        own = {"confidence": confidence[:scans], "pseudo_labels": pseudo_labels[:scans]}
        other = {"confidence": confidence[scans:], "pseudo_labels": pseudo_labels[scans:]}
        labelled = self.labelled_view({**pasted, **own}, generator)
        mixed = self._adaptive_cutmix({**batch.unlabelled, **other}, generator)

        supervised, (logits, logits_mixed) = self.supervise(self.student, labelled, mixed["image"])
        self._seen = true_class_confidence(logits, labelled["labels"], labelled["valid"])
        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": supervised,
            "consistency_labelled": weight * self._consistency(logits, labelled, generator),
            "consistency": weight * self._consistency(logits_mixed, mixed, generator),
        }

    def after_batch(self) -> None:
        """Keep the confidences of the batch for the bank."""
        assert self._seen is not None
        self._seen_in_step.append(self._seen)
        self._seen = None

    def after_step(self, context: StepContext) -> None:
        """Update the teacher and the bank."""
        super().after_step(context)
        self.bank.update(torch.stack(self._seen_in_step).sum(dim=0))
        self._seen_in_step = []

    def _copy_paste(self, labelled: Fields, generator: torch.Generator) -> Fields:
        """Paste weak classes of neighbours into labelled scans, where nearer."""
        donor = partner(labelled)
        batch, device = len(donor["valid"]), generator.device
        count = min(self.settings.paste_classes, self.num_classes)
        classes = draw_classes(self.bank.gap.sqrt(), count, batch, generator)
        drawn = torch.zeros((batch, self.num_classes), dtype=torch.bool, device=device)
        drawn.scatter_(1, classes, value=True)
        own, theirs = front(labelled["valid"]), front(donor["labels"])
        known = front(donor["valid"]) & (theirs != IGNORE)
        labels = torch.where(known, theirs, 0).long()
        wanted = known & drawn.gather(1, labels.flatten(1)).view_as(known)
        # One normalisation for both scans: the smaller value is the smaller range.
        nearer = front(donor["image"][:, self._range] < labelled["image"][:, self._range])
        draw = torch.rand((batch, 1, 1), generator=generator, device=device)
        chosen = draw < self.settings.paste_probability
        return mix(labelled, donor, wanted & (nearer | ~own) & chosen)

    def _adaptive_cutmix(self, scans: Fields, generator: torch.Generator) -> Fields:
        """Perturb each scan, and add the box around a weak class's object from another scan."""
        valid, pseudo_labels = front(scans["valid"]), front(scans["pseudo_labels"])
        batch, height, width = valid.shape
        index = torch.arange(batch, device=valid.device)
        least = self.settings.min_area * height * width
        wanted = draw_classes(self.bank.gap, 1, batch, generator)[:, 0]
        found = (pseudo_labels == wanted[:, None, None, None]) & valid  # (receiver, donor, H, W)
        suits = (found.sum(dim=(2, 3)) >= least) & (index[:, None] != index)
        draw = torch.rand((batch, batch), generator=generator, device=valid.device)
        drawn = draw.masked_fill(~suits, -1.0).argmax(dim=1)
        donor = torch.where(suits.any(dim=1), drawn, index.roll(1))

        region = found[index, donor]
        seed = draw_pixel(region, generator)
        component = grow(seed, region, REACH, self._full_turn)
        large = (component.sum(dim=(1, 2)) >= least)[:, None, None]
        plain = cutmix_mask(valid.shape, generator)
        mask = torch.where(large, bounding_boxes(component, seed, self._full_turn), plain)
        strong = self.perturb(scans, generator) if self.settings.perturb else scans
        return mix(strong, {name: field[donor] for name, field in strong.items()}, mask)

    def _consistency(self, logits: Tensor, fields: Fields, generator: torch.Generator) -> Tensor:
        """Cross-entropy with the teacher on sampled pixels, weighted by its confidence squared."""
        confidence, pseudo_labels = fields["confidence"], fields["pseudo_labels"]
        chance = self.bank.keep_probability[logits.detach().argmax(dim=1)]
        draw = torch.rand(chance.shape, generator=generator, device=chance.device)
        kept = (draw < chance) & fields["valid"]
        class_weights = self.settings.pseudo_weights(self.supervised_loss.class_weights)
        weight = kept * confidence.square() * class_weights[pseudo_labels]
        loss = F.cross_entropy(logits.float(), pseudo_labels, reduction="none")
        loss = loss * (confidence >= self.settings.confidence)
        return (weight * loss).sum() / shared_divisor(weight.sum()).clamp(min=1e-6)
