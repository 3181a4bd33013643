"""Run the networks of a method compiled by ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from rangeseg.models.network import Network

CompileMode = Literal["none", "default", "reduce-overhead", "max-autotune"]

_PARTS = ("encode", "decode", "classify")


@contextmanager
def compiled(method: nn.Module, mode: CompileMode) -> Iterator[Callable[[], None]]:
    """Compile the networks of a method until the context ends.

    Methods reach between the parts of a network, so each part is compiled by itself. All shapes of
    a training are static: the first step compiles a part for every batch size it sees. For scans
    of other shapes use ``uncompiled``.

    Args:
        method: owner of the networks.
        mode: of ``torch.compile``; ``reduce-overhead`` and ``max-autotune`` replay CUDA graphs;
            ``none`` changes nothing.

    Yields:
        A function to call before each step, not before each batch. From then on the outputs of
        the last step, gradients too, may be overwritten.
    """
    if mode == "none":
        yield lambda: None
        return
    from torch._dynamo import config

    networks = [m for m in method.modules() if isinstance(m, Network)]
    for network in networks:
        for part in _PARTS:
            setattr(network, part, torch.compile(getattr(network, part), mode=mode, dynamic=False))
    try:
        # DDP would cut each part where its buckets end: more graphs for an exchange of a few
        # megabytes. Older PyTorch refuses that for hand-written backwards such as pad_azimuth's.
        with config.patch(optimize_ddp=False):
            yield torch.compiler.cudagraph_mark_step_begin
    finally:
        for network in networks:
            for part in _PARTS:
                delattr(network, part)


@contextmanager
def uncompiled(method: nn.Module) -> Iterator[None]:
    """Run compiled networks uncompiled until the context ends.

    Validation sees only a few whole scans. Compiling for their shape takes longer than predicting
    them, and within one step each of them would be recorded as a CUDA graph.

    Args:
        method: owner of the networks, compiled or not.
    """
    aside = []
    for network in (m for m in method.modules() if isinstance(m, Network)):
        attributes = vars(network)
        aside.append((attributes, {p: attributes.pop(p) for p in _PARTS if p in attributes}))
    try:
        yield
    finally:
        for attributes, parts in aside:
            attributes.update(parts)
