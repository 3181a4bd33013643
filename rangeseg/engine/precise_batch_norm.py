"""Batch norms with the statistics of whole scans, once the weights are final."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.training_scans import BadScan
from rangeseg.engine.device import autocast
from rangeseg.engine.inference import Predictor
from rangeseg.progress import Progress

BATCH = 2
"""Scans at once, however many a training takes: it must not run out of memory at its very end."""


@torch.no_grad()
def renew_statistics(
    predictor: Predictor,
    source: ScanSource,
    scan_ids: Sequence[str],
    bad_scans: BadScans,
) -> None:
    """Replace the running means and variances of a trained network's batch norms.

    Training leaves averages over its last few steps: of few scans, perturbed and mixed, cropped to
    one window a step. What is evaluated is whole and undisturbed. Here each layer gets the mean,
    over batches of such scans, of what it would have normalised by. Every process takes all scans,
    so that all end with the same.

    Args:
        predictor: around the network, whose weights stay.
        source: the data set.
        scan_ids: which scans; their labels are not read.
        bad_scans: what is done about scans that cannot be read.

    Raises:
        DataError: a scan cannot be read and is not to be skipped.

    Reference:
        Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", Sec. 3 (PreciseBN).
    """
    network, device = predictor.network, predictor.device
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    running = [r for m in layers for r in (m.running_mean, m.running_var) if r is not None]
    sums = [torch.zeros_like(r) for r in running]
    for layer in layers:
        layer.train()
        layer.momentum = 1.0  # one batch, and nothing of those before
    batches = 0
    with Progress("batch norms", len(scan_ids), "scan") as progress:
        for start in range(0, len(scan_ids), BATCH):
            images = []
            for scan_id in scan_ids[start : start + BATCH]:
                scan = predictor.prepare(source, False, scan_id)
                if isinstance(scan, BadScan):
                    bad_scans.add(scan_id, scan.error)
                else:
                    images.append(scan.image)
                progress.update()
            if not images:
                continue
            batch = torch.from_numpy(np.stack(images))
            with autocast(device, predictor.precision):
                network(batch.to(device, memory_format=torch.channels_last))
            batches += 1
            for total, of_batch in zip(sums, running, strict=True):
                total += of_batch
    for total, mean in zip(sums, running, strict=True):
        if batches:
            mean.copy_(total / batches)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
