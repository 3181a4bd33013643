"""Files of points and labels: their sizes, their content, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.errors import DataError, one_line
from rangeseg.geometry.kernel import kernel

LabelType = Literal["uint8", "uint16", "uint32"]

MOST_POINTS = 1 << 24
"""No sensor has as many in a turn; a larger file is something else, and would fill the memory."""

FARTHEST = np.float32(1e6)
"""Coordinates (metres) and intensities beyond this are no measurements."""

_KNOWN, _IGNORED = np.uint8(0), np.uint8(IGNORE)
_NO_SIZE, _SIZE, _INFINITE_SIZE = np.uint32(0), np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)


def file_size(path: Path) -> int | None:
    """Bytes of a file, None where there is none.

    Raises:
        DataError: the file cannot be looked at.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def reason(error: OSError) -> str:
    """What an operating system's error means, to stand behind the file's name."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read ({error.strerror or error})"


def count_points(path: Path, columns: int) -> int:
    """How many points a file holds, by its size (``.npy``: by its header).

    Args:
        path: raw little-endian float32, or ``.npy`` of shape (N, columns).
        columns: values of each point.

    Raises:
        DataError: the file is missing or truncated, or holds no point.
    """
    size = file_size(path)
    if size is None:
        raise DataError(
            f"{path} does not exist: check the scan's id or copy the sequence again", kind="missing"
        )
    if path.suffix == ".npy":
        count = npy_shape(path, columns)[0]
    elif size % (4 * columns):
        raise DataError(
            f"{path} has {size} bytes, not a multiple of {4 * columns} "
            f"({columns} float32 per point): the file is truncated; copy it again (or a point has "
            f"another number of values than {columns})",
            kind="truncated",
        )
    else:
        count = size // (4 * columns)
    if count == 0:
        raise DataError(f"{path} is empty: the scan has no point; copy it again", kind="truncated")
    if count > MOST_POINTS:
        raise DataError(
            f"{path} has {count:,} points, more than one turn of any sensor ({MOST_POINTS:,}): "
            "write one file for each turn, or state the right number of columns"
        )
    return count


def read_points(path: Path, columns: int) -> np.ndarray:
    """The points of a file, (N, columns) float32; see ``count_points``.

    Raises:
        DataError: the file is missing, truncated, empty or cannot be read.
    """
    count_points(path, columns)
    try:
        values = np.load(path) if path.suffix == ".npy" else np.fromfile(path, "<f4")
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None
    with np.errstate(all="ignore"):  # what float32 cannot hold is not a number or infinite
        return np.ascontiguousarray(values.reshape(-1, columns), dtype=np.float32)


def measured(points: np.ndarray, intensity_max: float) -> np.ndarray:
    """Scale intensities to 0..1; a coordinate beyond ±FARTHEST becomes NaN, such an intensity 0.

    Without a position a point is not projected, but gets a prediction like every other. Without an
    intensity it is where it is: some devices write NaN. One finite intensity of 1e38 would make
    the image infinite, and with it what the network says of the whole scan.

    Args:
        points: (N,4) float32; changed in place.
        intensity_max: what the file writes for the brightest echo.

    Returns:
        The same points.
    """
    if intensity_max != 1.0:
        with np.errstate(all="ignore"):  # NaN and the like are allowed here
            points[:, 3] /= np.float32(intensity_max)
    if _any_beyond(points.ravel()):
        points[np.abs(points) > FARTHEST] = np.nan
        points[np.isnan(points[:, 3]), 3] = 0.0
    return points


@kernel
def _any_beyond(values: np.ndarray) -> bool:
    """Whether a value is NaN or beyond ±FARTHEST; without NumPy's memory for the answer."""
    found = False
    for i in range(values.shape[0]):
        found |= not abs(values[i]) <= FARTHEST
    return found


@kernel
def ignore_empty(points: np.ndarray, labels: np.ndarray) -> None:
    """Make the label IGNORE of each point without a position: (0, 0, 0) or not finite.

    Args:
        points: (N,4) float32, contiguous and ``measured``.
        labels: (N,) uint8; changed in place.
    """
    # Numbers without their sign: their bits grow with them, and infinity and NaN come last.
    values = points.view(np.uint32).ravel()
    for i in range(labels.shape[0]):
        x, y, z = values[4 * i] & _SIZE, values[4 * i + 1] & _SIZE, values[4 * i + 2] & _SIZE
        largest = max(x, max(y, z))
        known = (largest > _NO_SIZE) & (largest < _INFINITE_SIZE)
        labels[i] |= _KNOWN if known else _IGNORED  # whose bits are all set


def check_label_file(path: Path, points_path: Path, points: int, label_type: LabelType) -> None:
    """Check that a label file has one label for each of ``points`` points, by its size.

    Raises:
        DataError: it is missing or truncated, or has another number of labels.
    """
    width = np.dtype(label_type).itemsize
    size = file_size(path)
    if size is None:
        raise DataError(
            f"{path} does not exist but {points_path.name} does: copy the labels there, "
            "or leave the scan out of the labelled list",
            kind="missing",
        )
    if size % width:
        raise DataError(
            f"{path} has {size} bytes, not a multiple of {width} (1 {label_type} per label): "
            f"the file is truncated; copy it again (or labels are not {label_type})",
            kind="truncated",
        )
    if size // width != points:
        raise DataError(
            f"{path} has {size // width} labels but {points_path.name} has "
            f"{points} points: re-extract the sequence",
            kind="mismatch",
        )


def read_labels(path: Path, points_path: Path, points: int, label_type: LabelType) -> np.ndarray:
    """The raw labels (N,) of ``label_type``; see ``check_label_file``.

    Raises:
        DataError: the file is missing, truncated or cannot be read, or has another number of
            labels than points.
    """
    check_label_file(path, points_path, points, label_type)
    try:
        return np.fromfile(path, np.dtype(label_type).newbyteorder("<"))
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def read_train_labels(
    path: Path, points_path: Path, points: np.ndarray, label_type: LabelType, label_map: LabelMap
) -> np.ndarray:
    """The train ids (N,) uint8 of points (N,4); IGNORE for points without a position.

    Raises:
        DataError: see ``read_labels``, or the data set does not define an id.
    """
    raw_labels = read_labels(path, points_path, len(points), label_type)
    labels = label_map.to_train(raw_labels, where=str(path))
    ignore_empty(points, labels)
    return labels


def npy_shape(path: Path, columns: int | None = None) -> tuple[int, int]:
    """The shape of the points in a whole ``.npy`` file, (N, columns), by its header and size.

    Raises:
        DataError: the file is damaged, or does not hold points.
    """
    try:
        values = np.load(path, mmap_mode="r")  # checks the size and reads no value
        shape: tuple[int, int] = values.shape
        dtype = values.dtype
    except Exception as error:  # the header is a Python literal; its parser raises nearly anything
        raise DataError(
            f"{path} is not a whole .npy file of numbers ({one_line(error)}): write it again with "
            "numpy.save",
            kind="truncated",
        ) from None
    if len(shape) != 2 or columns not in (None, shape[1]) or dtype.kind != "f":
        raise DataError(
            f"{path} holds {dtype} of shape {shape}, expected floats of shape "
            f"(N, {columns or 'columns'}): state the right number of columns, or write it again"
        )
    return shape
