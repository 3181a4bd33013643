"""FRNet: a network in which points and pixels exchange features."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from rangeseg.models.blocks import (
    AzimuthConv,
    conv3x3,
    full_resolution,
    residual_stages,
    upsample_azimuth,
)
from rangeseg.models.network import Network
from rangeseg.models.points import (
    PointFusion,
    PointLayer,
    add_pixels,
    by_layer,
    count_batch,
    counting,
    largest_of_frustums,
    moments_of,
)

FRUSTUM_CHANNELS = 16
"""Channels of a pixel before the stem, for any width."""


class FRNet(Network):
    """FRNet: it classifies points, so back-projection loses no class.

    An encoder lifts every point. The maximum over the points of a pixel, its frustum, is the input
    of a residual network. After the stem and each of four stages, points read their pixels, and
    pixels their points. Both are fused over all stages, and a head classifies each point. In
    training, the four stages also predict the classes of pixels.

    Args:
        in_channels: channels C of the range image.
        num_classes: classes K (ignore has no logit).
        width: channels of each stage; 128 is the paper's, with 10.0 M parameters.
        full_turn: whether the first and the last column of an image are neighbours.
        align_corners: align corners in interpolation.
        layers: k points per pixel.

    Reference:
        Xu et al. 2025, "FRNet: Frustum-Range Networks for Scalable LiDAR Segmentation", Sec. III.
        Departures:

        1. Points. Official: lists of all points of a frustum. Ours: the k nearest per pixel.
           Why: dense tensors need no scatter, and every method mixes them like pixels.
        2. Inputs. Official: x, y, z, intensity, range, and the offset of x, y, z to the frustum's
           mean. Ours: the channels of the image, and the offset of each. Why: any channels work.
        3. Auxiliary heads. Official: of the fused map and stages 2 to 4, with the majority's label
           of a frustum. Ours: of stages 1 to 4, with the nearest point's. Why: heads read what
           the encoder returns, and the labels are there.
        4. Losses. Official: cross-entropy of points; Lovász-softmax (1.5) and boundary terms on
           the auxiliary heads alone. Ours: set by ``train.lovasz_weight``, ``boundary_weight`` and
           ``terms_on``, by default neither. Why: one supervised loss for every network.
        5. Edges. Official: zeros, aligned corners. Ours: see CENet; ``model.padding`` and
           ``model.align_corners`` are the official ones.
    """

    heads = ("classifier", "auxiliary_classifiers")
    first_layer = "first"
    casts_input = True

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        width: int = 128,
        full_turn: bool = True,
        align_corners: bool = False,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.full_turn, self.align_corners, self.layers = full_turn, align_corners, layers
        half, double = width // 2, 2 * width
        # Presence; the encoder's points; points and pixels of stem and stages.
        self.feature_channels = (1, half, width, double, *(width,) * 10)
        self.embedding_channels = half
        self.first = _First(2 * in_channels, half)
        self.encoder = nn.ModuleList([PointLayer(half, width), PointLayer(width, double)])
        self.frustums = nn.Conv2d(double, double, kernel_size=1)
        self.compression = nn.Sequential(
            nn.Conv2d(double, FRUSTUM_CHANNELS, kernel_size=1), nn.ReLU()
        )
        stem = nn.Sequential(
            conv3x3(FRUSTUM_CHANNELS, half, full_turn),
            conv3x3(half, width, full_turn),
            conv3x3(width, width, full_turn),
        )
        self.stem = _Fusion(stem, double, width, 1, full_turn)
        stages = residual_stages(width, width, nn.Hardswish, full_turn)
        self.stages = nn.ModuleList(
            _Stage(stage, width, width, stride, full_turn)
            for stage, stride in zip(stages, (1, 2, 4, 8), strict=True)
        )
        fused = (5 * width, double, width)
        self.neck = nn.Sequential(*(conv3x3(a, b, full_turn) for a, b in pairwise(fused)))
        self.point_neck = nn.ModuleList(PointLayer(a, b) for a, b in pairwise(fused))
        head = (width, width, double, width, half)
        self.head = nn.ModuleList(PointLayer(a, b) for a, b in pairwise(head))
        self.classifier = nn.Conv2d(half, num_classes, kernel_size=1)
        self.auxiliary_classifiers = nn.ModuleList(
            nn.Conv2d(width, num_classes, kernel_size=1) for _ in range(4)
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """Range image (B,C,k,H,W), or (B,C,H,W) of one layer -> features.

        Returns:
            The presence of points (B,1,kH,W), six features of points (B,channels,kH,W) and five of
            pixels (B,channels,H/s,W/s): see ``feature_channels``.
        """
        height = image.shape[-2]
        there = (image != 0).any(dim=1, keepdim=True)
        if self.layers > 1:  # a copy of the nearest point if empty
            image = torch.where(there, image, image[:, :, :1])
        image, presence = image.flatten(2, -2), there.flatten(2, -2).float()
        lifted = [self.run_part(self.first, _with_offsets(image, presence, height), presence)]
        for layer in self.encoder:
            lifted.append(self.run_part(layer, lifted[-1], presence))
        points = self.frustums(lifted[-1])
        pixels = self.compression(largest_of_frustums(points, presence, height))
        all_points, all_pixels = [], []
        for stage in (self.stem, *self.stages):
            points, pixels = self.run_part(stage, points, pixels, presence)
            all_points.append(points)
            all_pixels.append(pixels)
        return [presence, *lifted, *all_points, *all_pixels]

    def disturbed(
        self, features: list[Tensor], disturb: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Disturb each feature but the presence."""
        return [features[0], *(disturb(feature) for feature in features[1:])]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of ``encode`` -> embedding (B,embedding_channels,kH,W)."""
        embedding: Tensor = self.run_part(self._decode, *features)
        return embedding

    def _decode(self, presence: Tensor, *features: Tensor) -> Tensor:
        lifted, points, pixels = features[:3], features[3:8], features[8:]
        fused = self.neck(full_resolution(pixels, self.full_turn, self.align_corners))
        own = torch.cat(points, dim=1)
        for layer in self.point_neck:
            own = layer(own, presence)
        # The head's first layer reads only pixels, so it runs once per pixel, weighted by its
        # points.
        height = fused.shape[2]
        counts = by_layer(presence, height).sum(dim=2)
        embedding = add_pixels(own, self.head[0](fused, counts))
        for layer, shallow in zip(self.head[1:], reversed(lifted), strict=True):
            embedding = layer(embedding, presence) + shallow
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding -> logits (B,K,k,H,W), or (B,K,H,W) of one layer."""
        logits: Tensor = self.classifier(embedding)
        return logits if self.layers == 1 else by_layer(logits, logits.shape[2] // self.layers)

    def auxiliary(self, features: list[Tensor]) -> list[Tensor]:
        """Features of ``encode`` -> logits (B,K,H,W) of pixels, of stages 1 to 4."""
        pixels = features[-4:]
        height = pixels[0].shape[2]
        return [
            upsample_azimuth(head(f), height // f.shape[2], self.full_turn, self.align_corners)
            for head, f in zip(self.auxiliary_classifiers, pixels, strict=True)
        ]


def _with_offsets(points: Tensor, presence: Tensor, height: int) -> Tensor:
    """Channels of points (B,C,kH,W), with their offsets to the frustum's mean: (B,2C,kH,W)."""
    total, count = (by_layer(x, height).sum(dim=2) for x in (points * presence, presence))
    return torch.cat([points, add_pixels(points, -total / count.clamp(min=1.0))], dim=1)


class _First(nn.Module):
    """A batch norm of the inputs, then a ``PointLayer``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.layer = PointLayer(in_channels, out_channels)

    def forward(self, points: Tensor, presence: Tensor) -> Tensor:
        """Points (B,Cin,kH,W) float32 -> (B,Cout,kH,W)."""
        norm = self.norm
        if counting(norm):
            with torch.autocast(points.device.type, enabled=False):
                moments = moments_of(points, presence)
                mean, var = moments.mean, moments.covariance.diagonal()
                count_batch(norm, mean, var, moments.total)
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, var = norm.running_mean, norm.running_var
        # Always in float32: lower precision would lose the offsets of points.
        scale = norm.weight.float() * torch.rsqrt(var.float() + norm.eps)
        shift = norm.bias.float() - mean.float() * scale
        normalised = points * scale[:, None, None] + shift[:, None, None]
        out: Tensor = self.layer(normalised.to(norm.weight.dtype), presence)
        return out


class _Fusion(nn.Module):
    """A part of the residual network, followed by an exchange between points and pixels."""

    def __init__(
        self, part: nn.Module, of_points: int, width: int, stride: int, full_turn: bool
    ) -> None:
        super().__init__()
        self.part, self.stride = part, stride
        self.to_points = PointFusion(width, of_points, width)
        self.to_pixels = conv3x3(2 * width, width, full_turn)

    def forward(self, points: Tensor, pixels: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B,of_points,kH,W), pixels, presence -> (B,width,kH,W), (B,width,H/s,W/s)."""
        pixels = self.part(pixels)
        points = self.to_points(pixels, points, presence)
        height = self.stride * pixels.shape[2]
        largest = largest_of_frustums(points, presence, height, self.stride)
        return points, self.fuse(pixels, self.to_pixels(torch.cat([largest, pixels], dim=1)))

    def fuse(self, pixels: Tensor, fused: Tensor) -> Tensor:
        """Combine pixels and their fusion with points for the next part."""
        return fused


class _Stage(_Fusion):
    """A stage that adds the fusion to its pixels, weighted by attention."""

    def __init__(
        self, part: nn.Module, of_points: int, width: int, stride: int, full_turn: bool
    ) -> None:
        super().__init__(part, of_points, width, stride, full_turn)
        self.attention = nn.Sequential(
            conv3x3(width, width, full_turn),
            AzimuthConv(width, width, full_turn=full_turn),
            nn.BatchNorm2d(width),
            nn.Sigmoid(),
        )

    def fuse(self, pixels: Tensor, fused: Tensor) -> Tensor:
        """See ``_Fusion.fuse``."""
        gated: Tensor = fused * self.attention(fused) + pixels
        return gated
