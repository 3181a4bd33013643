"""Connected regions of a range image, on the device and in static shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from rangeseg.models.blocks import largest_beside


def grow(seed: Tensor, region: Tensor, steps: int, full_turn: bool = True) -> Tensor:
    """Grow a seed within a region by some steps.

    Args:
        seed: (B,H,W) bool.
        region: (B,H,W) bool; pixels connect by side or corner.
        steps: largest distance from the seed, in pixels.
        full_turn: whether the first and the last column are neighbours.

    Returns:
        (B,H,W) bool.
    """
    inside = region[:, None].float()
    component = seed[:, None].float() * inside
    for _ in range(steps):
        component = largest_beside(component, full_turn) * inside
    return component[:, 0] > 0


def bounding_boxes(component: Tensor, seed: Tensor, full_turn: bool = True) -> Tensor:
    """The box around each component; it may cross the seam of a full turn.

    Args:
        component: (B,H,W) bool.
        seed: (B,H,W) bool, one pixel of the component.
        full_turn: whether the first and the last column are neighbours.

    Returns:
        (B,H,W) bool; empty where the component is.
    """
    _, height, width = component.shape
    rows = torch.arange(height, device=component.device)
    columns = torch.arange(width, device=component.device)
    start = seed.any(dim=1).int().argmax(dim=1, keepdim=True)  # (B, 1)
    offset = columns - start  # (B, W)
    if full_turn:  # in [-W/2, W/2): the seam is on the far side of the seed
        offset = (offset + width // 2) % width - width // 2
    return (
        _span(component.any(dim=2), rows.expand(len(component), -1))[:, :, None]
        & _span(component.any(dim=1), offset)[:, None, :]
    )


def _span(occupied: Tensor, place: Tensor) -> Tensor:
    """Fill from the first to the last occupied place: (B,N) bool and int -> (B,N) bool."""
    beyond = place.abs().max() + 1
    first = torch.where(occupied, place, beyond).amin(dim=1, keepdim=True)
    last = torch.where(occupied, place, -beyond).amax(dim=1, keepdim=True)
    return (place >= first) & (place <= last)
