"""Compare an exported file with its network in PyTorch, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from rangeseg.deploy.backends import OnnxRuntime
from rangeseg.engine.inference import Prepared
from rangeseg.errors import DataError

LEAST_LABELS = 0.999
LEAST_LABELS_HALF = 0.99
"""Least shares of pixels with a point that have the same class."""

LARGEST_DIFFERENCE = 1e-3
"""Of logits, as a share of the largest one; not required of float16, with only 3 digits."""

_SMALLEST = -80.0
"""Least log-probability in float32: an averaged pair's logits may be infinite."""


class Agreement(NamedTuple):
    """Agreement of a file and PyTorch on pixels with points.

    Attributes:
        labels: share of pixels with the same class.
        logits: the largest difference, as a share of the largest logit.
        scans: number of compared scans.
    """

    labels: float
    logits: float
    scans: int

    def __str__(self) -> str:
        return (
            f"{100 * self.labels:.3f} % of the labels are those of float32 PyTorch, "
            f"logits differ by {self.logits:.1e} at most ({self.scans} scans)"
        )


def compare(content: bytes, network: nn.Module, scans: Sequence[Prepared]) -> Agreement:
    """Run scans through ONNX Runtime and PyTorch: the first two as a batch, the others alone.

    Args:
        content: content of the ONNX file.
        network: the PyTorch network of the file, in float32, on the CPU, in eval mode.
        scans: at least one with a point in its image.
    """
    backend = OnnxRuntime(content)
    same = pixels = 0
    difference = largest = 0.0
    for batch in filter(None, [scans[:2], *([scan] for scan in scans[2:])]):
        images = np.stack([scan.image for scan in batch])
        with torch.inference_mode():
            expected = _of_points(network(torch.from_numpy(images)).numpy(), batch)
        found = _of_points(backend.logits(images), batch)
        same += int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
        pixels += len(expected)
        # If float16 overflows, logits are NaN, which a maximum does not show.
        apart = np.nan_to_num(np.abs(found - expected), nan=np.inf)
        difference = max(difference, float(apart.max(initial=0.0)))
        largest = max(largest, float(np.abs(expected).max(initial=0.0)))
    if not pixels:
        raise DataError(f"none of {len(scans)} scans has a point in its image to compare labels of")
    return Agreement(same / pixels, difference / max(largest, 1e-30), len(scans))


def _of_points(logits: np.ndarray, scans: Sequence[Prepared]) -> np.ndarray:
    """Logits (B,K,H,W) of all pixels -> (P,K) of pixels with a point."""
    valid = np.stack([scan.projection.valid for scan in scans])
    found: np.ndarray = np.maximum(np.moveaxis(logits, 1, -1)[valid], _SMALLEST)
    return found


def require(agreement: Agreement, half: bool) -> None:
    """Raise if a file does not agree well enough to keep.

    Raises:
        DataError: it does not agree; the message holds the figures.
    """
    least = LEAST_LABELS_HALF if half else LEAST_LABELS
    sound = agreement.labels >= least and (half or agreement.logits <= LARGEST_DIFFERENCE)
    if sound:
        return
    needed = f"at least {100 * least:g} % of the labels"
    if not half:
        needed += f", and logits within {LARGEST_DIFFERENCE:g}"
    remedy = "export without --half" if half else "use the run itself, and report this as a bug"
    raise DataError(f"the file was not kept: {agreement}, needed are {needed}: {remedy}")
