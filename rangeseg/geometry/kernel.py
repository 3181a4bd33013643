"""Compile the loops over points and pixels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function with numba on its first call, and cache the result on disk.

    Kernels are serial: a parallel one hangs in a forked loader worker after torch has run in the
    parent. They release the global interpreter lock, so threads run in parallel.

    Division follows IEEE 754, as NumPy's does: a check for zero would prevent vectorisation.

    Without a writable folder (read-only installation and home directory) each process compiles its
    kernels, which takes seconds.
    """
    return _compiled(function, False)


def approximation(function: Function) -> Function:
    """Like ``kernel``, but may fuse a product and a sum, which rounds once instead of twice.

    Faster, but the last bit depends on the processor: for approximations only.
    """
    return _compiled(function, {"contract"})


def _compiled(function: Function, fastmath: bool | set[str]) -> Function:
    compiler = partial(numba.njit, nogil=True, error_model="numpy", fastmath=fastmath)
    try:
        return cast(Function, compiler(cache=True)(function))
    except RuntimeError:  # numba's "cannot cache function: no locator available"
        return cast(Function, compiler()(function))


def as_points(points: np.ndarray) -> np.ndarray:
    """Convert points (N,4) for the kernels: contiguous float32.

    Raises:
        ValueError: another shape.
    """
    if points.ndim != 2 or points.shape[1] < 4:
        raise ValueError(f"points must be (N,4): x, y, z, intensity; found {points.shape}")
    return np.ascontiguousarray(points, dtype=np.float32)


BLOCK = 1024
"""Points in a block of ``take_apart``, which fits into the L1 cache."""

_LOW, _HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)


@kernel
def take_apart(points: np.ndarray, values: np.ndarray) -> None:
    """Write x, y, z and intensity of points to separate rows, for vectorised loops.

    Reading every fourth value is slow. Two values are read at once, the first from the lower half
    (little-endian processors).

    Args:
        points: (4n,) float32, x, y, z, intensity point by point, n up to BLOCK.
        values: (4,BLOCK) float32; its first n columns are written.
    """
    pairs, bits = points.view(np.uint64), values.view(np.uint32)
    for i in range(pairs.shape[0] // 2):
        first, second = pairs[2 * i], pairs[2 * i + 1]
        bits[0, i], bits[1, i] = np.uint32(first & _LOW), np.uint32(first >> _HIGH)
        bits[2, i], bits[3, i] = np.uint32(second & _LOW), np.uint32(second >> _HIGH)
