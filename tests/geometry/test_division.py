"""Division by a reciprocal: every bit against the processor's own division."""

import numpy as np
import pytest

from rangeseg.geometry.division import quotient, reciprocal
from rangeseg.geometry.kernel import kernel

VALUES_PER_DIVISOR = 1 << 20


@kernel
def divide_all(values: np.ndarray, high: np.float32, low: np.float32) -> np.ndarray:
    quotients = np.empty_like(values)
    for i in range(values.shape[0]):
        quotients[i] = quotient(values[i], high, low)
    return quotients


def values_of_all_sizes(divisor: np.float32, rng: np.random.Generator) -> np.ndarray:
    exponents = rng.uniform(-28, 28, VALUES_PER_DIVISOR)
    signs = rng.choice([-1.0, 1.0], VALUES_PER_DIVISOR)
    values = (signs * 10.0**exponents * float(divisor)).astype(np.float32)
    values[::1000] = 0.0
    return values


@pytest.mark.parametrize("divisor", [0.16, 0.3, 0.86, 1.0, 6.91, 11.47, 12.32, 255.0, 1e-5, 3e7])
def test_quotients_are_those_of_ieee_division(divisor: float) -> None:
    divisor = np.float32(divisor)
    high, low = reciprocal(divisor)
    assert high > 0.0
    values = values_of_all_sizes(divisor, np.random.default_rng(0))
    np.testing.assert_array_equal(
        divide_all(values, high, low).view(np.uint32), (values / divisor).view(np.uint32)
    )


@pytest.mark.parametrize("divisor", [0.03, 0.96, 3.59, 7.03, 14.95])
def test_a_divisor_whose_reciprocal_would_not_do_is_found(divisor: float) -> None:
    divisor = np.float32(divisor)
    assert reciprocal(divisor) == (0.0, 0.0)
    high = np.float32(1.0 / float(divisor))
    low = np.float32(1.0 / float(divisor) - float(high))
    values = np.linspace(1.0, 2.0, 1 << 23, endpoint=False, dtype=np.float32)
    assert (divide_all(values, high, low) != values / divisor).any()


@pytest.mark.parametrize("divisor", [1e-39, 1e-45, np.inf])
def test_where_there_is_no_reciprocal_it_must_be_divided(divisor: float) -> None:
    assert reciprocal(np.float32(divisor)) == (0.0, 0.0)
