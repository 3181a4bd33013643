"""PseudoSeg."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.methods.attention_cam import AttentionCam
from rangeseg.methods.base import (
    Method,
    StepContext,
    Task,
    TrainingBatch,
    UnsupervisedSettings,
    evaluating,
)
from rangeseg.methods.layers import front, on_every_layer
from rangeseg.methods.losses import masked_cross_entropy, soft_cross_entropy
from rangeseg.methods.mixing import Fields
from rangeseg.models import NetworkFactory
from rangeseg.system.distributed import shared_divisor

STAGES = 2
"""Number of deepest features for the attention."""


class PseudoSegSettings(UnsupervisedSettings):
    """The paper's values; ``windows`` and ``confidence`` are ours."""

    temperature: float = Field(default=0.5, gt=0, le=1)  # sharpens the pseudo-labels
    confidence: float = Field(default=0.0, ge=0, le=1)  # pseudo-labels below it do not count
    # Windows of azimuth per image or crop: 8 windows of a whole scan span 45° each.
    windows: int = Field(default=8, ge=1)


class PseudoSeg(Method[PseudoSegSettings]):
    """Pseudo-labels fused from the decoder and from class activation maps.

    It has one network and no teacher. Decoder and activation maps of the weak view make different
    mistakes. Their sharpened average is a soft label for the strong view. Classifier and attention
    learn from labels from the first step on.

    Reference:
        Zou et al. 2021, "PseudoSeg: Designing Pseudo Labels for Semantic Segmentation", Sec. 3.
        Departures from the official code:

        1. Classifier. Official: classes of an image. Ours: classes of windows of azimuth, each with
           activation maps of its classes alone; without any, the decoder alone makes the label. A
           class without a label in a window is learnt as absent, even between scribbles. Why: a
           whole scan holds nearly every class.
        2. Scale of the logits. Official: their norm over the batch. Ours: their root mean square
           over a scan's valid pixels, less their mean over the classes. Why: a label does not
           depend on other scans, and no softmax sees the mean.
        3. Strong view. Official: colour and cutout. Ours: the perturbed scan; dropped patches are
           the cutout. Why: images of ranges have no colour.
        4. Pseudo-labels. Official: activation maps in eval mode. Ours: all in eval mode; labelled
           and strong images share a forward. Why: they do not depend on the batch.
        5. Background. Official: a class, whose map is the remainder of the others. Ours: none.
           Why: LiDAR's label sets have none.
        6. Threshold. Official: none. Ours: the same, or ``confidence``. Why: a choice for few
           labels.
    """

    Settings = PseudoSegSettings

    def __init__(
        self, build_network: NetworkFactory, task: Task, settings: PseudoSegSettings
    ) -> None:
        super().__init__(build_network, task, settings)
        channels = self.student.feature_channels[-STAGES:]
        self.cam = AttentionCam(channels, task.num_classes, settings.windows, task.full_turn)

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """See ``Method.forward``."""
        assert batch.unlabelled is not None
        class_weights = self.supervised_loss.class_weights
        labelled = self.labelled_view(batch.labelled, context.generator)
        labels, valid = labelled["labels"], labelled["valid"]
        target = self.pseudo_labels(batch.unlabelled)
        strong = self.perturb(batch.unlabelled, context.generator)
        sure = target.amax(dim=1) >= self.settings.confidence

        scans, network = len(valid), self.student
        features = network.encode(torch.cat([labelled["image"], strong["image"]]))
        logits = network.classify(network.decode(features))
        own = [f[:scans] for f in features[-STAGES:]]
        scores = self.cam.scores(own[-1], front(valid))
        present, known = self.cam.truth(labels, valid, scores.shape[2])
        coarse = on_every_layer(self.cam(own, present, front(valid)), valid)
        consistency = soft_cross_entropy(
            logits[scans:],
            target,
            strong["valid"],
            self.settings.pseudo_weights(class_weights),
            sure.float(),
        )
        return {
            "supervised": self.supervised_term(network, features, logits[:scans], labelled),
            "supervised_cam": masked_cross_entropy(coarse, labels, valid, class_weights),
            "supervised_windows": window_loss(scores, present, known),
            "consistency": self.settings.weight_at(context.progress) * consistency,
        }

    def trained_networks(self) -> list[nn.Module]:
        """The network, and the heads for pseudo-labels."""
        return [self.student, self.cam]

    def pseudo_labels(self, scans: Fields) -> Tensor:
        """Make soft labels (B,K,H,W) of ``image`` and ``valid``."""
        network = self.student
        with evaluating(self.student), evaluating(self.cam):
            features = network.encode(scans["image"])
            logits = network.classify(network.decode(features)).float()
            valid, pixels = scans["valid"], front(scans["valid"])
            present = self.cam.scores(features[-1], pixels) > 0
            coarse = on_every_layer(self.cam(features[-STAGES:], present, pixels), valid)
            covered = self.cam.spread(present.any(dim=1, keepdim=True), logits.shape[-1])
            covered = on_every_layer(covered, valid)
            return fuse(logits, coarse, covered, valid, self.settings.temperature)


def fuse(
    logits: Tensor, coarse: Tensor, covered: Tensor, valid: Tensor, temperature: float
) -> Tensor:
    """The sharpened mean of two predictions on one scale.

    The scale is the root mean square of both logits, after subtracting their mean over classes.

    Args:
        logits: (B,K,H,W) logits of the decoder.
        coarse: (B,K,H,W) logits of the activation maps.
        covered: (B,1,1 or H,W) bool; elsewhere only the decoder is used.
        valid: (B,H,W) bool, pixels for the scale.
        temperature: below 1 sharpens.

    Returns:
        Probabilities (B,K,H,W).
    """
    logits, coarse = (x - x.mean(dim=1, keepdim=True) for x in (logits, coarse))
    square = (logits.square() + coarse.square()).mean(dim=1) / 2 * valid
    points = tuple(range(1, valid.dim()))
    count = valid.sum(dim=points).clamp(min=1)
    scale = (square.sum(dim=points) / count).sqrt().clamp(min=1e-6)
    scale = scale.view(-1, *[1] * (logits.dim() - 1))
    decoder = (logits / scale).softmax(dim=1)
    mean = torch.where(covered, (decoder + (coarse / scale).softmax(dim=1)) / 2, decoder)
    return (mean.clamp(min=1e-12).log() / temperature).softmax(dim=1)


def window_loss(scores: Tensor, present: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of window classes: mean over classes and known windows.

    Args:
        scores: (B,K,n) logits.
        present: (B,K,n) bool.
        known: (B,n) bool.
    """
    loss = F.binary_cross_entropy_with_logits(scores, present.float(), reduction="none").mean(1)
    return (loss * known).sum() / shared_divisor(known.sum()).clamp(min=1)
