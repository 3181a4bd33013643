"""CENet: a range-view network with 3x3 convolutions and auxiliary heads."""

from __future__ import annotations

from torch import Tensor, nn

from rangeseg.models.blocks import conv3x3, residual_stages, upsample_azimuth
from rangeseg.models.network import StagedNetwork


class CENet(StagedNetwork):
    """CENet: 3x3 convolutions where FIDNet has 1x1, Hardswish, and auxiliary heads.

    The stem sees a pixel's neighbours. The residual stages are FIDNet's. Two 3x3 convolutions read
    the stem and all stages at full resolution. In training, stages 2 to 4 also predict classes.

    Args:
        in_channels: channels of the range image.
        num_classes: classes K (ignore has no logit).
        width: channels of each stage; 128 is the paper's, with 6.77 M parameters.
        full_turn: whether the first and the last column of an image are neighbours.
        align_corners: align corners in interpolation.

    Reference:
        Cheng, Han and Xiao 2022, "CENet: Toward Concise and Efficient LiDAR Semantic Segmentation
        for Autonomous Driving", Sec. 3. Departures:

        1. Every padding and interpolation wraps along azimuth if the image is a full turn.
           Interpolation aligns pixel areas instead of corners. So rolling the scan by a multiple
           of 8 columns rolls the logits. ``model.padding: zeros`` and ``model.align_corners: true``
           are the official ones.
        2. An auxiliary head classifies its stage before the interpolation: the same result for
           less work.
    """

    heads = ("classifier", "auxiliary_classifiers")

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
        self.feature_channels = (width,) * 5
        self.embedding_channels = width
        self.stem = nn.Sequential(
            conv3x3(in_channels, width // 2, full_turn),
            conv3x3(width // 2, width, full_turn),
            conv3x3(width, width, full_turn),
        )
        self.stages = residual_stages(width, width, nn.Hardswish, full_turn)
        self.decoder = nn.Sequential(
            conv3x3(5 * width, 2 * width, full_turn), conv3x3(2 * width, width, full_turn)
        )
        self.classifier = nn.Conv2d(width, num_classes, kernel_size=1)
        self.auxiliary_classifiers = nn.ModuleList(
            nn.Conv2d(width, num_classes, kernel_size=1) for _ in range(3)
        )

    def auxiliary(self, features: list[Tensor]) -> list[Tensor]:
        """Features of ``encode`` -> logits (B,K,H,W) of stages 2, 3 and 4, one by one."""
        height = features[0].shape[2]
        return [
            upsample_azimuth(head(f), height // f.shape[2], self.full_turn, self.align_corners)
            for head, f in zip(self.auxiliary_classifiers, features[2:], strict=True)
        ]
