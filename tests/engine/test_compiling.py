"""Compiled networks: the same figures, and no trace of it afterwards."""

from functools import partial
from typing import Any

import pytest
import torch

from rangeseg.engine.compiling import CompileMode, compiled
from rangeseg.models import MODELS, ModelSettings, build_network
from rangeseg.models.network import Network

# The compiler itself does what PyTorch warns of.
pytestmark = pytest.mark.filterwarnings("ignore")


class Tiny(Network):
    """Small enough to be compiled to machine code in a test."""

    feature_channels = (3,)
    embedding_channels = 3

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B,C,H,W) -> one feature."""
        return [image.relu() + 1]

    def decode(self, features: list[torch.Tensor]) -> torch.Tensor:
        """The feature, squared."""
        return features[0].square()

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """Embedding -> logits."""
        return 2 * embedding


@pytest.fixture
def whole_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace as the real compiler does, but run PyTorch's own kernels; a break is an error."""
    traced = partial(torch.compile, backend="aot_eager", fullgraph=True)

    def compile_(function: Any, mode: str, dynamic: bool) -> Any:
        return traced(function, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", compile_)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.usefixtures("whole_graphs")
def test_the_networks_are_traced_whole(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings(name=name, width=4), 5, 6)
    image = torch.randn(2, 5, 16, 32)
    gradients = []
    modes: tuple[CompileMode, ...] = ("none", "default")
    for mode in modes:
        network.zero_grad()
        with compiled(network, mode):
            assert ("encode" in vars(network)) == (mode == "default")
            network(image).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert "encode" not in vars(network)


def test_the_real_compiler_agrees() -> None:
    tiny, image = Tiny(), torch.randn(1, 3, 4, 8)
    with compiled(torch.nn.Sequential(tiny), "default"):
        torch.testing.assert_close(tiny(image), 2 * (image.relu() + 1).square())
