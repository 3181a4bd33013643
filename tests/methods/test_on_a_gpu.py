"""What a step would do on a GPU, seen without one: nothing waits, and images keep their layout."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch._dynamo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rangeseg.engine.compiling import compiled
from rangeseg.engine.finite import FiniteCheck
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.models.network import Network
from rangeseg.system.device import to_device

from .conftest import (
    make_batch,
    make_context,
    make_method,
    small_fidnet,
    three_layers,
    total,
)

ELSEWHERE = torch.device("meta")


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> Method[Any]:
    return to_device(make_method(request.param, small_fidnet), torch.device("cpu"))


def moved(batch: TrainingBatch, change: Callable[[torch.Tensor], torch.Tensor]) -> TrainingBatch:
    """The batch with every field changed."""
    assert batch.unlabelled is not None
    labelled, unlabelled = (
        {name: change(field) for name, field in fields.items()}
        for fields in (batch.labelled, batch.unlabelled)
    )
    return TrainingBatch(labelled, unlabelled)


def drawn_there(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same without the generator, which the device that only knows shapes cannot have."""

    def draw_there(
        *arguments: Any, generator: SimpleNamespace, device: torch.device
    ) -> torch.Tensor:
        assert generator.device == device == ELSEWHERE
        return draw(*arguments, device=device)

    return draw_there


class OnTheHost(TorchDispatchMode):
    """Notes the operations that read or make a tensor on the host, or wait for a mask's size."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        tensors = [t for t in tree_leaves((arguments, named, result)) if torch.is_tensor(t)]
        indices = arguments[1] if operation.overloadpacket.__name__.startswith("index") else ()
        masks = [i for i in tree_leaves(indices) if torch.is_tensor(i) and i.dtype == torch.bool]
        if masks or any(tensor.device != ELSEWHERE for tensor in tensors):
            self.names.append(str(operation))
        return result


@pytest.mark.slow
def test_a_step_stays_on_its_device(method: Method[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without numbers: who asks for one gets an error, and copies are noted."""
    batch = moved(make_batch(scans=2), lambda field: field.to(ELSEWHERE))
    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, drawn_there(getattr(torch, name)))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it has none
    generator = cast(torch.Generator, SimpleNamespace(device=ELSEWHERE))
    context, watch = StepContext(90, 100, generator), FiniteCheck()
    method.to(ELSEWHERE)
    with OnTheHost() as on_the_host:
        losses = method(batch, context)
        total(losses).backward()
        method.after_batch()
        norms = [
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for network in method.trained_networks()
        ]
        method.after_step(context)
        watch.look(91, {**losses, **{str(i): norm for i, norm in enumerate(norms)}})
    assert on_the_host.names == []


class GpuLayouts(TorchDispatchMode):
    """Gives results the layout of CUDA's kernels where a CPU's keep another."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        return result.contiguous() if operation is torch.ops.aten.roll.default else result


def test_every_network_sees_channels_last(
    method: Method[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FIDNet's stem, four 1x1 convolutions of full size, takes its layout from the image."""
    layout, seen = torch.channels_last, []
    encode = type(method.student).encode

    def watched(network: Network, image: torch.Tensor) -> list[torch.Tensor]:
        features = encode(network, image)
        seen.extend(each.is_contiguous(memory_format=layout) for each in (image, *features))
        return features

    monkeypatch.setattr(type(method.student), "encode", watched)
    batch = moved(make_batch(), lambda f: f.contiguous(memory_format=layout) if f.dim() == 4 else f)
    with GpuLayouts():
        method(batch, make_context())
    assert seen
    assert all(seen)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler itself does what PyTorch warns of
@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_step_after_the_first_compiles_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is drawn, a network is given the same shapes."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=_as_written))
    method = make_method(name, three_layers, ramp_start=0.5)
    with compiled(method, "default"):
        for step in (10, 11, 90, 91):
            with torch._dynamo.config.patch(error_on_recompile=step > 10):
                total(method(make_batch(step), make_context(step, seed=step))).backward()
            method.after_batch()
            method.after_step(make_context(step))
            method.zero_grad()
    torch._dynamo.reset()


def _as_written(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    return graph.forward
