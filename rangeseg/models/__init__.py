"""The networks: one paper per file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import Field

from rangeseg.errors import ConfigError, unknown_name
from rangeseg.models.cenet import CENet
from rangeseg.models.fidnet import FIDNet
from rangeseg.models.frnet import FRNet
from rangeseg.models.network import Network
from rangeseg.settings import Settings

MODELS: dict[str, Callable[..., Network]] = {"fidnet": FIDNet, "cenet": CENet, "frnet": FRNet}
"""Each takes in_channels, num_classes, width, full_turn and align_corners."""

LAYERS = {"frnet": 5}
"""Networks with ``layers``, which classify points, and their default number."""


class ModelSettings(Settings):
    """Settings of the network: name, width, treatment of image edges."""

    name: str = "fidnet"
    width: int = Field(default=128, ge=2, multiple_of=2)  # channels of a stage; 128 is the paper's
    # Padding at the left and right edges of a full turn. The official FIDNet and CENet have zeros.
    padding: Literal["circular", "zeros"] = "circular"
    align_corners: bool = False  # in interpolation; true in the official FIDNet and CENet


class NetworkFactory(Protocol):
    """Makes networks of one architecture, each newly initialised."""

    def __call__(self) -> Network:
        """Make a network that maps (B,C,H,W) to logits (B,K,H,W), or layers to layers."""


def check_layers(name: str, layers: int) -> None:
    """Check that a network takes images of this many layers.

    Raises:
        ConfigError: it does not take them.
    """
    if layers > 1 and name not in LAYERS:
        raise ConfigError(
            f"range_image.layers={layers}, but {name} classifies pixels, of one layer: set "
            f"range_image.layers=1, or model.name to a network of points ({', '.join(LAYERS)})"
        )


def build_network(
    settings: ModelSettings,
    in_channels: int,
    num_classes: int,
    full_turn: bool = True,
    layers: int = 1,
) -> Network:
    """Build a newly initialised network.

    Args:
        settings: settings of the network.
        in_channels: channels C of the range image.
        num_classes: classes K.
        full_turn: whether the first and the last column of an image are neighbours.
        layers: points per pixel.

    Raises:
        ConfigError: no such network, or one that takes no layers.
    """
    if settings.name not in MODELS:
        raise unknown_name("network", settings.name, list(MODELS))
    check_layers(settings.name, layers)
    wraps = full_turn and settings.padding == "circular"
    more = {"layers": layers} if settings.name in LAYERS else {}
    return MODELS[settings.name](
        in_channels, num_classes, settings.width, wraps, settings.align_corners, **more
    )
