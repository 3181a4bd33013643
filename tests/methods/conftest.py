"""A small task, and networks small enough to reason about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, StepContext, Task, TrainingBatch
from rangeseg.methods.layers import per_channel
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


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def make_batch(
    seed: int = 0, scans: int = 3, height: int = 16, width: int = 32, layers: int = 1
) -> TrainingBatch:
    g = generator(seed)
    size = (height, width) if layers == 1 else (layers, height, width)

    def fields() -> dict[str, torch.Tensor]:
        valid = torch.rand(scans, *size, generator=g) < 0.8
        if layers > 1:  # the nearest first: no point is behind none
            valid = valid.int().cumprod(dim=1) > 0
        image = torch.randn(scans, len(CHANNELS), *size, generator=g)
        image[:, -1] = 1.0
        return {"image": image * valid[:, None], "valid": valid}

    labels = torch.randint(0, CLASSES, (scans, *size), generator=g)
    labels[torch.rand(labels.shape, generator=g) < 0.1] = 255
    labelled = fields()
    labels[~labelled["valid"]] = 255
    return TrainingBatch({**labelled, "labels": labels.to(torch.uint8)}, fields())


def make_context(step: int = 90, steps: int = 100, seed: int = 0) -> StepContext:
    return StepContext(step, steps, generator(seed))


def settings_of(name: str, **changes: object):
    """The settings of a method; a change that it does not know is left out."""
    known = METHODS[name].Settings.model_fields
    return METHODS[name].Settings(**{k: v for k, v in changes.items() if k in known})


def make_method(
    name: str, network: Callable[[], Network], task: dict | None = None, **changes: object
) -> Method:
    torch.manual_seed(0)
    return METHODS[name](network, make_task(**(task or {})), settings_of(name, **changes)).train()


UNDISTURBED = {"labelled": "plain", "perturbation": NO_PERTURBATION}
"""Changes of the task: labelled scans as they are, and nothing perturbed."""


def step(method: Method, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
    """All that a step does but the optimiser's part; returns the losses."""
    method.zero_grad()
    losses = method(batch, context)
    total(losses).backward()
    method.after_batch()
    method.after_step(context)
    return {name: loss.detach() for name, loss in losses.items()}


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


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


class Oracle(Layers):
    """Sure of the class in the channel z where the channel y is 1, of nothing where it is 0.

    What it predicts of a pixel depends on this pixel alone.
    """

    def __init__(self) -> None:
        super().__init__(nn.Identity(), len(CHANNELS))
        self.scale = nn.Parameter(torch.tensor(1000.0))

    def classify(self, embedding: Tensor) -> Tensor:
        y, z = embedding[:, 2:3], embedding[:, 3:4]
        classes = per_channel(torch.arange(CLASSES), embedding)
        return -self.scale * y * (z - classes).square()


def readable(batch: TrainingBatch) -> TrainingBatch:
    """The batch with classes that an Oracle reads, sure of two thirds; truth where it is sure."""
    g = generator(1)
    for fields in (batch.labelled, batch.unlabelled):
        shape = fields["valid"].shape
        classes = torch.randint(0, CLASSES, shape, generator=g)
        sure = torch.rand(shape, generator=g) < 2 / 3
        fields["image"][:, 2] = sure * fields["valid"]
        fields["image"][:, 3] = classes * fields["valid"]
        if "labels" in fields:
            known = fields["valid"] & sure
            fields["labels"] = torch.where(known, classes, 255).to(torch.uint8)
    return batch


@dataclass
class Forward:
    """One forward of a network."""

    image: Tensor
    features: list[Tensor]
    decoded: list[Tensor]
    embedding: Tensor
    learning: bool


def record(network: Network) -> list[Forward]:
    """Every forward of the network from now on."""
    forwards: list[Forward] = []
    encode, decode = network.encode, network.decode
    encoded: list[tuple[Tensor, list[Tensor]]] = []

    def recorded_encode(image: Tensor) -> list[Tensor]:
        encoded.append((image, encode(image)))
        return encoded[-1][1]

    def recorded_decode(features: list[Tensor]) -> Tensor:
        embedding = decode(features)
        forwards.append(Forward(*encoded[-1], features, embedding, torch.is_grad_enabled()))
        return embedding

    network.encode = recorded_encode  # type: ignore[method-assign]
    network.decode = recorded_decode  # type: ignore[method-assign]
    return forwards


def three_layers() -> Network:
    """Context, batch norm and a non-linearity at the least cost."""
    layers = nn.Sequential(AzimuthConv(len(CHANNELS), 16), nn.BatchNorm2d(16), nn.ReLU())
    return Layers(layers, 16)


def pixelwise() -> Network:
    """A linear map of each pixel: it commutes with mixing."""
    return Layers(nn.Identity(), len(CHANNELS))
