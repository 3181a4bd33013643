"""PyTorch as an inference backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from rangeseg.engine.inference import PixelClasses
from rangeseg.models.prediction import folded, lower_precision, without_padding
from rangeseg.system.device import Precision, channels_last, device_name, resolved, to_device


class TorchBackend:
    """Runs a copy of a network, prepared for prediction; see ``inference.Backend``.

    The network may train on; the copy does not change.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W).
        device: device of the copy.
        precision: precision of the forward.
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
        """Classify the pixels of several images; a GPU copies results while the caller continues.

        Args:
            images: B arrays (C,H,W) float32.
            with_confidence: also return probabilities.
        """
        on_gpu = self._device.type == "cuda"
        batch = torch.empty((len(images), *images[0].shape), pin_memory=on_gpu)
        np.stack(images, out=batch.numpy())
        batch = batch.to(self._device, memory_format=channels_last(batch), non_blocking=True)
        logits = self.network(batch)
        confidences: list[np.ndarray | None] = [None] * len(images)
        if with_confidence:
            # Take classes from logits: rounded probabilities tie more often.
            largest, classes = logits.max(dim=1)
            # Clamp terms below 1e-21: an underflowing exponential is slow.
            behind = (logits - largest.unsqueeze(1)).clamp_(min=-50.0)
            confidence = behind.exp_().sum(dim=1).reciprocal_()
            confidences = list(confidence.to("cpu", non_blocking=True).numpy())  # (B, H, W)
        else:
            classes = logits.argmax(dim=1)
        # Copy one byte per pixel instead of eight, or of K floats.
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
