"""Judge the number type of raw point files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.verdicts.base import Verdict

_SMALLEST, _LARGEST = 1e-6, 1e7
"""Bounds for coordinates in any unit and frame, intensities and times, with either sign."""

_MOST_ODD = 0.1
"""Accepted share of implausible numbers. Real scans: none; float64 read as float32: .17 and more;
bytes in the wrong order: .62 and more."""

_TIDY = 0.02  # largest share of odd numbers under a suggested type
_ALIKE = 0.5  # least correlation of neighbouring points; above .8 in all tested scans
_ORDERS = ("little", "big")
_FLOATS = tuple((dtype, order) for dtype in ("float32", "float64") for order in _ORDERS)


def judge_numbers(found: Evidence) -> Iterator[Verdict]:
    """``number_type``: the numbers are implausible as what the layout states."""
    layout = found.layout
    if len(found.head) < 256:
        return
    odd = odd_share(as_numbers(found.head, layout.dtype, layout.byte_order))
    if odd <= _MOST_ODD:
        return
    seen = (
        f"{found.file_name} read as {layout.dtype}, {layout.byte_order}-endian: {odd:.0%} of its "
        "numbers are no coordinates"
    )
    if (other := _likely_type(found.head)) is None:
        yield Verdict(
            "number_type", True, seen, "it holds other numbers, or something else",
            "state layout.dtype and layout.byte_order, or write the points as .npy",
        )  # fmt: skip
        return
    dtype, order = other
    stated = f"layout.dtype={dtype}" if dtype != layout.dtype else ""
    if order != layout.byte_order:
        stated += f"{' ' if stated else ''}layout.byte_order={order}"
    whole = dtype.startswith("int")
    yield Verdict(
        "number_type", True, seen, f"as {dtype}, {order}-endian, they are plausible",
        f"state {stated}" + (" and layout.scale, metres per unit" if whole else ""),
    )  # fmt: skip


def as_numbers(head: bytes, dtype: str, byte_order: str) -> np.ndarray:
    """Read bytes as numbers (K,); drop the remainder."""
    kind = np.dtype(dtype).newbyteorder("<" if byte_order == "little" else ">")
    return np.frombuffer(head[: len(head) // kind.itemsize * kind.itemsize], kind)


def odd_share(numbers: np.ndarray) -> float:
    """Share of numbers neither 0 nor of plausible size; NaN does not count."""
    with np.errstate(invalid="ignore"):  # of some NaNs
        size = np.abs(numbers.astype(np.float64))
    size = size[~np.isnan(size)]
    plausible = (size == 0) | ((size > _SMALLEST) & (size < _LARGEST))
    return 1.0 - float(plausible.mean()) if len(size) else 1.0


def _likely_type(head: bytes) -> tuple[str, str] | None:
    """The type with plausible numbers, None if there is none."""
    for dtype, order in _FLOATS:
        if odd_share(as_numbers(head, dtype, order)) <= _TIDY:
            return dtype, order
    # Any bytes are plausible small whole numbers, so also require that neighbours are alike.
    for dtype in ("int32", "int16"):  # the halves of small int32 are alike as well
        alike = {
            order: repetition(numbers)
            for order in _ORDERS
            if odd_share(numbers := as_numbers(head, dtype, order)) <= _TIDY
        }
        best = max(alike, key=lambda order: alike[order], default=None)
        if best is not None and alike[best] > _ALIKE:
            return dtype, best
    return None


def repetition(numbers: np.ndarray) -> float:
    """Similarity of neighbouring points, for the best number of columns from 3 to 8: -1 to 1."""
    values = numbers.astype(np.float64)
    values = np.sign(values) * np.log1p(np.abs(values))
    best = -1.0
    for columns in range(3, 9):
        later, earlier = values[columns:], values[:-columns]
        if len(later) > 1 and later.std() and earlier.std():
            best = max(best, float(np.corrcoef(later, earlier)[0, 1]))
    return best
