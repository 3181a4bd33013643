"""Range images through a network: to its device and back, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rangeseg.engine.device import Precision, autocast


@dataclass(frozen=True)
class PixelClasses:
    """What a network says of the pixels of one image, perhaps still under way from its device.

    Args:
        classes: (H,W) uint8 in the host's memory.
        confidence: (H,W) float32 probability of that class, or None.
        arrival: of both from a GPU; None where they are there.
    """

    classes: torch.Tensor
    confidence: torch.Tensor | None
    arrival: torch.cuda.Event | None

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Classes and confidence, waited for; in any thread."""
        if self.arrival is not None:
            self.arrival.synchronize()
        confidence = None if self.confidence is None else self.confidence.numpy()
        return self.classes.numpy(), confidence


@torch.inference_mode()
def classify(
    network: nn.Module,
    images: Sequence[np.ndarray],
    device: torch.device,
    precision: Precision,
    with_confidence: bool,
) -> list[PixelClasses]:
    """Classes of the pixels of several images at once.

    On a GPU this only gives the orders: the answer arrives while the caller goes on.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W); on the device.
        images: B arrays (C,H,W) float32.
        device: where the network runs.
        precision: of the forward.
        with_confidence: whether probabilities are wanted too.
    """
    on_gpu = device.type == "cuda"
    batch = torch.empty((len(images), *images[0].shape), pin_memory=on_gpu)
    np.stack(images, out=batch.numpy())
    batch = batch.to(device, memory_format=torch.channels_last, non_blocking=True)
    with autocast(device, precision):
        logits = network(batch)
    confidence = None
    if with_confidence:
        confidence, classes = logits.float().softmax(dim=1).max(dim=1)
        confidence = confidence.to("cpu", non_blocking=True)  # (B, H, W)
    else:
        classes = logits.argmax(dim=1)
    # One byte a pixel is copied instead of eight, or of K floats.
    classes = classes.to(torch.uint8).to("cpu", non_blocking=True)  # (B, H, W)
    arrival = None
    if on_gpu:
        arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        arrival.record(torch.cuda.current_stream(device))
    return [
        PixelClasses(classes[i], None if confidence is None else confidence[i], arrival)
        for i in range(len(images))
    ]
