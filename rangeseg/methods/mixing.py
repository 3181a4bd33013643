"""Mix two scans pixel by pixel.

The same row and column is the same ray, so pixels can be swapped without regard to occlusion. Every
field of a pixel must come from one scan. In an image of layers a pixel keeps all its points: masks
are (B,H,W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Fields = dict[str, Tensor]
"""Values per pixel: ``image`` (B,C,H,W), ``valid`` and ``labels`` (B,H,W), and others.

With k layers ``image`` (B,C,k,H,W), ``valid`` and ``labels`` (B,k,H,W), logits (B,K,k,H,W).
"""


def mix(a: Fields, b: Fields, mask: Tensor) -> Fields:
    """Take fields of ``b`` where the mask is set, of ``a`` elsewhere.

    Args:
        a: fields, each (B,H,W) or with more dimensions before the last two.
        b: the same fields of the partner scans.
        mask: (B,H,W) bool.
    """
    assert a.keys() == b.keys(), f"fields differ: {sorted(a)} and {sorted(b)}"
    batch, *size = mask.shape
    return {
        name: torch.where(mask.view(batch, *[1] * (field.dim() - 3), *size), b[name], field)
        for name, field in a.items()
    }


def partner(fields: Fields) -> Fields:
    """Every scan's neighbour in the batch (B ≥ 2).

    A scan can meet itself, augmented differently, if the list of scans is shorter than the batch or
    ends within it.
    """
    # A concatenation keeps channels_last, also for mix; roll on a GPU does not.
    return {name: torch.cat([field[-1:], field[:-1]]) for name, field in fields.items()}


def _random(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform in [low, high) on the generator's device."""
    draw = torch.rand(shape, generator=generator, device=generator.device)
    return low + (high - low) * draw


def box_mask(
    height_share: Tensor,
    width_share: Tensor,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> Tensor:
    """One box per scan at a uniform place; it wraps along azimuth and stays within the rows.

    It also wraps in an image of less than a turn. So every column is equally often in a box, and
    the two parts at the edges never meet.

    Args:
        height_share: (B,) height of the box as a share of H.
        width_share: (B,) width of the box as a share of W.
        shape: (B,H,W), or (B,k,H,W) of layers.
        generator: draws the positions; the mask is on its device.

    Returns:
        (B,H,W) bool.
    """
    batch, *_, height, width = shape
    device = generator.device
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    box_height = (height_share * height).round().clamp(1, height)[:, None]
    box_width = (width_share * width).round().clamp(1, width)[:, None]
    top = torch.floor(_random((batch, 1), 0.0, 1.0, generator) * (height - box_height + 1))
    left = torch.floor(_random((batch, 1), 0.0, 1.0, generator) * width)
    in_rows = (rows >= top) & (rows < top + box_height)  # (B, H)
    in_columns = (columns - left) % width < box_width  # (B, W)
    return in_rows[:, :, None] & in_columns[:, None, :]


def cutmix_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """One box of half the area: height share log-uniform in [.5, 1], width share .5 / height.

    Reference:
        French et al. 2020, "Semi-supervised semantic segmentation needs strong, varied
        perturbations", Sec. 3.3; sides as shares of a wide image instead of a square one.
    """
    height = torch.exp(_random((shape[0],), math.log(0.5), 0.0, generator))
    return box_mask(height, 0.5 / height, shape, generator)


def three_box_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Three boxes with p ~ U(.25, .5) of the area in total, joined by exclusive-or.

    They share one p; the official code draws one for each box.

    Reference:
        Chen et al. 2021, "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision",
        Sec. 4.1 (CutMix), after French et al. 2020.
    """
    batch = shape[0]
    area = _random((batch,), 0.25, 0.5, generator)
    mask = torch.zeros((batch, *shape[-2:]), dtype=torch.bool, device=generator.device)
    for _ in range(3):
        height = torch.exp(torch.log(area) * _random((batch,), 0.0, 1.0, generator))
        scale = math.sqrt(1.0 / 3.0)
        mask ^= box_mask(height * scale, area / height * scale, shape, generator)
    return mask


BANDS = (3, 6)
"""The smallest and largest number of bands: LaserMix's, except Cylinder3D on KITTI (4, 8)."""


def band_mask(
    shape: tuple[int, ...], generator: torch.Generator, bands: tuple[int, int] = BANDS
) -> Tensor:
    """Every other band of rows, with bands as equal as whole rows allow.

    Each scan draws the number of bands and which scan comes first. A band is a range of
    inclinations, or a group of beams if rows follow the scan order.

    Args:
        shape: (B,H,W), or (B,k,H,W) of layers.
        generator: draws both; the mask is on its device.
        bands: the smallest and the largest number of them.

    Returns:
        (B,H,W) bool, half of the area on average.

    Reference:
        Kong et al. 2023, "LaserMix for Semi-Supervised LiDAR Semantic Segmentation", Sec. 3.2.
    """
    batch, *_, height, width = shape
    device = generator.device
    fewest, most = bands
    count = torch.randint(fewest, most + 1, (batch, 1), generator=generator, device=device)
    first = torch.randint(0, 2, (batch, 1), generator=generator, device=device)
    band = torch.arange(height, device=device) * count // height  # (B, H)
    return ((band + first) % 2 == 1)[:, :, None].expand(batch, height, width)


def half_view_mask(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A window of half the columns that begins in the first half.

    It is half a turn of a full turn, or half of a crop or narrower view.

    Args:
        shape: (B,H,W), or (B,k,H,W) of layers.
        generator: draws its start; the mask is on its device.

    Returns:
        (B,H,W) bool.

    Reference:
        Xu et al. 2025, "FRNet: Frustum-Range Networks for Scalable LiDAR Segmentation", FrustumMix.
    """
    batch, *_, height, width = shape
    device, half = generator.device, width // 2
    first = torch.randint(0, half, (batch, 1), generator=generator, device=device)
    columns = torch.arange(width, device=device)
    inside = (columns >= first) & (columns < first + half)  # (B, W)
    return inside[:, None, :].expand(batch, height, width)


def frustum_mask(
    shape: tuple[int, ...], generator: torch.Generator, bands: tuple[int, int] = BANDS
) -> Tensor:
    """Bands of rows or a window of half the columns, each with probability one half.

    Args:
        shape: (B,H,W), or (B,k,H,W) of layers.
        generator: draws for each scan; the mask is on its device.
        bands: the smallest and the largest number of them.

    Returns:
        (B,H,W) bool, half of the area on average.

    Reference:
        Xu et al. 2025, "FRNet: Frustum-Range Networks for Scalable LiDAR Segmentation", FrustumMix.
    """
    coin = torch.rand((shape[0], 1, 1), generator=generator, device=generator.device) < 0.5
    return torch.where(coin, band_mask(shape, generator, bands), half_view_mask(shape, generator))


def interleave(a: Fields, b: Fields, mask: Tensor) -> Fields:
    """Make both mixes of two batches; every pixel is used exactly once.

    Args:
        a: fields of B scans.
        b: the same fields of B other scans.
        mask: (B,H,W) bool.

    Returns:
        Fields of 2B scans: ``a`` with ``b`` where the mask is set, then the other way round.
    """
    first, second = mix(a, b, mask), mix(b, a, mask)
    return {name: torch.cat([field, second[name]]) for name, field in first.items()}
