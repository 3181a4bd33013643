"""Layers for the points of an image of layers.

Points are (B,C,kH,W), the k layers stacked vertically, so that 1x1 convolutions and their folding
work as for pixels. Their presence (B,1,kH,W) is 1 for a point. Empty places hold a copy of the
pixel's nearest point, which changes no maximum and is not counted in statistics.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from rangeseg.system.distributed import all_reduce_sum, world_size


class PointLayer(nn.Module):
    """1x1 convolution, batch norm over the points, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, points: Tensor, counts: Tensor) -> Tensor:
        """Points (B,Cin,h,w) and their weights (B,1,h,w) -> (B,Cout,h,w)."""
        if not counting(self.norm):
            return F.relu(self.norm(self.conv(points)))
        weight = self.conv.weight.flatten(1)
        if len(weight) < weight.shape[1]:  # fewer moments, of the convolution's output
            points, weight = linear(points, weight), torch.eye(len(weight)).to(weight)
        with torch.autocast(points.device.type, enabled=False):
            weight, bias = fold_norm(self.norm, weight, moments_of(points, counts))
        return F.relu(linear(points, weight, bias))


class PointFusion(nn.Module):
    """A ``PointLayer`` on each point's feature joined with its pixel's.

    The pixels' part is computed once per pixel, not per point.
    """

    def __init__(self, of_pixels: int, of_points: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(of_pixels + of_points, out_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, pixels: Tensor, points: Tensor, presence: Tensor) -> Tensor:
        """Pixels (B,P,H/s,W/s), points (B,Q,kH,W) and presence -> (B,Cout,kH,W)."""
        split, weight = pixels.shape[1], self.conv.weight
        if not counting(self.norm):
            own = F.conv2d(points, weight[:, split:])
            fused = add_pixels(own, F.conv2d(pixels, weight[:, :split], self.conv.bias))
            return F.relu(self.norm(fused))
        with torch.autocast(points.device.type, enabled=False):
            moments = _moments_of_pairs(_exact(pixels), _exact(points), presence)
            weight, bias = fold_norm(self.norm, weight.flatten(1), moments)
        own = linear(points, weight[:, split:])
        return F.relu(add_pixels(own, linear(pixels, weight[:, :split], bias)))


class Moments:
    """Moments of a linear map's input, for the batch norm of its output.

    So folding into the map's weights normalises its output, without another pass over it.

    Attributes:
        total: number of counted points.
        mean: (C,) mean.
        covariance: (C,C) biased covariance.
    """

    def __init__(self, total: Tensor, sums: Tensor, products: Tensor) -> None:
        self.total = total.clamp(min=1.0)
        self.mean = sums / self.total
        self.covariance = products / self.total - torch.outer(self.mean, self.mean)

    @classmethod
    def of_all(cls, total: Tensor, sums: Tensor, products: Tensor) -> Moments:
        """Moments of the points of all processes.

        Args:
            total: number of points of this process.
            sums: (C,) sums of their channels.
            products: (C,C) sums of products of two channels.
        """
        if world_size() == 1:
            return cls(total, sums, products)
        packed = torch.cat([total[None], sums, products.flatten()])
        total, sums, products = _SumOverProcesses.apply(packed).split(  # type: ignore[no-untyped-call]
            [1, len(sums), products.numel()]
        )
        return cls(total[0], sums, products.view(len(sums), len(sums)))


def counting(norm: nn.Module) -> bool:
    """Whether a norm uses batch statistics; a folded one does not."""
    return isinstance(norm, _BatchNorm) and norm.training


def fold_norm(norm: nn.Module, weight: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Fold a batch norm in training mode into a linear map's weight (O,C) and bias (O,).

    Args:
        norm: the batch norm; counts the batch in its running statistics.
        weight: (O,C) weight of the map.
        moments: moments of its input.
    """
    assert isinstance(norm, _BatchNorm)
    # A GPU multiplies float32 with three digits: too few for nearly equal features.
    exact = weight.double()
    spread = ((exact @ moments.covariance.double()) * exact).sum(dim=1).clamp(min=0.0)
    mean, variance = weight @ moments.mean, spread.to(weight.dtype)
    count_batch(norm, mean, variance, moments.total)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return weight * scale[:, None], norm.bias - mean * scale


@torch.no_grad()
def count_batch(norm: _BatchNorm, mean: Tensor, variance: Tensor, total: Tensor) -> None:
    """Add mean and biased variance (C,) of a batch to a norm's running statistics."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.num_batches_tracked += 1
    share = norm.momentum
    if share is None:  # the plain average
        share = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * total / (total - 1.0).clamp(min=1.0), share)


def moments_of(points: Tensor, counts: Tensor) -> Moments:
    """Moments of points (B,C,h,w), weighted by counts (B,1,h,w)."""
    rows = as_rows(_exact(points))
    weighted = rows * as_rows(counts)
    return Moments.of_all(counts.sum(), weighted.sum(dim=0), weighted.T @ rows)


def _moments_of_pairs(pixels: Tensor, points: Tensor, presence: Tensor) -> Moments:
    """Moments of each pixel's channels joined with its points'."""
    weighted = points * presence
    stride = points.shape[3] // pixels.shape[3]
    height = stride * pixels.shape[2]
    sums, counts = (by_layer(each, height).sum(dim=2) for each in (weighted, presence))
    if stride > 1:
        sums, counts = (F.avg_pool2d(x, stride, divisor_override=1) for x in (sums, counts))
    ours, theirs, number = as_rows(pixels), as_rows(sums), as_rows(counts)
    counted = ours * number
    across = ours.T @ theirs
    products = torch.cat(
        [
            torch.cat([counted.T @ ours, across], dim=1),
            torch.cat([across.T, as_rows(weighted).T @ as_rows(points)], dim=1),
        ]
    )
    first = torch.cat([counted.sum(dim=0), theirs.sum(dim=0)])
    return Moments.of_all(number.sum(), first, products)


def _exact(x: Tensor) -> Tensor:
    """Use at least float32, for sums over many points."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear(points: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of (B,C,h,w) by a weight (O,C), without copies in channels_last."""
    return F.linear(points.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def as_rows(x: Tensor) -> Tensor:
    """(B,C,h,w) -> (B·h·w,C); a view in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def by_layer(points: Tensor, height: int) -> Tensor:
    """(B,C,kH,W) -> (B,C,k,H,W)."""
    layers: Tensor = points.unflatten(2, (-1, height))  # type: ignore[no-untyped-call]
    return layers


def add_pixels(points: Tensor, pixels: Tensor) -> Tensor:
    """Add to each point (B,C,kH,W) its pixel (B,C,H/s,W/s)."""
    stride = points.shape[3] // pixels.shape[3]
    if stride > 1:
        pixels = F.interpolate(pixels, scale_factor=stride, mode="nearest")
    return (by_layer(points, pixels.shape[2]) + pixels[:, :, None]).flatten(2, 3)


def largest_of_frustums(points: Tensor, presence: Tensor, height: int, stride: int = 1) -> Tensor:
    """The maximum of each channel over the points of each pixel, 0 if empty.

    Args:
        points: (B,C,kH,W).
        presence: (B,1,kH,W).
        height: H.
        stride: also maximise over squares of this side; values must not be negative.

    Returns:
        (B,C,H/stride,W/stride).
    """
    layers = by_layer(points, height)
    largest: Tensor = _Largest.apply(layers) if layers.requires_grad else layers.amax(dim=2)  # type: ignore[no-untyped-call]
    occupied = by_layer(presence, height)[:, :, 0]  # points fill the first layer first
    largest = largest * occupied.to(largest.dtype)
    return largest if stride == 1 else F.max_pool2d(largest, stride)


class _Largest(torch.autograd.Function):
    """The maximum over layers (B,C,k,H,W); autograd would take three times as long."""

    @staticmethod
    def forward(ctx: Any, layers: Tensor) -> Tensor:
        largest = layers[:, :, 0]
        chosen = torch.zeros_like(largest, dtype=torch.uint8)
        for number in range(1, layers.shape[2]):
            larger = layers[:, :, number] > largest
            chosen.masked_fill_(larger, number)
            largest = torch.maximum(largest, layers[:, :, number])
        ctx.save_for_backward(chosen)
        ctx.count = layers.shape[2]
        return largest.clone() if ctx.count == 1 else largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (chosen,) = ctx.saved_tensors
        return torch.stack([gradients[0] * (chosen == k) for k in range(ctx.count)], dim=2)


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; the losses of all depend on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_reduce_sum(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0].clone())
