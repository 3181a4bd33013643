"""Prediction files from ``predict`` or other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.formats.files import reason
from rangeseg.datasets.labels import IGNORE
from rangeseg.errors import DataError


def read_prediction(source: ScanSource, path: Path, points: int, as_labels: bool) -> np.ndarray:
    """Read the train ids (N,) uint8 of a prediction file.

    Args:
        source: data set that encoded the file, by ``encode_prediction`` or ``encode_labels``.
        path: path of the file.
        points: N.
        as_labels: whether ids are those of the label files, with ignored ones, as in pseudo-labels;
            else those of the benchmark, if different.

    Raises:
        DataError: the file is missing, of another length, or holds unknown ids.
    """
    classes = np.arange(source.info.label_map.num_classes, dtype=np.uint8)
    labels, prediction = source.encode_labels(classes), source.encode_prediction(classes)
    written = labels if as_labels else prediction
    try:
        size, expected = path.stat().st_size, points * written.dtype.itemsize
        if size != expected:
            raise DataError(
                f"{path} has {size} bytes, expected {expected}: one {written.dtype} for each of "
                f"the {points} points of the scan; it is of another type or of other data",
                kind="mismatch",
            )
        values = np.fromfile(path, dtype=written.dtype)
    except OSError as error:
        raise DataError(
            f"{path} {reason(error)}: predict it, or name another --split", kind="missing"
        ) from None
    if as_labels or np.array_equal(labels, prediction):
        return source.info.label_map.to_train(values, where=str(path))
    if not np.isin(values, written).all():
        wrong = values[~np.isin(values, written)][0]
        raise DataError(f"{path} holds the id {wrong}, which is no class: predict again")
    table = np.full(1 << 16, IGNORE, dtype=np.uint8)
    table[written] = classes
    found: np.ndarray = table[values]
    return found


def read_confidence(folder: Path, path: Path, points: int) -> np.ndarray | None:
    """Read the confidences (N,) float32 of a prediction file; None if none were written.

    Args:
        folder: of the predictions.
        path: the prediction file, below it.
        points: N.

    Raises:
        DataError: their number differs from the points'.
    """
    file = (folder / "confidence" / path.relative_to(folder)).with_suffix(".float16")
    if not file.is_file():
        return None
    confidence = np.fromfile(file, dtype="<f2").astype(np.float32)
    if len(confidence) != points:
        raise DataError(
            f"{file} has {len(confidence)} values but the scan has {points} points: predict again",
            kind="mismatch",
        )
    return confidence
