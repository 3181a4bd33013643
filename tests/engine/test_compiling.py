"""Compiled networks: the same figures, and no trace of it afterwards."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rangeseg.cli import main
from rangeseg.engine.compiling import CompileMode, compiled, uncompiled
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_real_compiler_agrees() -> None:
    tiny, image = Tiny(), torch.randn(1, 3, 4, 8)
    with compiled(torch.nn.Sequential(tiny), "default"):
        torch.testing.assert_close(tiny(image), 2 * (image.relu() + 1).square())


def test_it_runs_as_written_for_a_while() -> None:
    tiny, other = Tiny(), Tiny()
    method = torch.nn.Sequential(tiny, other)
    with compiled(method, "default"):
        before = dict(vars(tiny))
        assert "encode" in before
        with uncompiled(method):
            assert "encode" not in vars(tiny)
            assert "classify" not in vars(other)
        assert vars(tiny) == before
    with uncompiled(method):
        assert "encode" not in vars(tiny)
    assert "encode" not in vars(tiny)


@pytest.mark.slow
def test_whole_scans_on_the_way_and_at_the_end_are_not_compiled(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = set()

    def compile_(function: Callable[..., Any], mode: str, dynamic: bool) -> Callable[..., Any]:
        def watched(given: Any) -> Any:
            if isinstance(given, torch.Tensor):
                widths.add(given.shape[3])
            return function(given)

        return watched

    monkeypatch.setattr(torch, "compile", compile_)
    words = ["train", *tiny_config, "--method", "cutmix_seg", "--labels", "10%"]
    words += ["--out", str(tmp_path / "run"), "--set", "train.compile=default"]
    assert main([*words, "--set", "train.validate_every=2"]) == 0
    assert widths == {64}  # of the crops; a whole scan has 256 columns


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_a_part_is_one_graph_for_several_processes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: real(f, backend=backend))
    # Larger than the first bucket, which holds 1 MiB.
    network = build_network(ModelSettings(name="fidnet", width=64), 5, 6)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(network)
        with compiled(network, "default"):
            wrapped(torch.randn(2, 5, 8, 16)).square().mean().backward()
        del wrapped
    finally:
        torch.distributed.destroy_process_group()
    assert len(graphs) == 3
