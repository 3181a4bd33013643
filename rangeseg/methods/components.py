"""Connected regions of a range image, on the device and in static shapes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rangeseg.models.blocks import pad_azimuth


def grow(seed: Tensor, region: Tensor, steps: int) -> Tensor:
    """The part of a region that is connected to a seed within some steps.

    Args:
        seed: (B,H,W) bool.
        region: (B,H,W) bool; pixels connect by side or corner, also across the seam.
        steps: largest distance from the seed, in pixels.

    Returns:
        (B,H,W) bool.
    """
    inside = region[:, None].float()
    component = seed[:, None].float() * inside
    for _ in range(steps):
        grown = F.max_pool2d(pad_azimuth(component, 1), kernel_size=3, stride=1, padding=(1, 0))
        component = grown * inside
    return component[:, 0] > 0


def bounding_boxes(component: Tensor, seed: Tensor) -> Tensor:
    """The box around each component; it wraps along azimuth.

    Args:
        component: (B,H,W) bool.
        seed: (B,H,W) bool, one pixel of the component.

    Returns:
        (B,H,W) bool; empty where the component is.
    """
    _, height, width = component.shape
    rows = torch.arange(height, device=component.device)
    columns = torch.arange(width, device=component.device)
    start = seed.any(dim=1).int().argmax(dim=1, keepdim=True)  # (B, 1)
    # Offsets in [-W/2, W/2): the seam is on the far side of the seed.
    offset = (columns - start + width // 2) % width - width // 2  # (B, W)
    return (
        _span(component.any(dim=2), rows.expand(len(component), -1))[:, :, None]
        & _span(component.any(dim=1), offset)[:, None, :]
    )


def _span(occupied: Tensor, place: Tensor) -> Tensor:
    """The places from the first to the last occupied one: (B,N) bool and int -> (B,N) bool."""
    beyond = place.abs().max() + 1
    first = torch.where(occupied, place, beyond).amin(dim=1, keepdim=True)
    last = torch.where(occupied, place, -beyond).amax(dim=1, keepdim=True)
    return (place >= first) & (place <= last)
