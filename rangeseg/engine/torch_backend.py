"""PyTorch as what runs a network in inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from rangeseg.engine.inference import PixelClasses
from rangeseg.models.prediction import folded, lower_precision, without_padding
from rangeseg.system.device import Precision, channels_last, device_name, resolved, to_device


class TorchBackend:
    """Runs a copy of a network that is made for prediction; see ``inference.Backend``.

    The network itself may go on learning: the copy does not follow.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W).
        device: where the copy runs.
        precision: of the forward.
    """

    name = "torch"

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision) -> None:
        network = folded(network)
        if device.type == "cpu":
            network = without_padding(network)
        if resolved(precision, device) == "bfloat16":
            network = lower_precision(network, torch.bfloat16)
        self.network = to_device(network, device)
        self.device, self._device = device_name(device), device

    @torch.inference_mode()
    def classify(self, images: Sequence[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        """Classes of the pixels of several images; on a GPU they arrive while the caller goes on.

        Args:
            images: B arrays (C,H,W) float32.
            with_confidence: whether probabilities are wanted too.
        """
        on_gpu = self._device.type == "cuda"
        batch = torch.empty((len(images), *images[0].shape), pin_memory=on_gpu)
        np.stack(images, out=batch.numpy())
        batch = batch.to(self._device, memory_format=channels_last(batch), non_blocking=True)
        logits = self.network(batch)
        confidences: list[np.ndarray | None] = [None] * len(images)
        if with_confidence:
            # The classes are those of the logits: rounded probabilities tie more often.
            largest, classes = logits.max(dim=1)
            # What adds less than 1e-21 is raised to that: an exponential that underflows is slow.
            behind = (logits - largest.unsqueeze(1)).clamp_(min=-50.0)
            confidence = behind.exp_().sum(dim=1).reciprocal_()
            confidences = list(confidence.to("cpu", non_blocking=True).numpy())  # (B, H, W)
        else:
            classes = logits.argmax(dim=1)
        # One byte a pixel is copied instead of eight, or of K floats.
        classes = classes.to(torch.uint8).to("cpu", non_blocking=True)  # (B, H, W)
        wait: Callable[[], object] | None = None
        if on_gpu:
            arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            arrival.record(torch.cuda.current_stream(self._device))
            wait = arrival.synchronize
        return [
            PixelClasses(of_pixels, confidence, wait)
            for of_pixels, confidence in zip(classes.numpy(), confidences, strict=True)
        ]
