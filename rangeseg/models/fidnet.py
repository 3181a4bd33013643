"""FIDNet, the range-view network of the published semi-supervised tables."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from rangeseg.models.blocks import BasicBlock, conv1x1, upsample_azimuth

BLOCKS = (3, 4, 6, 3)
"""Residual blocks of each stage, as in ResNet-34."""


class FIDNet(nn.Module):
    """FIDNet ResNet34-point.

    A stem of 1x1 convolutions lifts every pixel like a point; four residual stages see its
    neighbourhood; the decoder has no parameters but two 1x1 convolutions: it enlarges the stages
    bilinearly and concatenates them.

    Args:
        in_channels: channels of the range image.
        num_classes: classes K (ignore has no logit).
        width: channels of each stage; 128 is the paper's, with 6.05 M parameters.

    Attributes:
        feature_channels: channels of each of ``encode``'s features, shallow to deep.
        embedding_channels: channels of ``decode``'s embedding.

    Reference:
        Zhao et al. 2021, "FIDNet: LiDAR Point Cloud Semantic Segmentation with Fully
        Interpolation Decoding", Sec. III. Departures: every padding and interpolation wraps along
        azimuth, and interpolation aligns pixel areas instead of corners, so that rolling the scan
        by a multiple of 8 columns rolls the logits.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int = 128) -> None:
        super().__init__()
        self.feature_channels = (4 * width, *(width for _ in BLOCKS))
        self.embedding_channels = width
        lift = (in_channels, width // 2, width, 2 * width, 4 * width)
        self.stem = nn.Sequential(*(conv1x1(a, b, bias=True) for a, b in pairwise(lift)))
        stages = []
        channels = lift[-1]
        for index, blocks in enumerate(BLOCKS):
            layers = []
            for block in range(blocks):
                stride = 2 if index > 0 and block == 0 else 1
                layers.append(BasicBlock(channels, width, stride))
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.decoder = nn.Sequential(
            conv1x1(8 * width, 4 * width, bias=False), conv1x1(4 * width, width, bias=False)
        )
        self.classifier = nn.Conv2d(width, num_classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def encode(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> stem (B,4w,H,W) and four stages (B,w,H/s,W/s), s = 1, 2, 4, 8."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of ``encode`` -> embedding (B,w,H,W)."""
        height = features[0].shape[2]
        full = [upsample_azimuth(f, height // f.shape[2]) for f in features]
        embedding: Tensor = self.decoder(torch.cat(full, dim=1))
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding (B,w,H,W) -> logits (B,K,H,W)."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        """Range image (B,C,H,W) -> logits (B,K,H,W)."""
        return self.classify(self.decode(self.encode(image)))
