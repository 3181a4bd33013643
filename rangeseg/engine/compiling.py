"""The networks of a method as compiled programs."""

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
    """Let the networks of a method run compiled by ``torch.compile``, until the context ends.

    The parts are compiled one by one, for methods reach between them. All shapes of a training are
    static: each part is compiled once for every batch it is given (the student's, the
    teacher's), at its first step. Scans of other shapes are for ``uncompiled``.

    Args:
        method: whose networks.
        mode: that of ``torch.compile``; ``reduce-overhead`` and ``max-autotune`` replay CUDA
            graphs; ``none`` changes nothing.

    Yields:
        To be called before each step, not each of its batches: what the graphs returned in the
        last one, gradients too, may be overwritten from then on.
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
        # The wrapper of several processes would have each part cut where its buckets end: more
        # graphs for an exchange of few megabytes, and older PyTorch refuses it for parts with
        # gradients of their own, such as pad_azimuth's.
        with config.patch(optimize_ddp=False):
            yield torch.compiler.cudagraph_mark_step_begin
    finally:
        for network in networks:
            for part in _PARTS:
                delattr(network, part)


@contextmanager
def uncompiled(method: nn.Module) -> Iterator[None]:
    """Let compiled networks run as they are written, until the context ends.

    For the few whole scans of a validation: to compile for their shape takes longer than to look at
    them, and as they are all within one step, a CUDA graph would be recorded for each of them.

    Args:
        method: whose networks; those that are not compiled stay as they are.
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
