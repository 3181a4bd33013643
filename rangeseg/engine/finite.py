"""The check for losses, gradients and weights that are not finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rangeseg.errors import RangesegError
from rangeseg.system.distributed import world_size

_NEVER = 1 << 62


class FiniteCheck:
    """Finds the first step with a loss or gradient that is not finite.

    It checks every step but raises only on request: reading the result waits for the GPU.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._first: Tensor | None = None  # (terms,) int64

    def look(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Check the scalars of a step; their names are the same at each step."""
        now = torch.stack([value.detach().float() for value in values.values()])
        if self._first is None:
            self._names = list(values)
            self._first = torch.full_like(now, _NEVER, dtype=torch.long)
        self._first = torch.where(now.isfinite(), self._first, self._first.clamp(max=step))

    def raise_if_not_finite(self) -> None:
        """Raise if any step in any process was not finite.

        Raises:
            RangesegError: a value was not finite.
        """
        if self._first is None:
            return
        if world_size() > 1:
            torch.distributed.all_reduce(self._first, torch.distributed.ReduceOp.MIN)
        steps = self._first.tolist()
        if min(steps) < _NEVER:
            raise not_finite(self._names[steps.index(min(steps))], min(steps))


def not_finite(what: str, step: int) -> RangesegError:
    """The error for a value that is infinite or not a number."""
    return RangesegError(
        f"{what} was no longer finite in step {step}, and nothing was saved since then: begin "
        "again in another --out with a lower train.learning_rate, or with train.precision=float32"
    )
