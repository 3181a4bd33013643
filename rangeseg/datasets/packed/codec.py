"""How a packed scan is coded: small differences in whole millimetres, a byte each.

A point is four bytes: x, y and z as differences, in millimetres, to the point before it, and the
number of its intensity in a table. What does not fit into a byte goes on in ``extra``, in the order
of the points. Where the file does not list one beam after the other, each point also names its lane
(its beam, or a slice of inclinations), and differences are to the last point of the same lane.
"""

from __future__ import annotations

import struct

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.packed.kernels import (
    RAW,
    STEPS_PER_M,
    decode_points,
    encode_points,
    tell_apart,
)
from rangeseg.datasets.scan_files import FARTHEST, measured
from rangeseg.geometry.kernel import as_points

COORDINATE_ERROR_M = 0.5 / STEPS_PER_M
"""Half a step; float32 itself adds up to 4e-6 m within 128 m."""

INTENSITY_ERROR = 0.5 / 254
"""Of intensities in 0..1 where a scan has more than 256 different ones; else there is none."""

LEAST_BYTES = 4
"""Of a point: what a scan's size allows bounds what is allocated for it."""

_HEADER = struct.Struct("<IIHH")  # bytes of extra, of labels; intensities in the table; flags
_LANES, _RING, _LABELS, _RUNS = 1, 2, 4, 8

_MOST_EXTRA = 16  # bytes of extra for a point


def encode_scan(scan: Scan) -> bytes:
    """A scan as bytes; its id and its number of points are kept elsewhere.

    Args:
        scan: as a source reads it; what ``measured`` would change is changed.

    Raises:
        ValueError: it has no point, or a beam beyond 255.
    """
    points = measured(as_points(scan.points).copy(), 1.0)
    if len(points) == 0:
        raise ValueError("has no point")
    table, numbers = _intensities(points[:, 3])
    flags, sections = 0, [table.astype("<f4").tobytes()]
    if scan.ring is not None:
        if scan.ring.min() < 0 or scan.ring.max() > 255:
            raise ValueError(f"names beams from {scan.ring.min()} to {scan.ring.max()}, not 0..255")
        lanes = scan.ring.astype(np.uint8)
        flags |= _RING
    else:
        lanes = _slices(points) if _gains_by_slices(points) else np.zeros(0, dtype=np.uint8)
        flags |= _LANES if len(lanes) else 0
    codes, extra = _encode(points, numbers, lanes)
    labels = b""
    if scan.labels is not None:
        runs = _to_runs(scan.labels)
        flags |= _LABELS | (_RUNS if len(runs) < len(points) else 0)
        labels = runs if flags & _RUNS else scan.labels.astype(np.uint8).tobytes()
    header = _HEADER.pack(len(extra), len(labels), len(table), flags)
    sections += [codes.tobytes(), lanes.tobytes(), extra.tobytes(), labels]
    return header + b"".join(sections)


def decode_scan(content: np.ndarray, scan_id: str, points: int, with_labels: bool) -> Scan:
    """The scan that ``encode_scan`` coded.

    Nothing is taken on trust: whatever the bytes are, nothing outside of them is read.

    Args:
        content: (B,) uint8, writable and contiguous.
        scan_id: its id.
        points: how many it has; not more than B / LEAST_BYTES.
        with_labels: whether labels are wanted.

    Returns:
        The scan; labels None where it has none or they are not wanted.

    Raises:
        ValueError: this is no such scan; the message says why.
    """
    if len(content) < _HEADER.size:
        raise ValueError(f"{len(content)} bytes are no scan")
    extra_size, label_size, intensities, flags = _HEADER.unpack(content[: _HEADER.size].tobytes())
    has_lanes = bool(flags & (_LANES | _RING))
    sizes = [
        _HEADER.size, 4 * intensities, LEAST_BYTES * points, points * has_lanes, extra_size,
        label_size,
    ]  # fmt: skip
    if intensities > RAW or flags >= 2 * _RUNS or sum(sizes) != len(content):
        raise ValueError(f"its parts have {sum(sizes)} bytes and not {len(content)}")
    _, table, codes, lanes, extra, labels = np.split(content, np.cumsum(sizes[:-1]))
    values = np.full(256, np.nan, dtype=np.float32)
    values[:intensities] = np.frombuffer(table.tobytes(), dtype="<f4")
    values[np.abs(values) > FARTHEST] = np.nan
    decoded = np.empty((points, 4), dtype=np.float32)
    bytes_of = decoded.view(np.uint8)
    bytes_used = decode_points(codes.reshape(points, 4), lanes, extra, values, decoded, bytes_of)
    if bytes_used != extra_size:
        raise ValueError("its coordinates are not coded as they should be")
    return Scan(
        scan_id,
        decoded,
        _labels(labels, points, bool(flags & _RUNS)) if with_labels and flags & _LABELS else None,
        lanes.astype(np.int32) if flags & _RING else None,
    )


def _intensities(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A table of intensities (T,) float32, T <= 255, and the number in it (N,) uint8 of each value.

    It holds the values themselves where they are few, else steps from 0 to 1.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    different, numbers = np.empty(256, dtype=np.uint32), np.empty(len(bits), dtype=np.uint8)
    found = tell_apart(bits, different, numbers)
    if found <= 256:
        return different[: min(found, RAW)].view(np.float32), numbers
    inside = (values >= 0.0) & (values <= 1.0)
    steps = np.rint(np.where(inside, values, 0.0) * np.float32(RAW - 1))
    table = np.linspace(0.0, 1.0, RAW, dtype=np.float32)
    return table, np.where(inside, steps, RAW).astype(np.uint8)


def _gains_by_slices(points: np.ndarray) -> bool:
    """Whether naming a lane costs less than it saves, judged by the first points."""
    few = points[: max(1, len(points) // 8)]
    numbers = np.zeros(len(few), dtype=np.uint8)
    _, extra = _encode(few, numbers, np.zeros(0, dtype=np.uint8))
    _, by_slice = _encode(few, numbers, _slices(few))
    return len(few) + len(by_slice) < len(extra)


def _slices(points: np.ndarray) -> np.ndarray:
    """For each point (N,) uint8 the slice of its inclination."""
    depth = np.sqrt(np.square(points[:, :3]).sum(axis=1))
    seen = depth > 0  # not so where a coordinate is NaN
    sine = np.divide(points[:, 2], depth, out=np.zeros_like(depth), where=seen)
    low, high = np.quantile(sine[:: max(1, len(sine) // 4096)], (0.01, 0.99))
    slices = np.clip((sine - low) / max(high - low, 1e-3) * 255, 0, 255)
    return np.asarray(slices, dtype=np.uint8)


def _encode(
    points: np.ndarray, numbers: np.ndarray, lanes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The codes (N,4) uint8 and what does not fit into them (E,) uint8."""
    codes = np.empty((len(points), 4), dtype=np.uint8)
    extra = np.empty(_MOST_EXTRA * len(points), dtype=np.uint8)
    used = encode_points(points, points.view(np.uint8), numbers, lanes, codes, extra)
    return codes, extra[:used]


def _to_runs(labels: np.ndarray) -> bytes:
    """Labels (N,) as pairs of bytes: a label, and how many points in a row have it."""
    first = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1])
    lengths = np.diff(first, append=len(labels))
    pieces = -(-lengths // 255)
    runs = np.full((int(pieces.sum()), 2), 255, dtype=np.uint8)
    runs[:, 0] = np.repeat(labels[first], pieces)
    runs[np.cumsum(pieces) - 1, 1] = lengths - 255 * (pieces - 1)
    return runs.tobytes()


def _labels(content: np.ndarray, points: int, in_runs: bool) -> np.ndarray:
    """The labels (N,) uint8.

    Raises:
        ValueError: there is another number of them.
    """
    labels = content
    if in_runs:
        values, lengths = content[: len(content) // 2 * 2].reshape(-1, 2).T
        # Counted first: a few bytes may promise much.
        if len(content) % 2 or int(lengths.sum(dtype=np.int64)) != points:
            raise ValueError("its labels are not coded as they should be")
        labels = np.repeat(values, lengths)
    if len(labels) != points:
        raise ValueError(f"{len(labels)} labels for {points} points")
    return np.ascontiguousarray(labels)
