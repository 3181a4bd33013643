"""bfloat16 convolutions of a processor that has none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from rangeseg.models import ModelSettings, build_network
from rangeseg.models.convolution import Conv2d

SHAPES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": (1, 0), "bias": False},
    {"kernel_size": 3, "padding": (1, 0), "stride": 2, "bias": False},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "bias": False},
]


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor."""
    monkeypatch.setattr("rangeseg.models.convolution.SLOW_ON_CPU", True)


def rounded(x: Tensor) -> Tensor:
    return x.detach().bfloat16().double()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_convolution_of_rounded_numbers_rounded(shape: dict[str, Any]) -> None:
    """Against float64 sums. A float32 sum may round the other way: one place of eight bits."""
    torch.manual_seed(0)
    convolution = Conv2d(16, 24, **shape).to(memory_format=torch.channels_last)
    image = torch.randn(2, 16, 16, 32).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(image)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    exact = torch.nn.Conv2d(16, 24, **shape).double()
    exact.load_state_dict({n: rounded(p) for n, p in convolution.state_dict().items()})
    copied = rounded(image).requires_grad_()
    expected = exact(copied)
    above = torch.randn_like(found)
    found.backward(above)
    expected.backward(above.double())
    pairs = [(found.detach(), expected.detach()), (image.grad, copied.grad)]
    pairs += [
        (a.grad, b.grad) for a, b in zip(convolution.parameters(), exact.parameters(), strict=True)
    ]
    for a, b in pairs:
        assert a is not None
        assert b is not None
        assert torch.equal(a, a.bfloat16().to(a.dtype))
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=1e-5 * float(b.abs().max()))
        assert (a.double() == rounded(b)).double().mean() > 0.99


def test_networks_take_it_and_only_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.dtype] = []
    convolve = torch.ops.aten.convolution

    def watch(x: Tensor, *others: Any) -> Tensor:
        taken.append(x.dtype)
        return convolve(x, *others)

    monkeypatch.setattr(torch.ops.aten, "convolution", watch)
    for name in ("fidnet", "cenet"):
        network = build_network(ModelSettings(name=name, width=4), in_channels=6, num_classes=5)
        image = torch.randn(1, 6, 16, 64)
        convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
        assert all(isinstance(module, Conv2d) for module in convolutions)
        network(image)
        assert taken == []
        with torch.autocast("cpu", torch.bfloat16):
            network.auxiliary(network.encode(image))
            network(image)
        assert set(taken) == {torch.float32}
        assert len(taken) > len(convolutions)
        taken.clear()


def test_a_frozen_part_gets_no_gradient() -> None:
    convolution = Conv2d(4, 4, kernel_size=1)
    convolution.requires_grad_(False)
    image = torch.randn(1, 4, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        convolution(image).float().sum().backward()
    assert convolution.weight.grad is None
    assert convolution.bias is not None
    assert convolution.bias.grad is None
    assert image.grad is not None
    assert image.grad.dtype == torch.float32
