"""Compile the networks of a method with ``torch.compile``."""

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

    Methods call parts of a network, so each part is compiled alone. Training shapes are static: the
    first step compiles a part for each batch size. For scans of other shapes use ``uncompiled``.

    Args:
        method: owner of the networks.
        mode: mode of ``torch.compile``; ``reduce-overhead`` and ``max-autotune`` replay CUDA
            graphs; ``none`` changes nothing.

    Yields:
        A function to call before each step, not before each batch. After the call the last step's
        outputs and gradients may be overwritten.
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
        # DDP would split each part at its buckets: more graphs to exchange a few megabytes. Older
        # PyTorch refuses this for custom backwards such as pad_azimuth's.
        with config.patch(optimize_ddp=False):
            yield torch.compiler.cudagraph_mark_step_begin
    finally:
        for network in networks:
            for part in _PARTS:
                delattr(network, part)


@contextmanager
def uncompiled(method: nn.Module) -> Iterator[None]:
    """Run compiled networks uncompiled until the context ends.

    Validation uses only a few whole scans. Compiling for their shape takes longer than predicting
    them, and would record each as a CUDA graph within one step.

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
