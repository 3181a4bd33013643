"""Draw classes and pixels on the device, in static shapes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def draw_classes(scores: Tensor, count: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw distinct classes for each scan, with probabilities softmax(scores).

    Args:
        scores: (K,).
        count: classes per scan, at most K.
        batch: scans B.
        generator: generator on the device of the scores.

    Returns:
        (B,count) int64.
    """
    # The largest scores plus Gumbel noise draw without replacement (Kool et al. 2019).
    uniform = torch.rand((batch, len(scores)), generator=generator, device=scores.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
    return (scores + gumbel).topk(count, dim=1).indices


def draw_pixel(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one uniform pixel of each mask.

    Args:
        mask: (B,H,W) bool.
        generator: on the device of the mask.

    Returns:
        (B,H,W) bool, set at one pixel, or at none if the mask is empty.
    """
    score = torch.rand(mask.shape, generator=generator, device=mask.device).masked_fill(~mask, -1.0)
    pixel = score.flatten(1).argmax(dim=1, keepdim=True)
    drawn = torch.zeros_like(mask).flatten(1).scatter(1, pixel, value=True)
    return drawn.view_as(mask) & mask


def stratified_pixels(
    valid: Tensor, grid: int, generator: torch.Generator, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw one random valid pixel of each cell of a grid.

    Args:
        valid: (B,H,W) or (B,k,H,W) bool.
        grid: cells along each side; fewer if the side has fewer pixels.
        generator: on the device of the mask.
        first: same shape, valid pixels to prefer; None for no preference.

    Returns:
        Index (B,S) int64 of a pixel in the flattened image for each of S cells, and (B,S) bool:
        whether the cell has a valid pixel.
    """
    valid = valid.flatten(1, -2)  # stack layers vertically
    first = None if first is None else first.flatten(1, -2)
    batch, height, width = valid.shape
    cell_height, cell_width = -(-height // grid), -(-width // grid)
    rows, columns = -(-height // cell_height), -(-width // cell_width)
    score = torch.rand(valid.shape, generator=generator, device=valid.device)
    score = score if first is None else score - (~first).float()
    score = score.masked_fill(~valid, -2.0)
    bottom, right = rows * cell_height - height, columns * cell_width - width
    score = F.pad(score, (0, right, 0, bottom), value=-2.0)
    cells = score.view(batch, rows, cell_height, columns, cell_width).transpose(2, 3)
    best, place = cells.reshape(batch, rows * columns, -1).max(dim=2)
    cell = torch.arange(rows * columns, device=valid.device)
    row = cell // columns * cell_height + place // cell_width
    column = cell % columns * cell_width + place % cell_width
    # An empty cell may point past the edge, into the padding.
    return row.clamp(max=height - 1) * width + column.clamp(max=width - 1), best > -2.0
