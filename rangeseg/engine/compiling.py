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
    teacher's), at its first step.

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
    networks = [m for m in method.modules() if isinstance(m, Network)]
    for network in networks:
        for part in _PARTS:
            setattr(network, part, torch.compile(getattr(network, part), mode=mode, dynamic=False))
    try:
        yield torch.compiler.cudagraph_mark_step_begin
    finally:
        for network in networks:
            for part in _PARTS:
                delattr(network, part)
