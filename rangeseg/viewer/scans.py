"""What is looked at: the scans of a data set, perhaps with predictions of a run or of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages
from rangeseg.engine.export import STAMP
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import CONFIG, read_run_config
from rangeseg.runs.trained import load_run


@dataclass(frozen=True)
class ScanView:
    """One scan with all that can be shown of it.

    Attributes:
        scan: its points, and its labels where it has any.
        prediction: (N,) uint8 class of every point, IGNORE where it was withheld; or None.
        confidence: (N,) float32 probability of that class, or None.
        covered: (N,) bool, whether the prediction is sure enough for a pseudo-label; or None.
        miou: of this scan in per cent, over the classes that occur; None without truth or
            prediction. A mean over all classes would say little about one scan.
        judged: share of the points with a known class whose prediction was not withheld: only
            they count in ``miou``.
    """

    scan: Scan
    prediction: np.ndarray | None = None
    confidence: np.ndarray | None = None
    covered: np.ndarray | None = None
    miou: float | None = None
    judged: float = 1.0


@dataclass(frozen=True)
class ScanViews:
    """A list of scans that can be looked at.

    Attributes:
        source: the data set.
        images: its range images.
        title: what is shown, e.g. the folder of the run.
        scan_ids: which scans, in order.
        read: scan id -> view.
        predicted: whether the views have predictions.
        confident: whether they have confidences.
    """

    source: ScanSource
    images: RangeImages
    title: str
    scan_ids: list[str]
    read: Callable[[str], ScanView]
    predicted: bool = False
    confident: bool = False

    def chosen(self, wanted: list[str], count: int | None) -> ScanViews:
        """Only these scans, or the first ``count``; all of the split if neither is given.

        Raises:
            ConfigError: a scan is not in the split.
        """
        ids = wanted or self.scan_ids
        known = set(self.scan_ids)
        for scan_id in ids:
            if scan_id not in known:
                raise ConfigError(
                    f"--scan {scan_id}: the split has no such scan; its {len(known)} scans go "
                    f"from {self.scan_ids[0]} to {self.scan_ids[-1]} (--split names another)"
                )
        return replace(self, scan_ids=ids[:count])


def open_views(
    target: Path,
    overrides: list[str],
    predictions: Path | None,
    split: str | None,
    min_confidence: float,
    device: torch.device,
) -> ScanViews:
    """What a path stands for.

    Args:
        target: the folder of a run or of exported predictions, or a configuration.
        overrides: ``key=value`` for a configuration.
        predictions: a folder in the benchmark's format, beside a configuration.
        split: whose scans; None takes the one of the predictions or of the configuration.
        min_confidence: from which a prediction would be a pseudo-label.
        device: where a run's network predicts.

    Raises:
        ConfigError: the path is none of these, or options do not fit to it.
        RangesegError: a run, data or a checkpoint cannot be read.
    """
    if target.is_dir():
        if overrides or predictions is not None:
            raise ConfigError("--set and --predictions go with a configuration, not with a folder")
        if (target / CONFIG).is_file():
            return _of_run(target, split, min_confidence, device)
        if (target / STAMP).is_file():
            return _of_export(target, split, min_confidence)
        raise ConfigError(
            f"{target} holds neither {CONFIG} (a run) nor {STAMP} (exported predictions): for raw "
            f"data give a configuration and --set dataset.root={target}, for predictions of others "
            f"a configuration and --predictions {target}"
        )
    experiment = Experiment(load_config(target, overrides))
    source, split = experiment.source, split or experiment.config.evaluate.split
    if predictions is not None:
        if not predictions.is_dir():
            raise ConfigError(f"--predictions {predictions} is not a folder: give another one")
        return _of_files(experiment, predictions, split, min_confidence, False)

    def read(scan_id: str) -> ScanView:
        return ScanView(source.read_scan(scan_id, source.has_labels(scan_id)))

    return ScanViews(source, experiment.images, str(target), source.scan_ids(split), read)


def _of_run(
    folder: Path, split: str | None, min_confidence: float, device: torch.device
) -> ScanViews:
    experiment, predictor = load_run(folder, device)
    source = experiment.source

    def read(scan_id: str) -> ScanView:
        labelled = source.has_labels(scan_id)
        (found,) = predictor.predict(source, [scan_id], labelled, True)
        assert found.confidence is not None
        covered = found.confidence >= min_confidence
        return _judged(ScanView(found.scan, found.points, found.confidence, covered), source)

    ids = source.scan_ids(split or experiment.config.evaluate.split)
    return ScanViews(source, experiment.images, str(folder), ids, read, True, True)


def _of_export(folder: Path, split: str | None, min_confidence: float) -> ScanViews:
    try:
        stamp: dict[str, Any] = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        run, exported, least = Path(stamp["run"]), str(stamp["split"]), stamp["min_confidence"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / STAMP} is damaged ({error!r}): predict again") from None
    if not (run / CONFIG).is_file():
        raise ConfigError(
            f"{folder} was predicted by {run}, which is not there any more: give a configuration "
            f"of its data set and --predictions {folder}"
        )
    experiment = Experiment(read_run_config(run))
    least = min_confidence if least is None else float(least)
    withheld = stamp["min_confidence"] is not None
    return _of_files(experiment, folder, split or exported, least, withheld)


def _of_files(
    experiment: Experiment[Any],
    folder: Path,
    split: str,
    min_confidence: float,
    withheld: bool,
) -> ScanViews:
    """Predictions in the benchmark's format, or pseudo-labels as the data set's label files."""
    source = experiment.source

    def read(scan_id: str) -> ScanView:
        scan = source.read_scan(scan_id, source.has_labels(scan_id))
        path = folder / source.prediction_file(scan_id, split)
        prediction = read_prediction(source, path, len(scan.points), withheld)
        confidence = _read_confidence(folder, path, len(scan.points))
        covered = prediction != IGNORE if withheld else None
        if covered is None and confidence is not None:
            covered = confidence >= min_confidence
        return _judged(ScanView(scan, prediction, confidence, covered), source)

    ids = source.scan_ids(split)
    confident = (folder / "confidence").is_dir()
    return ScanViews(source, experiment.images, str(folder), ids, read, True, confident)


def read_prediction(source: ScanSource, path: Path, points: int, withheld: bool) -> np.ndarray:
    """The train ids (N,) uint8 that a prediction file holds.

    Args:
        source: whose ``encode_prediction``, or else ``encode_labels``, the file went through.
        path: the file.
        points: N.
        withheld: whether it holds pseudo-labels, which may lack classes.

    Raises:
        DataError: the file is missing, of another length, or holds unknown ids.
    """
    classes = np.arange(source.info.label_map.num_classes, dtype=np.uint8)
    as_labels, as_prediction = source.encode_labels(classes), source.encode_prediction(classes)
    written = as_labels if withheld else as_prediction
    try:
        values = np.fromfile(path, dtype=written.dtype)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): predict it, or name another --split",
            kind="missing",
        ) from None
    if len(values) != points:
        raise DataError(
            f"{path} has {len(values)} predictions but the scan has {points} points: they belong "
            "to other data; predict again",
            kind="mismatch",
        )
    if withheld or np.array_equal(as_labels, as_prediction):
        return source.info.label_map.to_train(values, where=str(path))
    if not np.isin(values, written).all():
        wrong = values[~np.isin(values, written)][0]
        raise DataError(f"{path} holds the id {wrong}, which is no class: predict again")
    table = np.full(1 << 16, IGNORE, dtype=np.uint8)
    table[written] = classes
    found: np.ndarray = table[values]
    return found


def _read_confidence(folder: Path, path: Path, points: int) -> np.ndarray | None:
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


def _judged(view: ScanView, source: ScanSource) -> ScanView:
    """The view with its mIoU, over the points that have a prediction."""
    labels, prediction = view.scan.labels, view.prediction
    if labels is None or prediction is None:
        return view
    known = prediction != IGNORE
    matrix = ConfusionMatrix(source.info.label_map.num_classes)
    matrix.update(prediction[known], labels[known])
    counted = int(matrix.counts.sum())
    if counted == 0:
        return view
    judged = counted / np.count_nonzero(labels != IGNORE)
    return replace(view, miou=100 * matrix.miou("nuscenes"), judged=judged)
