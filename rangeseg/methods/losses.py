"""Losses over the valid pixels of a batch, or over the valid points of an image of layers.

One reduction everywhere: sum over classes, mean over valid pixels. Published weights may assume
others: weight w of an MSE averaged over K classes is w/K here.

The mean is over the pixels of all processes, see ``shared_divisor``. Only the Lovász term, which
sorts pixels, is separate per process.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.datasets.labels import IGNORE
from rangeseg.methods.layers import front, front_channels, is_class, per_channel
from rangeseg.models.blocks import largest_beside
from rangeseg.settings import Settings
from rangeseg.system.distributed import shared_divisor

ClassWeights = Literal["sqrt_inverse_frequency", "inverse_frequency", "none"]
TermsOn = Literal["all_heads", "auxiliary_heads"]
FULL_WEIGHT_M = 100.0
"""The range with weight 1 under ``range_weighting``."""


class CrossEntropySettings(Settings):
    """Reduction of the cross-entropy of labelled pixels; other terms do not change.

    ``divisor``: the class weights of ``known`` pixels, or the number of ``all`` pixels, including
    empty and ignored ones, as in LaserMix and FIDNet.
    ``hard_pixels``: average over this share of all pixels, those with the largest loss; below 1
    ``divisor`` has no effect. FIDNet has .15.
    ``range_weighting``: weight a pixel by its range over 100 m, as in FIDNet's code.
    """

    divisor: Literal["known", "all"] = "known"
    hard_pixels: float = Field(default=1.0, gt=0, le=1)
    range_weighting: bool = False


def masked_cross_entropy(
    logits: Tensor, labels: Tensor, valid: Tensor, class_weights: Tensor, keep: Tensor | None = None
) -> Tensor:
    """Class-weighted cross-entropy, averaged over the pixels that count.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE does not count.
        valid: (B,H,W) bool.
        class_weights: (K,).
        keep: (B,H,W) in [0,1], e.g. whether a pseudo-label is confident. It scales a pixel's loss
            but not its share of the divisor, so few confident pixels give a small loss.

    Returns:
        A scalar; 0 (with a gradient of 0) where no pixel counts.
    """
    loss, weight = _pixel_losses(logits, labels, valid, class_weights)
    loss = loss if keep is None else loss * keep
    return loss.sum() / shared_divisor(weight.sum()).clamp(min=1e-6)


def _pixel_losses(
    logits: Tensor, labels: Tensor, valid: Tensor, class_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The weighted cross-entropy of each pixel, and its weight: (B,H,W), 0 if not counted."""
    counts = valid & (labels != IGNORE)
    target = torch.where(counts, labels, 0).long()
    loss = F.cross_entropy(logits.float(), target, reduction="none")
    weight = class_weights[target] * counts
    return loss * weight, weight


def soft_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, class_weights: Tensor, keep: Tensor
) -> Tensor:
    """Class-weighted cross-entropy with a distribution; ``masked_cross_entropy`` if one-hot.

    Args:
        logits: (B,K,H,W).
        target: (B,K,H,W) probabilities.
        valid: (B,H,W) bool.
        class_weights: (K,).
        keep: (B,H,W) in [0,1]; scales a pixel's loss but not its share of the divisor.
    """
    loss = F.cross_entropy(logits.float(), target, weight=class_weights, reduction="none")
    weight = (target * per_channel(class_weights, target)).sum(dim=1) * valid
    return (loss * valid * keep).sum() / shared_divisor(weight.sum()).clamp(min=1e-6)


def masked_squared_error(p: Tensor, q: Tensor, valid: Tensor, keep: Tensor | None = None) -> Tensor:
    """Squared distance of two distributions: sum over classes, mean over valid pixels.

    Args:
        p: (B,K,H,W).
        q: (B,K,H,W).
        valid: (B,H,W) bool.
        keep: (B,H,W) in [0,1]; scales a pixel's loss but not its share of the divisor.
    """
    distance = (p - q).square().sum(dim=1) * valid
    distance = distance if keep is None else distance * keep
    return distance.sum() / shared_divisor(valid.sum()).clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss, averaged over the present classes.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE does not count.
        valid: (B,H,W) bool.

    Returns:
        A scalar in [0,1]; 0 where no pixel counts.

    Reference:
        Berman et al. 2018, "The Lovász-Softmax loss", Alg. 1 and Eq. 11, over all pixels of the
        batch.
    """
    counts = (valid & (labels != IGNORE)).flatten()
    num_classes = logits.shape[1]
    probabilities = logits.float().softmax(dim=1).movedim(1, 0).flatten(1)  # (K, P)
    target = labels.flatten().long()
    truth = (target == torch.arange(num_classes, device=target.device)[:, None]) & counts  # (K, P)
    # An uncounted pixel has error 0 and sorts last, where it changes nothing.
    errors = (truth.float() - probabilities).abs() * counts
    errors, order = errors.sort(dim=1, descending=True)
    hits = truth.gather(1, order)
    misses = counts[order] & ~hits
    total = hits.sum(dim=1, keepdim=True)
    # Integers, because a GPU adds floats in any order.
    intersection = total - hits.cumsum(dim=1, dtype=torch.int32)
    union = total + misses.cumsum(dim=1, dtype=torch.int32)
    jaccard = 1.0 - intersection / union.clamp(min=1)
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    present = (total[:, 0] > 0).float()
    return ((errors * steps).sum(dim=1) * present).sum() / present.sum().clamp(min=1.0)


def boundary_loss(logits: Tensor, labels: Tensor, valid: Tensor, full_turn: bool = True) -> Tensor:
    """One minus the F1 score of the predicted class boundaries.

    A pixel's share in a class boundary is its probability minus the smallest one among its counted
    neighbours: 0 or 1 for the truth, in between for a prediction. The neighbourhood is 3x3. In an
    image of layers the nearest points count.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE does not count.
        valid: (B,H,W) bool.
        full_turn: whether the first and the last column are neighbours.

    Returns:
        A scalar in [0,1]: the mean over the classes with a boundary in each scan; 0 without any.

    Reference:
        Bokhovkin and Burnaev 2019, "Boundary Loss for Remote Sensing Imagery Semantic
        Segmentation", Sec. 3, with exact boundaries (no tolerance) as in CENet's code.
        Departures: only counted pixels; a class without a boundary in a scan is left out, but adds
        a constant 1 in theirs.
    """
    logits, labels, valid = front_channels(logits), front(labels), front(valid)
    counts = (valid & (labels != IGNORE))[:, None]
    truth = _boundary(is_class(labels, logits.shape[1]).float(), counts, full_turn)
    predicted = _boundary(logits.float().softmax(dim=1), counts, full_turn)
    shared = (predicted * truth).sum(dim=(2, 3))
    size = truth.sum(dim=(2, 3))
    # 2PR / (P + R) with precision P = shared / predicted and recall R = shared / true size.
    f1 = 2.0 * shared / (predicted.sum(dim=(2, 3)) + size).clamp(min=1.0)
    present = size > 0
    return ((1.0 - f1) * present).sum() / shared_divisor(present.sum()).clamp(min=1)


def _boundary(share: Tensor, counts: Tensor, full_turn: bool) -> Tensor:
    """Each pixel's share (B,K,H,W) of a class minus the smallest one next to it."""
    rest = (1.0 - share) * counts  # 0 for uncounted pixels, which are never the maximum
    return (largest_beside(rest, full_turn) - rest) * counts


class SupervisedLoss(nn.Module):
    """The loss on labelled pixels, the same for every method.

    Args:
        class_weights: (K,).
        lovasz_weight: weight of the Lovász-softmax term; 0 leaves it out.
        boundary_weight: weight of the boundary term; 0 leaves it out.
        full_turn: whether the first and the last column of an image are neighbours.
        cross_entropy: reduction of the cross-entropy. Each process selects its own hardest pixels.
    """

    class_weights: Tensor

    def __init__(
        self,
        class_weights: Tensor,
        lovasz_weight: float,
        boundary_weight: float,
        full_turn: bool = True,
        cross_entropy: CrossEntropySettings | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.reduction = cross_entropy or CrossEntropySettings()
        self.lovasz_weight = lovasz_weight
        self.boundary_weight = boundary_weight
        self.full_turn = full_turn

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        valid: Tensor,
        ranges: Tensor | None = None,
        all_terms: bool = True,
    ) -> Tensor:
        """The weighted sum of the terms, a scalar.

        Args:
            logits: (B,K,H,W).
            labels: (B,H,W) train ids; IGNORE does not count.
            valid: (B,H,W) bool.
            ranges: (B,H,W) ranges in metres, for ``range_weighting``.
            all_terms: also add Lovász-softmax and boundary.
        """
        loss = self._cross_entropy(logits, labels, valid, ranges)
        if not all_terms:
            return loss
        if self.lovasz_weight > 0:
            loss = loss + self.lovasz_weight * lovasz_softmax(logits, labels, valid)
        if self.boundary_weight > 0:
            boundary = boundary_loss(logits, labels, valid, self.full_turn)
            loss = loss + self.boundary_weight * boundary
        return loss

    def _cross_entropy(
        self, logits: Tensor, labels: Tensor, valid: Tensor, ranges: Tensor | None
    ) -> Tensor:
        loss, weight = _pixel_losses(logits, labels, valid, self.class_weights)
        if self.reduction.range_weighting:
            assert ranges is not None
            loss = loss * ranges / FULL_WEIGHT_M
        if self.reduction.hard_pixels < 1:
            hardest = max(1, int(self.reduction.hard_pixels * loss.numel()))
            return loss.flatten().topk(hardest, sorted=False).values.mean()
        if self.reduction.divisor == "all":
            return loss.mean()
        return loss.sum() / shared_divisor(weight.sum()).clamp(min=1e-6)


def class_weights(frequencies: Tensor, rule: ClassWeights = "sqrt_inverse_frequency") -> Tensor:
    """Compute the class weights of the cross-entropy.

    Args:
        frequencies: (K,) share of each class among the labelled points.
        rule:
            ``sqrt_inverse_frequency``: 1/sqrt(frequency), 1 on average over the present classes; an
            absent class gets the largest weight of the present ones.
            ``inverse_frequency``: 1/(frequency + .001) as in FIDNet's code, not normalised; its
            frequencies are over all points of SemanticKITTI, including unlabelled ones.
            ``none``: 1.

    Returns:
        (K,) float32.
    """
    if rule == "none":
        return torch.ones_like(frequencies, dtype=torch.float32)
    if rule == "inverse_frequency":
        return (1.0 / (frequencies + 1e-3)).float()
    present = frequencies > 0
    weights = frequencies.clamp(min=float(frequencies[present].min())).rsqrt()
    return (weights / weights[present].mean()).float()


def ramp_up(progress: float, start: float, length: float) -> float:
    """The ramp of an unsupervised loss, in [0,1].

    Args:
        progress: finished share of the training, in [0,1].
        start: the ramp is 0 before this share.
        length: share of the training over which it rises as exp(-5 (1 - t)²).

    Reference:
        Laine and Aila 2017, "Temporal Ensembling", Sec. 3.
    """
    if progress < start:
        return 0.0
    if progress >= start + length:
        return 1.0
    t = (progress - start) / length
    return math.exp(-5.0 * (1.0 - t) ** 2)
