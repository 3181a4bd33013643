"""Label files: raw or ``.npy`` of any integer type, or a field of the point file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.formats import npy
from rangeseg.datasets.formats.files import file_size, reason
from rangeseg.datasets.layout import LabelType, Layout
from rangeseg.errors import DataError

_NPY = b"\x93NUMPY"
_COLOUR = 0xFFFFFF


def raw_label_type(layout: Layout) -> np.dtype:
    """The type of one label in a raw label file, in the file's byte order."""
    dtype = np.dtype("uint32" if layout.label_type == "colour" else layout.label_type)
    return dtype.newbyteorder("<" if layout.byte_order == "little" else ">")


def written_label_type(layout: Layout) -> np.dtype:
    """The type of raw ids in prediction files: that of the labels, if it is an integer type.

    If ``LabelMap`` reads the whole value as the class, it also does for this type.
    """
    whole = {"colour": "int32", "float32": "int32", "float64": "int64"}
    return np.dtype(whole.get(layout.label_type, layout.label_type))


def check_label_file(path: Path, points_path: Path, points: int, layout: Layout) -> None:
    """Check that a label file has one label for each of ``points`` points, by its size.

    Raises:
        DataError: it is missing or truncated, or has another number of labels.
    """
    size = file_size(path)
    if size is None:
        raise DataError(
            f"{path} does not exist but {points_path.name} does: copy the labels there, "
            "or leave the scan out of the labelled list",
            kind="missing",
        )
    if (values := open_npy_labels(path)) is not None:
        _check_number(path, len(values), points_path, points, "")
        return
    width = raw_label_type(layout).itemsize
    fits = size // points if size % points == 0 and size // points in (1, 2, 4, 8) else 0
    hint = f", or labels are {fits} bytes wide (layout.label_type)" if fits else ""
    if size % width:
        raise DataError(
            f"{path} has {size} bytes, not a multiple of {width} (1 {layout.label_type} per "
            f"label): the file is truncated; copy it again (or labels are not "
            f"{layout.label_type}{hint})",
            kind="truncated",
        )
    _check_number(path, size // width, points_path, points, hint)


def _check_number(path: Path, labels: int, points_path: Path, points: int, hint: str) -> None:
    if labels != points:
        raise DataError(
            f"{path} has {labels} labels but {points_path.name} has {points} points: "
            f"re-extract the sequence{hint}",
            kind="mismatch",
        )


def read_labels(path: Path, points_path: Path, points: int, layout: Layout) -> np.ndarray:
    """The raw labels (N,) of a file, as ``LabelMap`` takes them; see ``check_label_file``.

    Raises:
        DataError: the file is missing, truncated or cannot be read, has another number of
            labels than points, or holds no whole numbers.
    """
    check_label_file(path, points_path, points, layout)
    try:
        values = np.load(path) if _is_npy(path) else np.fromfile(path, raw_label_type(layout))
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None
    return whole_labels(values, layout.label_type, path)


def whole_labels(values: np.ndarray, label_type: LabelType, path: Path) -> np.ndarray:
    """Labels (N,) of a file or of a field as ``LabelMap`` takes them.

    Args:
        values: (N,), or (N,1), or (N,3) red, green and blue where ``label_type`` is ``colour``.
        label_type: only ``colour`` matters: the array has its own type.
        path: path for the message.

    Returns:
        (N,): unsigned integers up to 32 bits unchanged; int64 for all others.

    Raises:
        DataError: they are no whole numbers.
    """
    if label_type == "colour":
        return _packed_colours(values, path)
    if values.dtype.kind not in "iuf" or values.size != len(values):
        raise DataError(
            f"{path} holds labels of type {values.dtype} and shape {values.shape}, expected one "
            "whole number a point: write them so (colours: layout.label_type=colour)"
        )
    values = values.reshape(-1)
    if values.dtype.kind == "f":
        odd = ~(np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2.0**53))
        if odd.any():
            raise DataError(
                f"{path} holds the label {values[odd][0]:g}, which is no whole number: check "
                "layout.label_type, or which field holds the labels"
            )
    elif values.dtype.kind == "u" and values.dtype.itemsize <= 4:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.astype(np.int64)


def _packed_colours(values: np.ndarray, path: Path) -> np.ndarray:
    """0xRRGGBB (N,) int64, from whole numbers, floats with the same bits, or three columns."""
    if values.ndim == 2 and values.shape[1] in (3, 4) and values.dtype == np.uint8:
        red, green, blue = values[:, :3].T.astype(np.int64)
        packed: np.ndarray = red << 16 | green << 8 | blue
        return packed
    if values.size != len(values) or values.dtype.itemsize < 4:
        raise DataError(
            f"{path} holds {values.dtype} of shape {values.shape}, expected one packed colour "
            "0xRRGGBB of four bytes a point, or (N, 3) uint8: check layout.label_type"
        )
    values = np.ascontiguousarray(values.reshape(-1))
    if values.dtype.kind == "f":  # as PCL keeps colours in `rgb`
        values = values.astype(np.float32, copy=False).view(np.uint32)
    return values.astype(np.int64) & _COLOUR


def open_npy_labels(path: Path) -> np.ndarray | None:
    """Open the labels of a ``.npy`` file, not read yet; None for another file.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    return np.atleast_1d(npy.open_array(path)) if _is_npy(path) else None


def _is_npy(path: Path) -> bool:
    """Whether a label file is NumPy's, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_NPY)) == _NPY
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None
