"""The consistency loss of Mean Teacher and CutMix-Seg."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.methods.losses import masked_cross_entropy, masked_squared_error
from rangeseg.methods.teacher import TeacherSettings
from rangeseg.system.distributed import shared_divisor


class ConsistencySettings(TeacherSettings):
    """Comparison of the student's predictions with the teacher's.

    ``loss``: ``squared_error`` of the distributions, or ``cross_entropy`` with the teacher's most
    probable class (our adaptation, the only one that ``pseudo_label_weights`` concerns).
    ``confidence_mode``: a pixel is confident if the teacher's largest probability reaches
    ``confidence``. ``per_pixel`` keeps the confident pixels. ``per_batch`` keeps all and scales the
    loss by their share (French et al.'s automatic ramp-up).
    ``divisor``: the mean, and that share, are over the ``valid`` pixels, or over ``all`` pixels, as
    in the official codes. Empty pixels have no loss in either case.
    ``perturb``: also perturb the student's scans.
    """

    loss: Literal["squared_error", "cross_entropy"] = "squared_error"
    confidence: float = Field(default=0.0, ge=0, le=1)
    confidence_mode: Literal["per_batch", "per_pixel"] = "per_batch"
    divisor: Literal["valid", "all"] = "valid"
    perturb: bool = True


def consistency_loss(
    logits: Tensor,
    teacher: Tensor,
    valid: Tensor,
    class_weights: Tensor,
    settings: ConsistencySettings,
) -> Tensor:
    """The unweighted consistency loss of a batch.

    Args:
        logits: (B,K,H,W) logits of the student.
        teacher: (B,K,H,W) probabilities; all zero where the truth is ignored.
        valid: (B,H,W) bool.
        class_weights: (K,) of the supervised loss.
        settings: of the method.

    Returns:
        A scalar; 0 if no pixel is valid.
    """
    confidence, pseudo_labels = teacher.max(dim=1)
    valid = valid & (confidence > 0)
    counted = valid if settings.divisor == "valid" else torch.ones_like(valid)
    confident = (confidence >= settings.confidence) & counted
    pixels = shared_divisor(counted.sum()).clamp(min=1)
    if settings.confidence_mode == "per_batch":
        keep = (shared_divisor(confident.sum()) / pixels).expand_as(confidence)
    else:
        keep = confident.float()
    if settings.loss == "cross_entropy":
        weights = settings.pseudo_weights(class_weights)
        loss = masked_cross_entropy(logits, pseudo_labels, valid, weights, keep)
    else:
        loss = masked_squared_error(logits.float().softmax(dim=1), teacher, valid, keep)
    if settings.divisor == "valid":
        return loss
    return loss * shared_divisor(valid.sum()) / pixels
