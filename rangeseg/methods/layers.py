"""Handle images of one layer (B,C,H,W) and of several (B,C,k,H,W) alike.

Layers hold the points of a pixel, the nearest first. The first represents the pixel where a loss or
a mix works on pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def front(values: Tensor) -> Tensor:
    """Values of points (B,H,W) or (B,k,H,W) -> those of each pixel's nearest point (B,H,W)."""
    return values if values.dim() == 3 else values[:, 0]


def front_channels(values: Tensor) -> Tensor:
    """Channels of points (B,C,H,W) or (B,C,k,H,W) -> of each pixel's nearest point (B,C,H,W)."""
    return values if values.dim() == 4 else values[:, :, 0]


def on_every_layer(pixels: Tensor, points: Tensor) -> Tensor:
    """Repeat channels of pixels (B,C,H,W) for each layer of ``points`` (B,k,H,W), if any.

    Returns:
        (B,C,H,W) or (B,C,k,H,W).
    """
    if points.dim() == 3:
        return pixels
    return pixels[:, :, None].expand(-1, -1, points.shape[1], -1, -1)


def per_channel(values: Tensor, points: Tensor) -> Tensor:
    """(C,) -> (C,1,1) or (C,1,1,1), which multiplies ``points`` (B,C,H,W) or (B,C,k,H,W)."""
    return values.view(-1, *[1] * (points.dim() - 2))


def is_class(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot classes of points: (B,...) train ids -> (B,K,...) bool; IGNORE is no class."""
    labels = labels[:, None]
    return labels == per_channel(torch.arange(num_classes, device=labels.device), labels)
