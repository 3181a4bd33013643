"""The scans to view: of a data set, perhaps with predictions of a run or of files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.base import DatasetInfo, Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.prediction_files import read_confidence, read_prediction
from rangeseg.datasets.range_images import STRIDE, RangeImages, RangeImageSettings
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.engine.prediction_files import STAMP
from rangeseg.errors import ConfigError, DataError
from rangeseg.motion.write import STAMP as PROPAGATION_STAMP
from rangeseg.motion.write import read_propagation
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import CONFIG, read_run_config
from rangeseg.runs.trained import load_run
from rangeseg.viewer.propagated import labels_of_run


@dataclass(frozen=True)
class ScanView:
    """One scan with all data to show.

    Attributes:
        scan: points, and labels if any.
        prediction: (N,) uint8 class of every point, IGNORE if withheld; or None.
        confidence: (N,) float32 probability of that class, or None.
        covered: (N,) bool, whether the prediction is confident enough for a pseudo-label; or None.
        miou: mIoU of this scan in per cent over its classes, as most classes are absent in one
            scan; None without truth or prediction.
        judged: share of points with a known class that have a prediction; only these count in
            ``miou``.
        propagated: (N,) uint8 propagated labels, IGNORE where unknown; or None.
        sources: labelled scans of these labels, the nearest first.
    """

    scan: Scan
    prediction: np.ndarray | None = None
    confidence: np.ndarray | None = None
    covered: np.ndarray | None = None
    miou: float | None = None
    judged: float = 1.0
    propagated: np.ndarray | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScanViews:
    """A list of scans to view.

    Attributes:
        source: the data set.
        images: its range images.
        title: title, e.g. the folder of the run.
        scan_ids: ids of the scans, in order.
        read: scan id -> view.
        predicted: whether the views have predictions.
        confident: whether they have confidences.
        given: ids of the split's scans with propagated labels.
    """

    source: ScanSource
    images: RangeImages
    title: str
    scan_ids: list[str]
    read: Callable[[str], ScanView]
    predicted: bool = False
    confident: bool = False
    given: frozenset[str] = frozenset()

    def with_propagated(self) -> ScanViews:
        """Keep only the scans with propagated labels."""
        return replace(self, scan_ids=[i for i in self.scan_ids if i in self.given])

    def chosen(self, wanted: list[str], count: int | None) -> ScanViews:
        """Select these scans, or the first ``count``; all of the split if neither is given.

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
    """Open the views of a path.

    Args:
        target: the folder of a run, of predictions or of propagated labels, or a
            configuration.
        overrides: ``key=value`` for a configuration.
        predictions: a folder in the benchmark's format, with a configuration.
        split: split of the scans; None takes the one of the predictions or configuration.
        min_confidence: least confidence of a pseudo-label.
        device: device for a run's network.

    Raises:
        ConfigError: the path is none of these, or options do not fit it.
        RangesegError: a run, data or a checkpoint cannot be read.
    """
    if target.is_dir():
        if overrides or predictions is not None:
            raise ConfigError("--set and --predictions go with a configuration, not with a folder")
        if (target / CONFIG).is_file():
            return _of_run(target, split, min_confidence, device)
        if (target / STAMP).is_file():
            return _of_predictions(target, split, min_confidence)
        if (target / PROPAGATION_STAMP).is_file():
            return _of_propagation(target, split)
        raise ConfigError(
            f"{target} holds neither {CONFIG} (a run) nor {STAMP} (predictions) nor "
            f"{PROPAGATION_STAMP} (propagated labels): give a configuration, with "
            f"--set dataset.root={target} for raw data, or --predictions {target}"
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
    source, split = experiment.source, split or experiment.config.evaluate.split
    ids, labels = source.scan_ids(split), labels_of_run(experiment, folder, split)
    given = frozenset(ids).intersection(labels or ())

    def read(scan_id: str) -> ScanView:
        labelled = source.has_labels(scan_id)
        (found,) = predictor.predict(source, [scan_id], labelled, True)
        assert found.confidence is not None
        covered = found.confidence >= min_confidence
        view = ScanView(found.scan, found.points, found.confidence, covered)
        if labels is not None and scan_id in given:
            view = _with_labels(view, labels[scan_id], labels.plan.sources[scan_id])
        return _judged(view, source)

    return ScanViews(source, experiment.images, str(folder), ids, read, True, True, given)


def _of_propagation(folder: Path, split: str | None) -> ScanViews:
    """The scans with propagated labels, and with their own labels, if any."""
    propagation = read_propagation(folder)
    source, sources = propagation.source, propagation.sources
    ids = list(sources) if split is None else [i for i in source.scan_ids(split) if i in sources]
    if not ids:
        raise ConfigError(f"{folder} has no labels of the split {split}: leave --split out")

    def read(scan_id: str) -> ScanView:
        scan = source.read_scan(scan_id, source.has_labels(scan_id))
        return _with_labels(ScanView(scan), propagation.labels(scan_id), sources[scan_id])

    images = _own_images(source.info)
    return ScanViews(source, images, str(folder), ids, read, given=frozenset(ids))


def _own_images(info: DatasetInfo) -> RangeImages:
    """Range images of the sensor's size, rounded up to a valid one for networks."""
    height, width = (-(-n // STRIDE) * STRIDE for n in (info.sensor.height, info.sensor.width))
    return RangeImages(info, RangeImageSettings(height=height, width=width))


def _with_labels(view: ScanView, labels: np.ndarray, sources: list[str]) -> ScanView:
    """Add propagated labels to a view; raises DataError if they belong to another scan."""
    scan = view.scan
    if len(labels) != len(scan.points):
        raise DataError(
            f"scan {scan.scan_id} has {len(scan.points)} points but {len(labels)} propagated "
            "labels: the scan was replaced; propagate the labels again",
            kind="mismatch",
        )
    return replace(view, propagated=labels, sources=tuple(sources))


def _of_predictions(folder: Path, split: str | None, min_confidence: float) -> ScanViews:
    try:
        stamp: dict[str, Any] = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        run, predicted, least = Path(stamp["run"]), str(stamp["split"]), stamp["min_confidence"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / STAMP} is damaged ({error!r}): predict again") from None
    if paths := stamp.get("paths"):
        raise ConfigError(
            f"{folder} holds predictions of files: `rangeseg view {run} {' '.join(paths)}` shows "
            "them"
        )
    if not (run / CONFIG).is_file():
        raise ConfigError(
            f"{folder} was predicted by {run}, which is not there any more: give a configuration "
            f"of its data set and --predictions {folder}"
        )
    experiment = Experiment(read_run_config(run))
    least = min_confidence if least is None else float(least)
    withheld = stamp["min_confidence"] is not None
    return _of_files(experiment, folder, split or predicted, least, withheld)


def _of_files(
    experiment: Experiment[Any],
    folder: Path,
    split: str,
    min_confidence: float,
    withheld: bool,
) -> ScanViews:
    """Read predictions in the benchmark's format, or pseudo-labels in the data set's."""
    source = experiment.source

    def read(scan_id: str) -> ScanView:
        scan = source.read_scan(scan_id, source.has_labels(scan_id))
        path = folder / source.prediction_file(scan_id, split)
        prediction = read_prediction(source, path, len(scan.points), withheld)
        confidence = read_confidence(folder, path, len(scan.points))
        covered = prediction != IGNORE if withheld else None
        if covered is None and confidence is not None:
            covered = confidence >= min_confidence
        return _judged(ScanView(scan, prediction, confidence, covered), source)

    ids = source.scan_ids(split)
    confident = (folder / "confidence").is_dir()
    return ScanViews(source, experiment.images, str(folder), ids, read, True, confident)


def _judged(view: ScanView, source: ScanSource) -> ScanView:
    """Add the mIoU to a view, over the points with a prediction."""
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
