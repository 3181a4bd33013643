"""The loops over points and bytes of a packed scan.

What a byte says of a coordinate:

    byte         difference in mm
    0 - 191      byte - 96
    192 - 221    96 + 256 (byte - 192) + the next byte of extra
    222 - 251    -97 - 256 (byte - 222) - the next byte of extra
    252          none: the next four bytes of extra are the coordinate, int32
    253          none: the coordinate is NaN
"""

from __future__ import annotations

import numpy as np

from rangeseg.datasets.scan_files import FARTHEST
from rangeseg.geometry.kernel import kernel

STEPS_PER_M = 1000

RAW = 255
"""The number of an intensity that is not in the table: its float32 is in extra."""

_DIRECT, _UP, _DOWN, _WIDE, _NAN = 96, 192, 222, 252, 253
_LONG = _DIRECT + 256 * (_DOWN - _UP)  # from here on, either way, a difference is wide
_FARTHEST_STEP = int(FARTHEST) * STEPS_PER_M


@kernel
def encode_points(
    points: np.ndarray,
    bytes_of: np.ndarray,
    numbers: np.ndarray,
    lanes: np.ndarray,
    codes: np.ndarray,
    extra: np.ndarray,
) -> int:
    """Fill codes (N,4) and extra; returns how many bytes of extra are used."""
    last = np.zeros((256, 3), dtype=np.int64)
    used = 0
    lane = 0
    for i in range(points.shape[0]):
        if lanes.size > 0:
            lane = int(lanes[i])
        for k in range(3):
            metres = float(points[i, k])
            if metres != metres:
                codes[i, k] = _NAN
                continue
            place = int(np.rint(metres * STEPS_PER_M))
            step = place - last[lane, k]
            last[lane, k] = place
            if -_DIRECT <= step < _DIRECT:
                codes[i, k] = step + _DIRECT
            elif -_LONG <= step < _LONG:
                beyond = step - _DIRECT if step > 0 else -step - _DIRECT - 1
                codes[i, k] = (_UP if step > 0 else _DOWN) + (beyond >> 8)
                extra[used] = beyond & 255
                used += 1
            else:
                codes[i, k] = _WIDE
                for b in range(4):
                    extra[used + b] = (place >> (8 * b)) & 255
                used += 4
        codes[i, 3] = numbers[i]
        if numbers[i] == RAW:
            extra[used : used + 4] = bytes_of[i, 12:16]
            used += 4
    return used


@kernel
def decode_points(
    codes: np.ndarray,
    lanes: np.ndarray,
    extra: np.ndarray,
    table: np.ndarray,
    points: np.ndarray,
    bytes_of: np.ndarray,
) -> int:
    """Fill points (N,4); returns how many bytes of extra were used, -1 if a code is none."""
    last = np.zeros((256, 3), dtype=np.int64)
    used = 0
    lane = 0
    for i in range(points.shape[0]):
        if lanes.size > 0:
            lane = int(lanes[i])
        for k in range(3):
            code = int(codes[i, k])
            if code < _UP:
                place = last[lane, k] + code - _DIRECT
            elif code < _WIDE:
                if used >= extra.size:
                    return -1
                beyond = int(extra[used]) + 256 * ((code - _UP) % (_DOWN - _UP)) + _DIRECT
                used += 1
                place = last[lane, k] + (beyond if code < _DOWN else -beyond - 1)
            elif code == _NAN:
                points[i, k] = np.nan
                continue
            else:
                if code != _WIDE or used + 4 > extra.size:
                    return -1
                place = int(extra[used]) | int(extra[used + 1]) << 8 | int(extra[used + 2]) << 16
                high = int(extra[used + 3])
                place += (high - 256 if high > 127 else high) << 24
                used += 4
            if place > _FARTHEST_STEP or place < -_FARTHEST_STEP:
                return -1
            last[lane, k] = place
            points[i, k] = place * (1.0 / STEPS_PER_M)
        points[i, 3] = table[codes[i, 3]]
        if codes[i, 3] == RAW:
            if used + 4 > extra.size:
                return -1
            for b in range(4):
                bytes_of[i, 12 + b] = extra[used + b]
            used += 4
            if abs(points[i, 3]) > FARTHEST:
                return -1
    return used


@kernel
def tell_apart(bits: np.ndarray, different: np.ndarray, numbers: np.ndarray) -> int:
    """List the different ones of bits (N,) uint32 and number all; returns how many, 257 if more."""
    slots = np.full(1024, -1, dtype=np.int64)
    found = 0
    for i in range(bits.size):
        slot = (int(bits[i]) * 2654435761 >> 22) & 1023
        while slots[slot] >= 0 and different[slots[slot]] != bits[i]:
            slot = (slot + 1) & 1023
        if slots[slot] < 0:
            if found == 256:
                return 257
            slots[slot] = found
            different[found] = bits[i]
            found += 1
        numbers[i] = slots[slot]
    return found
