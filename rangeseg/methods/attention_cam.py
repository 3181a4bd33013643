"""Self-attention Grad-CAM: a coarse segmentation from a classifier of windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.datasets.labels import IGNORE
from rangeseg.models.blocks import upsample_azimuth

ATTENTION_CHANNELS = 128


class AttentionCam(nn.Module):
    """Class activation maps of the deepest features, spread by self-attention.

    A linear classifier predicts the classes of a window of azimuth from the window's mean feature.
    For a mean, Grad-CAM is the classifier applied to each feature, up to scale, so no gradient is
    needed. The attention learns from segmentation, but its gradient never reaches the features.
    It runs at the deepest stage's size: 8x256 for an image of 64x2048.

    Args:
        channels: channels of the attention's features, the deepest last.
        num_classes: K.
        windows: number of windows of azimuth; fewer if it does not divide the columns.
        full_turn: whether the first and the last column of an image are neighbours.
    """

    def __init__(
        self, channels: tuple[int, ...], num_classes: int, windows: int, full_turn: bool = True
    ) -> None:
        super().__init__()
        self.full_turn = full_turn
        self.windows = windows
        self.classifier = nn.Conv2d(channels[-1], num_classes, kernel_size=1)
        self.query = nn.Conv2d(sum(channels), ATTENTION_CHANNELS, kernel_size=1, bias=False)
        self.key = nn.Conv2d(sum(channels), ATTENTION_CHANNELS, kernel_size=1, bias=False)
        self.output = nn.Sequential(
            nn.Conv2d(num_classes, num_classes, kernel_size=1, bias=False),
            nn.BatchNorm2d(num_classes),
        )

    def scores(self, deepest: Tensor, valid: Tensor) -> Tensor:
        """Logits (B,K,n) for the presence of a class in each of n windows.

        Args:
            deepest: (B,D,h,w).
            valid: (B,H,W) bool.
        """
        weight = _tokens(valid, deepest)[:, None].float()
        total = self._by_window(deepest.float() * weight).sum(dim=(2, 4))
        mean = total / self._by_window(weight).sum(dim=(2, 4)).clamp(min=1.0)
        scores: Tensor = self.classifier(mean[:, :, None])  # a window is a pixel: (B, D, 1, n)
        return scores[:, :, 0].float()

    def truth(self, labels: Tensor, valid: Tensor, num_windows: int) -> tuple[Tensor, Tensor]:
        """The classes of each window, and whether a window has any label.

        Args:
            labels: (B,H,W) or (B,k,H,W) train ids; IGNORE does not count.
            valid: likewise, bool.
            num_windows: n.

        Returns:
            (B,K,n) bool and (B,n) bool.
        """
        num_classes = self.classifier.out_channels
        labels, valid = labels.flatten(1, -2), valid.flatten(1, -2)  # stack layers vertically
        counts = valid & (labels != IGNORE)
        nothing = num_classes  # one more class for pixels that do not count
        classes = torch.where(counts, labels, nothing).long()
        batch, height, _ = classes.shape
        classes = classes.reshape(batch, height, num_windows, -1).transpose(1, 2).flatten(2)
        shape = (*classes.shape[:2], num_classes + 1)
        present = torch.zeros(shape, dtype=torch.bool, device=labels.device)
        present = present.scatter(2, classes, value=True)[..., :num_classes]
        return present.transpose(1, 2), present.any(dim=2)

    def activation(self, deepest: Tensor, present: Tensor, valid: Tensor) -> Tensor:
        """Class activation maps (B,K,h,w) in [0,1], zero outside the windows of a class.

        Args:
            deepest: (B,D,h,w).
            present: (B,K,n) bool.
            valid: (B,H,W) bool.
        """
        weight = self.classifier.weight.to(deepest.dtype)
        cam = F.relu(F.conv2d(deepest, weight)).float()
        cam = cam * self.spread(present, cam.shape[3]) * _tokens(valid, deepest)[:, None]
        return cam / cam.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)

    def forward(self, features: list[Tensor], present: Tensor, valid: Tensor) -> Tensor:
        """Logits (B,K,H,W) of the coarse segmentation.

        Args:
            features: each (B,channels,h',w'), the deepest last; no gradient reaches them.
            present: (B,K,n) bool, whether a class is in a window.
            valid: (B,H,W) bool.
        """
        features = [feature.detach() for feature in features]
        deepest = features[-1]
        with torch.no_grad():
            cam = self.activation(deepest, present, valid)
        size = (cam.shape[2], cam.shape[3])
        hypercolumn = torch.cat([F.adaptive_avg_pool2d(f, size) for f in features], dim=1)
        query, key = (_sequence(part(hypercolumn)) for part in (self.query, self.key))
        tokens = _tokens(valid, deepest).flatten(1)
        # A scan without valid pixels attends to everything: a softmax over nothing may be NaN.
        attended = tokens | ~tokens.any(dim=1, keepdim=True)
        spread = F.scaled_dot_product_attention(
            query, key, _sequence(cam).to(query.dtype), attn_mask=attended[:, None, None]
        )
        spread = spread[:, 0].transpose(1, 2).reshape(cam.shape)
        logits = self.output(spread.float() + cam)
        return upsample_azimuth(logits.float(), valid.shape[1] // size[0], self.full_turn)

    def spread(self, windows: Tensor, columns: int) -> Tensor:
        """Repeat values of windows at every column: (B,K,n) -> (B,K,1,columns)."""
        return windows.repeat_interleave(columns // windows.shape[2], dim=2)[:, :, None]

    def _by_window(self, x: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C,h,n,w/n)."""
        return x.reshape(*x.shape[:3], math.gcd(self.windows, x.shape[3]), -1)


def _tokens(valid: Tensor, features: Tensor) -> Tensor:
    """Whether each feature covers a valid pixel: (B,H,W) -> (B,h,w) bool."""
    size = (features.shape[2], features.shape[3])
    return F.adaptive_max_pool2d(valid[:, None].float(), size)[:, 0] > 0


def _sequence(x: Tensor) -> Tensor:
    """(B,C,h,w) -> (B,1,h·w,C), one attention head."""
    return x.flatten(2).transpose(1, 2)[:, None]
