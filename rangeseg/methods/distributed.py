"""What processes that train together must agree on; with one process, nothing is done."""

from __future__ import annotations

import torch
from torch import Tensor


def num_processes() -> int:
    """How many processes train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself where there is only one."""
    if num_processes() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def shared_divisor(own: Tensor) -> Tensor:
    """What a process's sum is divided by, so that the mean over processes is that of all pixels.

    The wrapper of several processes averages their gradients. A mean over the pixels of each would
    let a pixel count more where few are valid; divided by the mean number of pixels, each counts
    alike, as in one process that has all scans.

    Args:
        own: number, or sum of weights, of the pixels of this process; no gradient passes.

    Returns:
        Its mean over the processes; the tensor itself where there is only one.
    """
    if num_processes() == 1:
        return own
    return all_reduce_sum(own.detach().to(torch.float64)).to(own.dtype) / num_processes()
