"""Many divisions by one number, right to the last bit, without dividing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from rangeseg.geometry.kernel import BLOCK, kernel

_ZERO = np.float32(0.0)
_ONE, _MANTISSAS = np.uint32(0x3F800000), 1 << 23  # the bits of 1, and how many numbers up to 2


@intrinsic  # type: ignore[misc]
def _multiply_add(_: Any, a: Any, b: Any, c: Any) -> tuple[Any, Callable[..., Any]]:
    """Product and sum rounded once: one instruction of the processors of the last ten years."""

    def generate(__: Any, builder: Any, ___: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


@kernel
def quotient(value: np.float32, high: np.float32, low: np.float32) -> np.float32:
    """The value divided by the number whose ``reciprocal`` is given, unless that is (0, 0)."""
    return _multiply_add(value, high, value * low)  # type: ignore[call-arg]


def reciprocal(divisor: float) -> tuple[np.float32, np.float32]:
    """The parts of 1 / divisor with which ``quotient`` is right for every value.

    With one or two of 100 divisors some quotients would be a bit off, so all mantissas are tried,
    which takes 5 ms. Signs and exponents change nothing but for values below 1e-30 divisors, of
    which the last bit may be lost.

    Args:
        divisor: a float32 above 0.

    Returns:
        High and low part, float32; (0, 0) if it must be divided.

    Reference:
        Brisebarre, Muller and Raina, Accelerating Correctly Rounded Floating-Point Division when
        the Divisor is Known in Advance, IEEE Transactions on Computers 53(8), 2004.
    """
    exact = 1.0 / float(divisor)
    with np.errstate(over="ignore"):  # of a divisor so small the reciprocal is infinite
        high = np.float32(exact)
        low = np.float32(exact - float(high))
    return (high, low) if _is_right(np.float32(divisor), high, low) else (_ZERO, _ZERO)


@kernel
def _is_right(divisor: np.float32, high: np.float32, low: np.float32) -> bool:
    bits = np.empty(BLOCK, dtype=np.uint32)
    values, wrong = bits.view(np.float32), 0
    for start in range(0, _MANTISSAS, BLOCK):
        for i in range(BLOCK):
            bits[i] = _ONE + np.uint32(start + i)
        for i in range(BLOCK):
            wrong += quotient(values[i], high, low) != values[i] / divisor
    return wrong == 0
