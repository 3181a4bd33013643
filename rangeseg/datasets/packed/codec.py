"""Encode a scan as columns of numbers, compressed with Blosc2.

A scan is the sizes of five Blosc2 chunks, then the chunks; an absent chunk has size 0:

    steps        (3,N) uint32    x, y and z in millimetres, as differences to the previous point
    intensities  (N,) uint8      indices into the table, or (N,) float32 without one
    table        (256,) float32  all intensities of the scan, if at most 256 differ
    labels       (N,) uint8
    ring         (N,) int32

A difference d is stored as 2d, or as -2d - 1 if negative, so small ones begin with zeros.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.scan_files import measured
from rangeseg.geometry.kernel import as_points, kernel

_STEPS_PER_M = 1000
_NOWHERE = np.iinfo(np.int32).min  # code of a NaN coordinate

COORDINATE_ERROR_M = 0.5 / _STEPS_PER_M
"""Half a step; float32 adds up to 4e-6 m within 128 m."""

_SIZES = struct.Struct("<5I")  # bytes of each chunk
_HEADER = 32  # bytes of a Blosc2 chunk before its content


def encode_scan(scan: Scan) -> bytes:
    """Encode a scan as bytes; the index keeps its id and number of points.

    Args:
        scan: a scan from a source, with at least one point.
    """
    points = measured(as_points(scan.points).copy(), 1.0)
    places = np.rint(points[:, :3].T.astype(np.float64) * _STEPS_PER_M)
    places[np.isnan(places)] = _NOWHERE
    steps = np.diff(places.astype(np.int32), axis=1, prepend=np.int32(0))
    intensities, table = _by_table(np.ascontiguousarray(points[:, 3]))
    chunks = [
        b"" if values is None else _compress(values)
        for values in (steps << 1 ^ steps >> 31, intensities, table, scan.labels, scan.ring)
    ]
    return _SIZES.pack(*map(len, chunks)) + b"".join(chunks)


def decode_scan(content: np.ndarray, scan_id: str, points: int, with_labels: bool) -> Scan:
    """The scan that ``encode_scan`` packed.

    Args:
        content: (B,) uint8 from any origin; invalid bytes are refused.
        scan_id: id of the scan.
        points: number of points.
        with_labels: whether labels are wanted.

    Returns:
        The scan; labels None if it has none or they are not wanted.

    Raises:
        ValueError: the bytes are not such a scan; the message gives the reason.
    """
    if len(content) < _SIZES.size:
        raise ValueError(f"it has {len(content)} bytes")
    sizes = _SIZES.unpack(content[: _SIZES.size].tobytes())
    if _SIZES.size + sum(sizes) != len(content):
        raise ValueError(f"its parts have {_SIZES.size + sum(sizes)} bytes, not {len(content)}")
    chunks = np.split(content[_SIZES.size :], np.cumsum(sizes[:-1]))
    steps, intensities, table, labels, ring = chunks
    differences = _decompress(steps, (3, points), np.uint32)
    if len(table):
        numbers = _decompress(intensities, (points,), np.uint8)
        values = _decompress(table, (256,), np.float32)
    else:
        numbers = np.arange(points, dtype=np.uint32)
        values = _decompress(intensities, (points,), np.float32)
    decoded = np.empty((points, 4), dtype=np.float32)
    _restore(differences, numbers, values, decoded)
    return Scan(
        scan_id,
        decoded,
        _decompress(labels, (points,), np.uint8) if with_labels and len(labels) else None,
        _decompress(ring, (points,), np.int32) if len(ring) else None,
    )


def _by_table(intensities: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Table indices (N,) uint8 and the table (256,), or the intensities (N,) and None."""
    different = np.unique(intensities)
    if len(different) > 256:
        return intensities, None
    table = np.resize(different, 256)
    return np.searchsorted(different, intensities).astype(np.uint8), table


@kernel
def _restore(
    steps: np.ndarray, numbers: np.ndarray, values: np.ndarray, points: np.ndarray
) -> None:
    """Fill points (N,4) from steps (3,N) and table indices (N,) of their intensities."""
    x, y, z = np.int32(0), np.int32(0), np.int32(0)
    for i in range(points.shape[0]):
        x, y, z = _after(x, steps[0, i]), _after(y, steps[1, i]), _after(z, steps[2, i])
        points[i, 0], points[i, 1], points[i, 2] = _metres(x), _metres(y), _metres(z)
        points[i, 3] = values[numbers[i]]


@kernel
def _after(place: np.int32, step: np.uint32) -> np.int32:
    """The next coordinate; it wraps around as the differences do."""
    return np.int32(place + ((step >> 1) ^ -(step & 1)))


@kernel
def _metres(place: np.int32) -> float:
    return np.nan if place == _NOWHERE else float(place) * (1.0 / _STEPS_PER_M)


def _compress(values: np.ndarray) -> bytes:
    """A Blosc2 chunk."""
    import blosc2

    chunk: bytes = blosc2.compress2(
        np.ascontiguousarray(values),
        typesize=values.itemsize,
        codec=blosc2.Codec.LZ4HC,
        clevel=3,
        filters=[blosc2.Filter.BITSHUFFLE],
        filters_meta=[0],
        nthreads=1,
    )
    return chunk


def _decompress(chunk: np.ndarray, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The values of a Blosc2 chunk.

    Raises:
        ValueError: it holds another number of bytes, or is damaged.
    """
    import blosc2

    values = np.empty(shape, dtype)
    # Check first: Blosc2 writes as much as the chunk claims, whatever the array's size.
    sizes = (values.nbytes, len(chunk))
    if len(chunk) < _HEADER or blosc2.get_cbuffer_sizes(chunk)[:2] != sizes:
        raise ValueError(f"a part does not hold {values.nbytes} bytes")
    blosc2.decompress2(chunk, dst=values, nthreads=1)  # loaders use all cores
    return values
