"""What every network offers to the methods."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A network in three parts, so that a method can reach between them.

    Attributes:
        feature_channels: channels of each of ``encode``'s features, shallow to deep.
        embedding_channels: channels of ``decode``'s embedding.
    """

    feature_channels: tuple[int, ...]
    embedding_channels: int

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """(B,C,H,W) -> features (B,channels,H/s,W/s), the first at full resolution."""

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Features of ``encode`` -> embedding (B,embedding_channels,H,W)."""

    @abstractmethod
    def classify(self, embedding: Tensor) -> Tensor:
        """Embedding -> logits (B,K,H,W)."""

    def auxiliary(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (B,K,H,W) of heads that only help the training; none unless a network says so."""
        return []

    def forward(self, image: Tensor) -> Tensor:
        """Range image (B,C,H,W) -> logits (B,K,H,W)."""
        return self.classify(self.decode(self.encode(image)))
