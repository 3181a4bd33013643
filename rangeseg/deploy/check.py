"""Whether an exported file gives what the network gives in PyTorch, in float32."""

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
"""Shares of the pixels with a point that must have the same class."""

LARGEST_DIFFERENCE = 1e-3
"""Between logits, as a share of the largest one; float16 has but 3 digits and is not held to it."""

_SMALLEST = -80.0
"""The log of a probability that float32 can hold: an averaged pair's logits may be infinite."""


class Agreement(NamedTuple):
    """How well a file and PyTorch agree where pixels have points.

    Attributes:
        labels: share of these pixels with the same class.
        logits: the largest difference, as a share of the largest logit.
        scans: how many were compared.
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
        content: of the ONNX file.
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
        # Where float16 overflows, logits are no numbers, which no maximum notices.
        apart = np.nan_to_num(np.abs(found - expected), nan=np.inf)
        difference = max(difference, float(apart.max(initial=0.0)))
        largest = max(largest, float(np.abs(expected).max(initial=0.0)))
    if not pixels:
        raise DataError(f"none of {len(scans)} scans has a point in its image to compare labels of")
    return Agreement(same / pixels, difference / max(largest, 1e-30), len(scans))


def _of_points(logits: np.ndarray, scans: Sequence[Prepared]) -> np.ndarray:
    """Logits (B,K,H,W) of all pixels -> (P,K) of those with a point."""
    valid = np.stack([scan.projection.valid for scan in scans])
    found: np.ndarray = np.maximum(np.moveaxis(logits, 1, -1)[valid], _SMALLEST)
    return found


def require(agreement: Agreement, half: bool) -> None:
    """Raise where a file does not agree well enough to be kept.

    Raises:
        DataError: the message holds the figures.
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
