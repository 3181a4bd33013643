"""Batch norms: synchronisation over processes, and precise statistics after the last step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rangeseg.datasets.bad_scans import BadScan, BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.range_images import RangeImages
from rangeseg.engine.inference import prepare
from rangeseg.system.device import Precision, autocast, channels_last
from rangeseg.system.distributed import all_reduce_sum, world_size
from rangeseg.system.progress import Progress


def synchronise_batch_norms(method: nn.Module, device: torch.device) -> None:
    """Share batch statistics between all processes; with one process change nothing.

    On GPUs the layers become PyTorch's ``SyncBatchNorm``, which has no CPU version. Checkpoints
    stay the same.

    Args:
        method: method whose batch norms are replaced in place.
        device: device of the training.
    """
    if world_size() == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
        return
    for module in method.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm


class SyncedBatchNorm(nn.BatchNorm2d):
    """A batch norm over all processes, on any device. All need the same number of pixels."""

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
            count = world_size() * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        out: Tensor = normalised
        return out


class _Normalise(torch.autograd.Function):
    """Compute (x - mean) / deviation · weight + bias, with statistics over all processes.

    The losses of all processes depend on every process's pixels, so backward sums over them too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x.to(weight.dtype), dim=(0, 2, 3), unbiased=False)
        # Two rounds, because the mean of squares minus the squared mean would cancel.
        mean_of_all = all_reduce_sum(mean.clone()) / world_size()
        variance = all_reduce_sum(variance + (mean - mean_of_all).square()) / world_size()
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
        means = sums * (x.shape[1] / x.numel() / world_size())
        gradient = gradient - _of_channels(means[0]) - standard * _of_channels(means[1])
        x_gradient = (gradient * _of_channels(weight * inverse)).to(x.dtype)
        return x_gradient, weight_gradient, bias_gradient, None


def _of_channels(values: Tensor) -> Tensor:
    """(C,) -> (1,C,1,1)."""
    return values[None, :, None, None]


BATCH = 2
"""Batch size in scans, independent of training, so that memory suffices."""


@torch.no_grad()
def renew_statistics(
    network: nn.Module,
    device: torch.device,
    precision: Precision,
    images: RangeImages,
    source: ScanSource,
    scan_ids: Sequence[str],
    bad_scans: BadScans,
) -> None:
    """Replace the running means and variances of a trained network's batch norms.

    Training leaves averages over cropped, perturbed and mixed scans. Evaluation uses whole,
    unperturbed scans, so each layer gets the mean of their batch statistics. Every process computes
    all scans, so all get the same statistics.

    Args:
        network: network on the device; keeps its weights, and is left in eval mode.
        device: device of the network.
        precision: precision of the forward.
        images: makes its range images.
        source: the data set.
        scan_ids: ids of the scans; their labels are not read.
        bad_scans: policy for unreadable scans.

    Raises:
        DataError: a scan cannot be read and may not be skipped.

    Reference:
        Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", Sec. 3 (PreciseBN).
    """
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    running = [r for m in layers for r in (m.running_mean, m.running_var) if r is not None]
    sums = [torch.zeros_like(r) for r in running]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0  # keep the statistics of one batch only
    batches = 0
    with Progress("batch norms", len(scan_ids), "scan") as progress:
        for start in range(0, len(scan_ids), BATCH):
            batch: list[np.ndarray] = []
            for scan_id in scan_ids[start : start + BATCH]:
                scan = prepare(images, source, False, scan_id)
                if isinstance(scan, BadScan):
                    bad_scans.add(scan_id, scan.error)
                else:
                    batch.append(scan.image)
                progress.update()
            if not batch:
                continue
            seen = torch.from_numpy(np.stack(batch))
            with autocast(device, precision):
                network(seen.to(device, memory_format=channels_last(seen)))
            batches += 1
            for total, of_batch in zip(sums, running, strict=True):
                total += of_batch
    for total, mean in zip(sums, running, strict=True):
        if batches:
            mean.copy_(total / batches)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
