"""The student's mean confidence in each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rangeseg.methods.layers import is_class
from rangeseg.system.distributed import all_reduce_sum


class ConfidenceBank(nn.Module):
    """The running mean of the probability of the true class, one value per class.

    The momentum of a class is min(1 - 1/(n+1), momentum) after n updates, so that its first
    values are averaged.

    Args:
        num_classes: K.
        momentum: momentum of the average.
    """

    confidence: Tensor
    updates: Tensor

    def __init__(self, num_classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("confidence", torch.zeros(num_classes))
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.long))

    @property
    def gap(self) -> Tensor:
        """(K,) one minus the confidence of each class."""
        return (1.0 - self.confidence).clamp(min=0.0)

    @property
    def keep_probability(self) -> Tensor:
        """(K,) 1 for the least confident class, less for more confident ones."""
        most = self.gap.max()
        # Equal confidences keep everything, even if all are 1.
        return torch.where(most > 0, self.gap / most.clamp(min=1e-12), 1.0)

    @torch.no_grad()
    def update(self, seen: Tensor) -> None:
        """Average in a result of ``true_class_confidence``, over all processes.

        An absent class keeps its value.
        """
        total, count = all_reduce_sum(seen.clone())
        momentum = (1.0 - 1.0 / (self.updates + 1)).clamp(max=self.momentum)
        updated = momentum * self.confidence + (1.0 - momentum) * total / count.clamp(min=1.0)
        self.confidence.copy_(torch.where(count > 0, updated, self.confidence))
        self.updates += count > 0


@torch.no_grad()
def true_class_confidence(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Sum of the probability of the true class, and number of pixels, per class.

    Args:
        logits: (B,K,H,W).
        labels: (B,H,W) train ids; IGNORE does not count.
        valid: (B,H,W) bool.

    Returns:
        (2,K) float32.
    """
    truth = is_class(labels, logits.shape[1]) & valid[:, None]  # (B, K, H, W)
    probabilities = logits.float().softmax(dim=1)
    pixels = [d for d in range(logits.dim()) if d != 1]
    return torch.stack([(probabilities * truth).sum(pixels), truth.sum(pixels).float()])
