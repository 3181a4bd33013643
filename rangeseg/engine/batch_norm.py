"""Batch norms that take their statistics over the scans of all processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rangeseg.methods.distributed import all_reduce_sum, num_processes


def synchronise_batch_norms(method: nn.Module, device: torch.device) -> None:
    """Let all processes share the statistics of a batch; with one process nothing changes.

    On GPUs the layers become PyTorch's own synchronised ones, which know no CPU. Names and values
    in checkpoints stay the same.

    Args:
        method: whose batch norms are replaced, in place.
        device: where it will run.
    """
    if num_processes() == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
        return
    for module in method.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm


class SyncedBatchNorm(nn.BatchNorm2d):
    """A batch norm over all processes, on any device. Each must have equally many pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        if not self.training:
            return super().forward(x)
        normalised, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            count = num_processes() * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        out: Tensor = normalised
        return out


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation · weight + bias, with mean and deviation over all processes.

    The losses of all processes depend on each one's pixels, so backward sums over them, too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x.to(weight.dtype), dim=(0, 2, 3), unbiased=False)
        # In two rounds: the mean of squares less the square of the mean would cancel.
        mean_of_all = all_reduce_sum(mean.clone()) / num_processes()
        variance = all_reduce_sum(variance + (mean - mean_of_all).square()) / num_processes()
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean_of_all, inverse)
        ctx.mark_non_differentiable(mean_of_all, variance)
        scale = weight * inverse
        out = x * _of_channels(scale) + _of_channels(bias - mean_of_all * scale)
        return out.to(x.dtype), mean_of_all, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        gradient = gradients[0].to(weight.dtype)
        standard = (x.to(weight.dtype) - _of_channels(mean)) * _of_channels(inverse)
        bias_gradient = gradient.sum(dim=(0, 2, 3))
        weight_gradient = (gradient * standard).sum(dim=(0, 2, 3))
        sums = all_reduce_sum(torch.stack([bias_gradient, weight_gradient]))
        means = sums * (x.shape[1] / x.numel() / num_processes())
        gradient = gradient - _of_channels(means[0]) - standard * _of_channels(means[1])
        x_gradient = (gradient * _of_channels(weight * inverse)).to(x.dtype)
        return x_gradient, weight_gradient, bias_gradient, None


def _of_channels(values: Tensor) -> Tensor:
    """(C,) -> (1,C,1,1)."""
    return values[None, :, None, None]
