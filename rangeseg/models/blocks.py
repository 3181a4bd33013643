"""Convolutions with circular padding along azimuth, for images of a full turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _PadAzimuth(torch.autograd.Function):
    """Concatenation with a custom backward.

    Autograd would fill and add a full-size tensor per slice: a quarter of the step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        return torch.cat([x[..., -columns:], x, x[..., :columns]], dim=3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        n = ctx.columns
        inner = gradient[..., n:-n].clone(memory_format=torch.preserve_format)
        inner[..., :n] += gradient[..., -n:]
        inner[..., -n:] += gradient[..., :n]
        return inner, None


class _CropAzimuth(torch.autograd.Function):
    """A slice whose gradient stays channels_last; autograd would make it contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, columns: int) -> Tensor:
        ctx.columns = columns
        return x[..., columns:-columns]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return F.pad(gradients[0], (ctx.columns, ctx.columns)), None


def pad_azimuth(x: Tensor, columns: int) -> Tensor:
    """Repeat ``columns`` columns of (B,C,H,W) across the ±180° seam on both sides.

    Concatenation keeps channels_last, which ``F.pad(mode="circular")`` does not.
    """
    padded: Tensor = _PadAzimuth.apply(x, columns)  # type: ignore[no-untyped-call]
    return padded


def largest_beside(x: Tensor, full_turn: bool) -> Tensor:
    """Largest value (B,C,H,W) in the 3x3 pixels around each; ``x`` must not be negative."""
    if not full_turn:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
    return F.max_pool2d(pad_azimuth(x, 1), kernel_size=3, stride=1, padding=(1, 0))


class AzimuthConv(nn.Conv2d):
    """A 3x3 convolution without bias: circular along azimuth, zeros above and below.

    Zeros at all edges if the image is not a full turn.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, full_turn: bool = True
    ) -> None:
        self.full_turn = full_turn
        padding = (1, 0) if full_turn else (1, 1)
        super().__init__(
            in_channels, out_channels, kernel_size=3, stride=stride, padding=padding, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        return super().forward(pad_azimuth(x, 1) if self.full_turn else x)


class _Shrink(nn.Conv2d):
    """A 1x1 convolution of every other row and column."""

    # PyTorch 2.13 on a CPU corrupts memory in the backward of a strided 1x1 convolution: float32,
    # channels_last, fewer channels than this. A slice avoids it, but takes up to 3.5 times as long.
    SOUND_CHANNELS = 16

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.slice = min(in_channels, out_channels) < self.SOUND_CHANNELS
        self.step = stride
        super().__init__(
            in_channels, out_channels, 1, stride=1 if self.slice else stride, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        return super().forward(x[..., :: self.step, :: self.step] if self.slice else x)


def upsample_azimuth(
    x: Tensor, factor: int, full_turn: bool = True, align_corners: bool = False
) -> Tensor:
    """Enlarge (B,C,H,W) bilinearly by a whole factor, circular along azimuth.

    So rolling a scan rolls its logits. In an image of less than a turn edges are repeated.
    With aligned corners the outermost pixel centres coincide instead, and nothing wraps.
    """
    if factor == 1:
        return x
    wraps = full_turn and not align_corners
    padded = pad_azimuth(x, 1) if wraps else x
    if x.is_cuda and x.dtype == torch.bfloat16 and x.requires_grad:
        # CUDA sums the gradient in the image's type; bfloat16 keeps only 2 digits of 256 summands.
        padded = padded.float()
    enlarged = F.interpolate(
        padded, scale_factor=factor, mode="bilinear", align_corners=align_corners
    )
    if wraps:
        enlarged = _CropAzimuth.apply(enlarged, factor)  # type: ignore[no-untyped-call]
    return enlarged.to(x.dtype)


def full_resolution(
    features: Sequence[Tensor], full_turn: bool = True, align_corners: bool = False
) -> Tensor:
    """Enlarge (B,channels,H/s,W/s) to the size of the first, and concatenate all."""
    height = features[0].shape[2]
    return torch.cat(
        [upsample_azimuth(f, height // f.shape[2], full_turn, align_corners) for f in features],
        dim=1,
    )


def leaky_relu() -> nn.Module:
    """LeakyReLU(.01), FIDNet's activation."""
    return nn.LeakyReLU(0.01, inplace=True)


def conv1x1(in_channels: int, out_channels: int, bias: bool) -> nn.Sequential:
    """1x1 convolution, batch norm, LeakyReLU(.01)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=bias),
        nn.BatchNorm2d(out_channels),
        leaky_relu(),
    )


def conv3x3(in_channels: int, out_channels: int, full_turn: bool) -> nn.Sequential:
    """3x3 convolution, batch norm, Hardswish."""
    return nn.Sequential(
        AzimuthConv(in_channels, out_channels, full_turn=full_turn),
        nn.BatchNorm2d(out_channels),
        nn.Hardswish(),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, Fig. 5 left)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        activation: Callable[[], nn.Module],
        full_turn: bool = True,
    ) -> None:
        super().__init__()
        self.conv1 = AzimuthConv(in_channels, out_channels, stride, full_turn)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = AzimuthConv(out_channels, out_channels, full_turn=full_turn)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.activation = activation()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                _Shrink(in_channels, out_channels, stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.activation(y + self.shortcut(x))
        return out


def residual_stages(
    in_channels: int, width: int, activation: Callable[[], nn.Module], full_turn: bool
) -> nn.ModuleList:
    """The four stages of a ResNet-34 with one width; all but the first halve the size."""
    stages = nn.ModuleList()
    for index, blocks in enumerate((3, 4, 6, 3)):
        stage = [BasicBlock(in_channels, width, 1 if index == 0 else 2, activation, full_turn)]
        stage += [BasicBlock(width, width, 1, activation, full_turn) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*stage))
        in_channels = width
    return stages
