"""Copies for prediction: the same logits, and a network that knows nothing of its copy."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rangeseg.methods.cps import Average
from rangeseg.models import MODELS, ModelSettings, build_network
from rangeseg.models.prediction import folded, lower_precision, without_padding

CLASSES = 5


def trained(
    name: str, full_turn: bool = True, seed: int = 0, align_corners: bool = False, layers: int = 1
) -> nn.Module:
    """A network whose batch norms do something, and even out what they get."""
    torch.manual_seed(seed)
    settings = ModelSettings(name=name, width=8, align_corners=align_corners)
    network = build_network(settings, 3, CLASSES, full_turn, layers)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images() if layers == 1 else torch.randn(2, 3, layers, 16, 64))
    return network


def pair(name: str, full_turn: bool) -> nn.Module:
    return Average(trained(name, full_turn, 1), trained(name, full_turn, 2))


def aligned(name: str, full_turn: bool) -> nn.Module:
    return trained(name, full_turn, align_corners=True)


def images(width: int = 64) -> Tensor:
    batch = torch.randn(2, 3, 16, width, generator=torch.Generator().manual_seed(0))
    return batch.to(memory_format=torch.channels_last)


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("full_turn", [True, False])
@pytest.mark.parametrize("make", [trained, pair, aligned])
@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_the_same_logits_without_batch_norms(name: str, make: object, full_turn: bool) -> None:
    network = make(name, full_turn).train()  # type: ignore[operator]
    before = copy.deepcopy(network.state_dict())
    fast = folded(network)
    left = [n for n, m in fast.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(n.endswith("first.norm") for n in left)  # FRNet's of the channels
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(m.training for m in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    expected = network.eval()(images())
    assert distance(fast(images()), expected) < 1e-4
    fast = without_padding(fast)
    assert distance(fast(images()), expected) < 1e-4
    logits = lower_precision(fast, torch.bfloat16)(images())
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().mean() < 0.1 * expected.abs().mean()
    assert not torch.equal(logits, logits.bfloat16().float())  # of more digits than bfloat16 has


@pytest.mark.parametrize("width", [8, 16])
@torch.inference_mode()
def test_an_image_may_be_as_narrow_as_its_seam(width: int) -> None:
    """In the last stage a column is its own neighbour."""
    network = trained("fidnet").eval()
    fast = without_padding(folded(network))
    assert distance(fast(images(width)), network(images(width))) < 1e-4


def test_a_batch_norm_without_its_convolution_stays() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    kinds = [type(module) for module in folded(network)]
    assert kinds == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
