"""Losses over the valid pixels of a batch.

One reduction everywhere: sum over classes, mean over valid pixels. Published weights assume other
reductions (an MSE averaged over K classes with weight w is ours with w/K).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.datasets.labels import IGNORE


def masked_cross_entropy(
    logits: Tensor, labels: Tensor, valid: Tensor, class_weights: Tensor, keep: Tensor | None = None
) -> Tensor:
    """Class-weighted cross-entropy, averaged over the pixels that count.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE counts nowhere.
        valid: (B,H,W) bool.
        class_weights: (K,).
        keep: (B,H,W) in [0,1], e.g. whether a pseudo-label is confident. It scales a pixel's loss
            but not its share of the divisor: few confident pixels give a small loss.

    Returns:
        A scalar; 0 (with a gradient of 0) where no pixel counts.
    """
    counts = valid & (labels != IGNORE)
    target = torch.where(counts, labels, 0).long()
    loss = F.cross_entropy(logits.float(), target, reduction="none")
    weight = class_weights[target] * counts
    loss = loss * weight if keep is None else loss * weight * keep
    return loss.sum() / weight.sum().clamp(min=1e-6)


def masked_squared_error(p: Tensor, q: Tensor, valid: Tensor, keep: Tensor) -> Tensor:
    """Squared distance of two distributions: sum over classes, mean over valid pixels.

    Args:
        p: (B,K,H,W).
        q: (B,K,H,W).
        valid: (B,H,W) bool.
        keep: (B,H,W) in [0,1]; scales a pixel's loss but not its share of the divisor.
    """
    distance = (p - q).square().sum(dim=1)
    return (distance * valid * keep).sum() / valid.sum().clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss, averaged over the classes that are present.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE counts nowhere.
        valid: (B,H,W) bool.

    Returns:
        A scalar in [0,1]; 0 where no pixel counts.

    Reference:
        Berman et al. 2018, "The Lovász-Softmax loss", Alg. 1 and Eq. 11 (pixels of the batch
        together).
    """
    counts = (valid & (labels != IGNORE)).flatten()
    num_classes = logits.shape[1]
    probabilities = logits.float().softmax(dim=1).movedim(1, 0).flatten(1)  # (K, P)
    target = labels.flatten().long()
    truth = (target == torch.arange(num_classes, device=target.device)[:, None]) & counts  # (K, P)
    # A pixel that does not count has error 0 and sorts last, where it changes nothing.
    errors = (truth.float() - probabilities).abs() * counts
    errors, order = errors.sort(dim=1, descending=True)
    hits = truth.gather(1, order).float()
    counted = counts[order].float()
    total = hits.sum(dim=1, keepdim=True)
    intersection = total - hits.cumsum(dim=1)
    union = total + (counted - hits).cumsum(dim=1)
    jaccard = 1.0 - intersection / union.clamp(min=1.0)
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    present = (total[:, 0] > 0).float()
    return ((errors * steps).sum(dim=1) * present).sum() / present.sum().clamp(min=1.0)


class SupervisedLoss(nn.Module):
    """The loss on labelled pixels, the same for every method.

    Args:
        class_weights: (K,).
        lovasz_weight: weight of the Lovász-softmax term beside the cross-entropy; 0 leaves it out.
    """

    class_weights: Tensor

    def __init__(self, class_weights: Tensor, lovasz_weight: float) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.lovasz_weight = lovasz_weight

    def forward(self, logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Logits (B,K,H,W), labels and valid (B,H,W) -> scalar."""
        loss = masked_cross_entropy(logits, labels, valid, self.class_weights)
        if self.lovasz_weight > 0:
            loss = loss + self.lovasz_weight * lovasz_softmax(logits, labels, valid)
        return loss


def ramp_up(progress: float, start: float, length: float) -> float:
    """The weight of an unsupervised loss over the training.

    Args:
        progress: share of the training that is done, in [0,1].
        start: the loss is off before this share.
        length: share over which it rises as exp(-5 (1 - t)²).

    Reference:
        Laine and Aila 2017, "Temporal Ensembling", Sec. 3.
    """
    if progress < start:
        return 0.0
    if progress >= start + length:
        return 1.0
    t = (progress - start) / length
    return math.exp(-5.0 * (1.0 - t) ** 2)
