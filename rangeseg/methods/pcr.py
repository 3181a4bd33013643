"""Prototype-based consistency regularization (PCR)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.datasets.labels import IGNORE
from rangeseg.methods.base import StepContext, Task, TrainingBatch
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields
from rangeseg.methods.prototypes import PrototypeHead
from rangeseg.methods.sampling import stratified_pixels
from rangeseg.methods.teacher import TeacherMethod, TeacherSettings
from rangeseg.models import NetworkFactory


class PcrSettings(TeacherSettings):
    """The paper's values for Pascal VOC; for Cityscapes 3 prototypes and confidence .65.

    The prototypes are initialised at ``ramp_start``, where the unsupervised loss begins.
    ``labelled_first``: a cell prefers a labelled pixel; for scribbles, with 7 % labelled pixels.
    ``perturb``: also perturb the student's unlabelled scans.
    """

    confidence: float = Field(default=0.8, ge=0, le=1)  # pseudo-labels below it do not count
    prototypes: int = Field(default=4, ge=1)  # per class
    prototype_momentum: float = Field(default=0.99, ge=0, lt=1)
    grid: int = Field(default=32, ge=1)  # the prototypes see one pixel per cell, of grid² cells
    labelled_first: bool = False
    perturb: bool = True


class Pcr(TeacherMethod[PcrSettings]):
    """A linear and a prototype head on one embedding learn the same pseudo-labels.

    The prototypes are means of features, so their loss pulls a class's embeddings together.
    The pseudo-labels come from the teacher's linear head.

    Reference:
        Xu et al. 2022, "Semi-supervised Semantic Segmentation with Prototype-based Consistency
        Regularization", Sec. 3. The training code is unreleased; official is the paper, and the
        networks of its evaluation code. Departures, by default:

        1. First prototypes. Official: fitted after a supervised epoch. Ours: fitted to a class's
           labelled pixels in its first step after ``ramp_start``; until then it has no logit and no
           prototype loss. Why: rare classes are not in every step.
        2. Means. Official: of plain embeddings. Ours: of unit vectors. Why: a cosine head
           does not see their length.
        3. Linear head. Official: two more layers. Ours: one 1x1 convolution on the embedding of
           the prototypes. Why: every method has the network's own head.
        4. Ramp. Official: of the unlabelled terms. Ours: also of the prototype loss on labelled
           pixels. Why: weight 0 is supervised training.
        5. Perturbation and mixing. Official: colour and blur, boxes of a second batch. Ours:
           perturbed along the rays (``perturb``), boxes that wrap along azimuth, of the neighbour
           in the batch; one forward for all. Why: images of ranges, and half the cost.
        6. Sampled pixels. Official: one of each cell. Ours: one of its valid pixels, labelled or
           not (``labelled_first``). Why: a range image has empty pixels.
        7. Values. Official: none for LiDAR. Ours: Pascal VOC's. Why: none is nearer.
    """

    Settings = PcrSettings

    def __init__(self, build_network: NetworkFactory, task: Task, settings: PcrSettings) -> None:
        super().__init__(build_network, task, settings)
        self.head = PrototypeHead(
            task.num_classes,
            settings.prototypes,
            self.student.embedding_channels,
            settings.prototype_momentum,
        )
        # Embedding (N,D) and labels (N,) of a batch's pixels, labelled ones first, and their
        # number.
        self._pixels: tuple[Tensor, Tensor, int] | None = None
        self._pixels_in_step: list[tuple[Tensor, Tensor, int]] = []

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        generator, class_weights = context.generator, self.supervised_loss.class_weights
        pseudo_weights = self.settings.pseudo_weights(class_weights)
        labelled = self.labelled_view(batch.labelled, generator)
        mixed = self._mixed(batch.unlabelled, generator)
        scans = len(labelled["image"])
        features = self.student.encode(torch.cat([labelled["image"], mixed["image"]]))
        embedding = self.student.decode(features)
        logits = self.student.classify(embedding)

        sure = mixed["confidence"] >= self.settings.confidence
        linear = masked_cross_entropy(
            logits[scans:], mixed["pseudo_labels"], mixed["valid"], pseudo_weights, sure.float()
        )
        valid = torch.cat([labelled["valid"], mixed["valid"]])
        labels = torch.cat([labelled["labels"].long(), mixed["pseudo_labels"]])
        keep = torch.cat([torch.ones_like(labelled["valid"]), sure])
        first = labels != IGNORE if self.settings.labelled_first else None
        index, found = stratified_pixels(valid, self.settings.grid, generator, first)
        pixels = embedding.flatten(2)
        pixels = pixels.gather(2, index[:, None].expand(-1, pixels.shape[1], -1))  # (2B, D, S)
        labels, keep = (field.flatten(1).gather(1, index) for field in (labels, keep))
        learnt = torch.where(found & keep, labels, IGNORE)
        flat = pixels.detach().transpose(1, 2).flatten(0, 1)
        self._pixels = flat, learnt.flatten(), learnt[:scans].numel()
        by_prototype = self.head(pixels)
        counts = found & self.head.known(labels)

        def prototype_loss(part: slice, weights: Tensor) -> Tensor:
            return masked_cross_entropy(
                by_prototype[part], labels[part], counts[part], weights, keep[part].float()
            )

        weight = self.settings.weight_at(context.progress)
        return {
            "supervised": self.supervised_term(self.student, features, logits[:scans], labelled),
            "supervised_prototype": weight * prototype_loss(slice(0, scans), class_weights),
            "consistency": weight * linear,
            "consistency_prototype": weight * prototype_loss(slice(scans, None), pseudo_weights),
        }

    def after_batch(self) -> None:
        """Keep the pixels of the batch for the prototypes."""
        assert self._pixels is not None
        self._pixels_in_step.append(self._pixels)
        self._pixels = None

    @torch.no_grad()
    def after_step(self, context: StepContext) -> None:
        """Update the teacher and the prototypes."""
        super().after_step(context)
        kept, self._pixels_in_step = self._pixels_in_step, []
        if context.progress < self.settings.ramp_start:
            return
        self.head.update(torch.cat([p for p, _, _ in kept]), torch.cat([y for _, y, _ in kept]))
        pixels = torch.cat([p[:labelled] for p, _, labelled in kept])
        labels = torch.cat([y[:labelled] for _, y, labelled in kept])
        self.head.initialise(pixels, labels, context.generator)

    def _mixed(self, unlabelled: Fields, generator: torch.Generator) -> Fields:
        """The strong views with the teacher's pseudo-labels, mixed with their neighbours."""
        confidence, pseudo_labels = self.teach(unlabelled["image"]).max(dim=1)
        scans = {**unlabelled, "confidence": confidence, "pseudo_labels": pseudo_labels}
        if self.settings.perturb:
            return self.cutmix(scans, generator)
        return self.mixed_by_box(scans, generator)
