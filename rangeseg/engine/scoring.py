"""Score predictions of any program from its label files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from rangeseg.datasets.bad_scans import BadScan, BadScans, OnBadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.prediction_files import read_confidence, read_prediction
from rangeseg.engine.calibration import Calibration
from rangeseg.engine.distance import ConfusionByDistance
from rangeseg.engine.evaluation import scans_to_evaluate
from rangeseg.engine.figures import point_figures
from rangeseg.engine.prediction_files import STAMP
from rangeseg.errors import DataError
from rangeseg.system.prefetch import map_ahead, threads
from rangeseg.system.progress import Progress


@dataclass(frozen=True)
class PredictionFiles:
    """The prediction file of each scan in a folder.

    Attributes:
        paths: scan id -> file.
        as_labels: whether ids are those of the data set's label files, not the benchmark's.
    """

    paths: Mapping[str, Path]
    as_labels: bool


def score(
    source: ScanSource,
    folder: Path,
    split: str,
    on_bad_scan: OnBadScan = "fail",
    reading: int = 2,
) -> dict[str, Any]:
    """Score prediction files against the labels of a split, with a progress bar.

    A point with an ignored id as prediction counts as missed, as in SemanticKITTI's evaluation.

    Args:
        source: the data set.
        folder: folder of the predictions, see ``find_predictions``.
        split: name of the split.
        on_bad_scan: ``fail`` on an unreadable scan, or leave it out of the metrics and name it in
            the result. An unreadable prediction always fails.
        reading: number of reading threads.

    Returns:
        The entries of ``evaluate`` that files allow: ``protocol``, ``miou`` (per cent: ``point``),
        the result of ``point_figures``, ``scans`` and ``skipped_scans``. Also the points with a
        class but no prediction: ``withheld`` per class, ``withheld_points`` in total. And
        ``calibration``, if every prediction has a confidence file.

    Raises:
        DataError: a prediction is missing, has another number of points than its scan, or holds an
            unknown id; or a scan cannot be read and may not be skipped.
    """
    info, scan_ids = source.info, scans_to_evaluate(source, split)
    files = find_predictions(source, folder, split, scan_ids)
    if on_bad_scan == "fail":  # otherwise a skipped scan may lack one
        _check_complete(files, split)
    points = ConfusionByDistance(info.label_map.num_classes)
    calibration: Calibration | None = Calibration()
    bad_scans, scans = BadScans(on_bad_scan, len(scan_ids)), 0
    read_one = partial(_read, source, folder, files)
    with Progress(f"score {split}", len(scan_ids), "scan") as progress, threads(reading) as pool:
        for read in map_ahead(pool, read_one, scan_ids, ahead=2 * reading):
            if isinstance(read, BadScan):
                bad_scans.add(read.scan_id, read.error)
                continue
            points.update(read.classes, read.labels, read.points)
            if read.confidence is None:
                calibration = None
            if calibration is not None and read.confidence is not None:
                calibration.update(read.confidence, read.classes, read.labels)
            scans += 1
            progress.update(note=f"mIoU {100 * points.total().miou(info.policy):.1f}")
    matrix = points.total()
    return {
        "protocol": {
            "dataset": info.name,
            "split": split,
            "policy": info.policy,
            "predictions": str(folder),
        },
        "miou": {"point": 100 * matrix.miou(info.policy)},
        **point_figures(points, info.label_map),
        **({"calibration": calibration.result()} if calibration else {}),
        "scans": scans,
        "skipped_scans": bad_scans.report(),
        "withheld": matrix.withheld.tolist(),
        "withheld_points": int(matrix.withheld.sum()),
    }


def find_predictions(
    source: ScanSource, folder: Path, split: str, scan_ids: list[str]
) -> PredictionFiles:
    """Find the predictions of scans in a folder, by the layout below with most files.

    1. The benchmark's, as from ``rangeseg predict``.
    2. The data set's label files', with their ids.
    3. A folder per sequence, with the benchmark's file names.
    4. All files in one folder, if their names differ.

    Args:
        source: the data set.
        folder: folder of the predictions.
        split: split of the scans.
        scan_ids: ids of the scans.

    Raises:
        DataError: it holds no prediction of these scans, or their labels.
    """
    if not folder.is_dir():
        unpack = "unpack it, and give its folder" if folder.is_file() else "give another one"
        raise DataError(f"{folder} is not a folder of predictions: {unpack}", kind="missing")
    benchmark = {i: source.prediction_file(i, split) for i in scan_ids}
    names = {i: PurePosixPath(file).name for i, file in benchmark.items()}
    layouts = [
        (benchmark, _holds_pseudo_labels(folder)),
        ({i: source.label_file(i) for i in scan_ids}, True),
        ({i: str(PurePosixPath(i).with_name(name)) for i, name in names.items()}, False),
    ]
    if len(set(names.values())) == len(names):
        layouts.append((names, False))
    best, most = layouts[0], 0
    for files, as_labels in layouts:
        found = sum((folder / file).is_file() for file in files.values())
        if found > most:
            best, most = (files, as_labels), found
    first = scan_ids[0]
    if not most:
        expected = " or ".join(dict.fromkeys(files[first] for files, _ in layouts))
        raise DataError(
            f"{folder} holds no prediction of the split {split}: expected {expected}, and so on",
            kind="missing",
        )
    files, as_labels = best
    prediction, labels = folder / files[first], source.root / source.label_file(first)
    if prediction.is_file() and labels.is_file() and os.path.samefile(prediction, labels):
        raise DataError(f"{labels} is no prediction but the label: give another folder")
    return PredictionFiles({i: folder / file for i, file in files.items()}, as_labels)


def _holds_pseudo_labels(folder: Path) -> bool:
    """Whether a folder is from ``rangeseg predict --min-confidence``."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and stamp.get("min_confidence") is not None


def _check_complete(files: PredictionFiles, split: str) -> None:
    missing = [path for path in files.paths.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} does not exist: {len(missing)} of {len(files.paths)} predictions of the "
            f"split {split} are missing: add them, or name another --split",
            kind="missing",
        )


class _Predicted(NamedTuple):
    """A scan (N points) with predicted classes and, if any, their confidence."""

    classes: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    confidence: np.ndarray | None


def _read(
    source: ScanSource, folder: Path, files: PredictionFiles, scan_id: str
) -> _Predicted | BadScan:
    """Read a scan with its prediction; return the fault of a bad scan."""
    try:
        scan = source.read_scan(scan_id)
    except DataError as error:
        return BadScan(scan_id, error)
    assert scan.labels is not None
    path = files.paths[scan_id]
    classes = read_prediction(source, path, len(scan.points), files.as_labels)
    confidence = read_confidence(folder, path, len(scan.points))
    return _Predicted(classes, scan.labels, scan.points, confidence)
