"""Layers for the points of an image of layers.

Points are (B,C,kH,W), the k layers below each other, so that 1x1 convolutions and their folding
work as for pixels. Beside them goes their presence (B,1,kH,W): 1 where a point is, 0 elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from rangeseg.system.distributed import all_reduce_sum


class PointLayer(nn.Module):
    """1x1 convolution, batch norm over the points, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, points: Tensor, presence: Tensor) -> Tensor:
        """Points (B,Cin,h,w), and how often each counts (B,1,h,w) -> (B,Cout,h,w)."""
        return F.relu(normalise(self.norm, self.conv(points), presence))


class PointFusion(nn.Module):
    """A ``PointLayer`` of each point's feature beside that of its pixel.

    The convolution of the pixels' part runs once per pixel, not once per point.
    """

    def __init__(self, of_pixels: int, of_points: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(of_pixels + of_points, out_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, pixels: Tensor, points: Tensor, presence: Tensor) -> Tensor:
        """Pixels (B,P,H/s,W/s), points (B,Q,kH,W) and presence -> (B,Cout,kH,W)."""
        weight, split = self.conv.weight, pixels.shape[1]
        own = F.conv2d(points, weight[:, split:], self.conv.bias)
        fused = add_pixels(own, F.conv2d(pixels, weight[:, :split]))
        return F.relu(normalise(self.norm, fused, presence))


def by_layer(points: Tensor, height: int) -> Tensor:
    """(B,C,kH,W) -> (B,C,k,H,W)."""
    layers: Tensor = points.unflatten(2, (-1, height))  # type: ignore[no-untyped-call]
    return layers


def add_pixels(points: Tensor, pixels: Tensor) -> Tensor:
    """Add to each point (B,C,kH,W) what its pixel (B,C,H/s,W/s) has."""
    stride = points.shape[3] // pixels.shape[3]
    if stride > 1:
        pixels = F.interpolate(pixels, scale_factor=stride, mode="nearest")
    return (by_layer(points, pixels.shape[2]) + pixels[:, :, None]).flatten(2, 3)


def largest_of_frustums(points: Tensor, presence: Tensor, height: int, stride: int = 1) -> Tensor:
    """The largest value of each channel among the points of each pixel, 0 where there is none.

    Args:
        points: (B,C,kH,W).
        presence: (B,1,kH,W).
        height: H.
        stride: also over the pixels of a square of this side; values must not be negative.

    Returns:
        (B,C,H/stride,W/stride).
    """
    there = by_layer(presence, height) > 0
    lowest = torch.finfo(points.dtype).min
    largest = by_layer(points, height).masked_fill(~there, lowest).amax(dim=2)
    largest = largest.masked_fill(~there.any(dim=2), 0.0)
    return largest if stride == 1 else F.max_pool2d(largest, stride)


def normalise(norm: nn.Module, x: Tensor, weights: Tensor) -> Tensor:
    """A batch norm whose statistics are of the entries that count.

    In training mode they are weighted means, over all processes. In eval mode, and where the norm
    was folded into its convolution, it is the module itself.

    Args:
        norm: its module, an ``nn.BatchNorm2d`` or what took its place.
        x: (B,C,h,w).
        weights: (B,1,h,w) how often each entry counts.
    """
    if not (isinstance(norm, _BatchNorm) and norm.training):
        out: Tensor = norm(x)
        return out
    with torch.autocast(x.device.type, enabled=False):  # the products are sums
        normalised, mean, variance = _Normalise.apply(x, weights, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert norm.num_batches_tracked is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.num_batches_tracked += 1
        share = norm.momentum
        if share is None:  # the plain average
            share = 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(variance, share)
    result: Tensor = normalised
    return result


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation · weight + bias, with weighted mean and deviation.

    The losses of all processes depend on every process's points, so backward sums over them too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        values, counts = _rows(x).to(weight.dtype), weights.flatten().to(weight.dtype)
        total = all_reduce_sum(counts.sum()).clamp(min=1.0)
        mean = all_reduce_sum(counts @ values) / total
        variance = all_reduce_sum(counts @ (values - mean).square_()) / total
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weights, weight, mean, inverse, total)
        scale = weight * inverse
        out = _image(torch.addcmul(bias - mean * scale, values, scale), x)
        unbiased = variance * total / (total - 1.0).clamp(min=1.0)
        ctx.mark_non_differentiable(mean, unbiased)
        return out, mean, unbiased

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
        x, weights, weight, mean, inverse, total = ctx.saved_tensors
        gradient, counts = _rows(gradients[0]).to(weight.dtype), weights.flatten().to(weight.dtype)
        standard = (_rows(x).to(weight.dtype) - mean).mul_(inverse)
        bias_gradient = gradient.sum(dim=0)
        weight_gradient = (gradient * standard).sum(dim=0)
        sums = all_reduce_sum(torch.stack([bias_gradient, weight_gradient])) / total
        shared = standard.mul_(sums[1]).add_(sums[0]).mul_(counts[:, None])
        x_gradient = _image(shared.neg_().add_(gradient).mul_(weight * inverse), x)
        return x_gradient, None, weight_gradient, bias_gradient, None


def _rows(x: Tensor) -> Tensor:
    """(B,C,h,w) -> (B·h·w,C); of channels_last it is a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(rows: Tensor, x: Tensor) -> Tensor:
    """The way back, with the size and the type of ``x``."""
    batch, channels, height, width = x.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2).to(x.dtype)
