"""What processes that train together must agree on."""

from __future__ import annotations

import torch
from torch import Tensor


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place; the tensor itself where there is only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor
