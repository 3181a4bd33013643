"""FIDNet, the range-view network of the published semi-supervised tables."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from rangeseg.models.blocks import conv1x1, leaky_relu, residual_stages
from rangeseg.models.network import StagedNetwork


class FIDNet(StagedNetwork):
    """FIDNet ResNet34-point.

    A stem of 1x1 convolutions lifts every pixel like a point. Four residual stages see its
    neighbourhood. The decoder enlarges the stages bilinearly and concatenates them; its only
    parameters are two 1x1 convolutions.

    Args:
        in_channels: channels of the range image.
        num_classes: classes K (ignore has no logit).
        width: channels of each stage; 128 is the paper's, with 6.05 M parameters.
        full_turn: whether the first and the last column of an image are neighbours.
        align_corners: align corners in interpolation.

    Reference:
        Zhao et al. 2021, "FIDNet: LiDAR Point Cloud Semantic Segmentation with Fully
        Interpolation Decoding", Sec. III. Departures: every padding and interpolation wraps along
        azimuth if the image is a full turn; interpolation aligns pixel areas instead of corners.
        So rolling the scan by a multiple of 8 columns rolls the logits. ``model.padding: zeros``
        and ``model.align_corners: true`` are the official ones.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        width: int = 128,
        full_turn: bool = True,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.full_turn, self.align_corners = full_turn, align_corners
        self.feature_channels = (4 * width, width, width, width, width)
        self.embedding_channels = width
        lift = (in_channels, width // 2, width, 2 * width, 4 * width)
        self.stem = nn.Sequential(*(conv1x1(a, b, bias=True) for a, b in pairwise(lift)))
        self.stages = residual_stages(4 * width, width, leaky_relu, full_turn)
        self.decoder = nn.Sequential(
            conv1x1(8 * width, 4 * width, bias=False), conv1x1(4 * width, width, bias=False)
        )
        self.classifier = nn.Conv2d(width, num_classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
