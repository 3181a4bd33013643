"""Average a network's probabilities over several views of a scan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rangeseg.geometry.views import View


class Averaged(nn.Module):
    """Test-time augmentation: one network, several views, the mean of their probabilities.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W).
        views: the V views.
    """

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network, self.views = network, tuple(views)

    def forward(self, images: Tensor) -> Tensor:
        """(B,V*C,H,W), one view after the other -> log of the mean probability (B,K,H,W).

        With layers (B,V*C,k,H,W) -> (B,K,k,H,W).
        """
        probabilities = [
            _undone(self.network(image).float().softmax(dim=1), view)
            for image, view in zip(images.chunk(len(self.views), dim=1), self.views, strict=True)
        ]
        return torch.log(torch.stack(probabilities).mean(dim=0))


def averaged(network: nn.Module, views: Sequence[View]) -> nn.Module:
    """``Averaged``, or the network itself if the scan is the only view."""
    return Averaged(network, views) if len(views) > 1 else network


def _undone(pixels: Tensor, view: View) -> Tensor:
    """Undo a view: (B,K,...,H,W) of the view -> the same of the recorded scan."""
    pixels = torch.roll(pixels, view.columns, dims=-1)
    return pixels.flip(-1) if view.mirrored else pixels
