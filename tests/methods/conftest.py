"""A small task, and networks small enough to reason about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rangeseg.methods.base import StepContext, Task, TrainingBatch
from rangeseg.methods.perturbation import PerturbationSettings
from rangeseg.models.blocks import AzimuthConv
from rangeseg.models.cenet import CENet
from rangeseg.models.fidnet import FIDNet
from rangeseg.models.network import Network

CHANNELS = ("range", "x", "y", "z", "intensity", "valid")
CLASSES = 4
NO_PERTURBATION = PerturbationSettings(
    scale=0, jitter=0, intensity_gain=0, intensity_bias=0, drop_intensity=0, drop_pixels=0,
    drop_patches=0,
)  # fmt: skip


def make_task(**changes: object) -> Task:
    values = {
        "num_classes": CLASSES,
        "channels": CHANNELS,
        "statistics": ((10.0, 5.0), (1.0, 4.0), (0.0, 4.0), (-1.0, 2.0), (0.3, 0.2), (0.0, 1.0)),
        "class_weights": torch.tensor([0.5, 1.0, 1.5, 1.0]),
        "labelled": "strong",
        "lovasz_weight": 0.5,
        "boundary_weight": 0.5,
        "perturbation": PerturbationSettings(),
    }
    return Task(**(values | changes))  # type: ignore[arg-type]


def make_batch(seed: int = 0, scans: int = 3, height: int = 16, width: int = 32) -> TrainingBatch:
    g = torch.Generator().manual_seed(seed)

    def fields() -> dict[str, torch.Tensor]:
        valid = torch.rand(scans, height, width, generator=g) < 0.8
        image = torch.randn(scans, len(CHANNELS), height, width, generator=g)
        image[:, -1] = 1.0
        return {"image": image * valid[:, None], "valid": valid}

    labels = torch.randint(0, CLASSES, (scans, height, width), generator=g)
    labels[torch.rand(labels.shape, generator=g) < 0.1] = 255
    labelled = fields()
    labels[~labelled["valid"]] = 255
    return TrainingBatch({**labelled, "labels": labels.to(torch.uint8)}, fields())


def make_context(step: int = 90, steps: int = 100, seed: int = 0) -> StepContext:
    return StepContext(step, steps, torch.Generator().manual_seed(seed))


def small_fidnet() -> Network:
    return FIDNet(len(CHANNELS), CLASSES, width=4)


def small_cenet() -> Network:
    return CENet(len(CHANNELS), CLASSES, width=4)


class Layers(Network):
    """One feature, which is the embedding too."""

    def __init__(self, layers: nn.Module, channels: int) -> None:
        super().__init__()
        self.feature_channels = (channels,)
        self.embedding_channels = channels
        self.layers = layers
        self.classifier = nn.Conv2d(channels, CLASSES, kernel_size=1)

    def encode(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]

    def decode(self, features: list[Tensor]) -> Tensor:
        return features[0]

    def classify(self, embedding: Tensor) -> Tensor:
        return self.classifier(embedding)


def three_layers() -> Network:
    """Context, batch norm and a non-linearity at the least cost."""
    layers = nn.Sequential(AzimuthConv(len(CHANNELS), 16), nn.BatchNorm2d(16), nn.ReLU())
    return Layers(layers, 16)


def pixelwise() -> Network:
    """A linear map of each pixel: it commutes with mixing."""
    return Layers(nn.Identity(), len(CHANNELS))


@pytest.fixture
def network() -> Callable[[], Network]:
    torch.manual_seed(0)
    return small_fidnet
