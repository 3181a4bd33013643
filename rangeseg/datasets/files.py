"""Files of points and labels: their sizes, their content, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from rangeseg.errors import DataError

LabelType = Literal["uint8", "uint16", "uint32"]


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
        count = len(_load_npy(path, columns))
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
    return count


def read_points(path: Path, columns: int) -> np.ndarray:
    """The points of a file, (N, columns) float32; see ``count_points``.

    Raises:
        DataError: the file is missing, truncated, empty or cannot be read.
    """
    count_points(path, columns)
    try:
        if path.suffix == ".npy":
            return np.ascontiguousarray(_load_npy(path, columns), dtype=np.float32)
        return np.fromfile(path, dtype="<f4").reshape(-1, columns)
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def npy_columns(path: Path) -> int:
    """How many values each point of a ``.npy`` file has.

    Raises:
        DataError: the file is damaged, or does not hold points.
    """
    return int(_load_npy(path, None).shape[1])


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
        return np.fromfile(path, dtype=np.dtype(label_type).newbyteorder("<"))
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None


def _load_npy(path: Path, columns: int | None) -> np.ndarray:
    """A mapped ``.npy`` file (N, columns); its size is checked against its header."""
    try:
        points: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is not a whole .npy file of numbers ({' '.join(str(error).split())}): "
            "write it again with numpy.save",
            kind="truncated",
        ) from None
    fits = points.ndim == 2 and columns in (None, points.shape[1])
    if not fits or points.dtype.kind != "f":
        raise DataError(
            f"{path} holds {points.dtype} of shape {points.shape}, expected floats of shape "
            f"(N, {columns or 'columns'}): state the right number of columns, or write it again"
        )
    return points
