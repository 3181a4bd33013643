"""The interface of networks for the methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rangeseg.models.blocks import full_resolution


class Network(nn.Module, ABC):
    """A network in three parts, so that a method can work between them.

    Attributes:
        feature_channels: channels of each of ``encode``'s features, shallow to deep.
        embedding_channels: channels of ``decode``'s embedding.
        heads: names of the classifying modules.
        classifier: maps the embedding to logits.
        first_layer: name of the module that reads the channels.
        casts_input: whether the network needs the image in float32 even at lower precision.
        activation_checkpointing: in training, keep only the activations between large parts and
            recompute the others in the backward. Less memory, more time, equal gradients.
    """

    feature_channels: tuple[int, ...]
    embedding_channels: int
    classifier: nn.Module
    casts_input = False
    heads: tuple[str, ...] = ("classifier",)
    first_layer = "stem.0"
    activation_checkpointing = False

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> features (B,channels,H/s,W/s), the first at full resolution.

        For an image of k layers (B,C,k,H,W) features may also belong to points, (B,channels,kH,W).
        """

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of ``encode`` -> embedding (B,embedding_channels,H,W), or (...,kH,W)."""

    @abstractmethod
    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding -> logits (B,K,H,W), or (B,K,k,H,W)."""

    def disturbed(
        self, features: list[Tensor], disturb: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """Disturb each feature of ``encode`` by the same function."""
        return [disturb(feature) for feature in features]

    def auxiliary(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (B,K,H,W) of auxiliary heads, for training only; none unless overridden."""
        return []

    def forward(self, image: Tensor) -> Tensor:
        """Range image (B,C,H,W) -> logits (B,K,H,W)."""
        return self.classify(self.decode(self.encode(image)))

    def run_part(self, part: Callable[..., Any], *inputs: Tensor) -> Any:
        """Run a large part of the network, see ``activation_checkpointing``."""
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return part(*inputs)
        return checkpoint(
            part,
            *inputs,
            use_reentrant=False,
            preserve_rng_state=False,  # a network draws no random numbers
            context_fn=lambda: (nullcontext(), self._second_time()),
        )

    @contextmanager
    def _second_time(self) -> Iterator[None]:
        """Keep the running statistics: the first forward has counted this batch."""
        norms = [m for m in self.modules() if isinstance(m, _BatchNorm)]
        before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            assert norm.num_batches_tracked is not None
            norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
        try:
            yield
        finally:
            for norm, (momentum, batches) in zip(norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, batches


class StagedNetwork(Network):
    """A stem, stages in sequence, and a decoder that reads all of them at full resolution.

    Attributes:
        full_turn: whether the first and the last column of an image are neighbours.
        align_corners: align corners in interpolation.
    """

    full_turn: bool
    align_corners: bool
    stem: nn.Module
    stages: nn.ModuleList
    decoder: nn.Module

    def encode(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> features of the stem and of every stage, (B,channels,H/s,W/s)."""
        features = [self.run_part(self.stem, image)]
        for stage in self.stages:
            features.append(self.run_part(stage, features[-1]))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of ``encode`` -> embedding (B,embedding_channels,H,W)."""
        embedding: Tensor = self.run_part(self._decode, *features)
        return embedding

    def _decode(self, *features: Tensor) -> Tensor:
        maps = full_resolution(features, self.full_turn, self.align_corners)
        embedding: Tensor = self.decoder(maps)
        return embedding

    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding (B,embedding_channels,H,W) -> logits (B,K,H,W)."""
        logits: Tensor = self.classifier(embedding)
        return logits
