"""Evaluate a predictor on a split."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from typing import Any

import numpy as np

from rangeseg.datasets.bad_scans import BadScans, OnBadScan
from rangeseg.datasets.base import DatasetInfo, ScanReader, ScanSource
from rangeseg.datasets.corruption import Corrupted, Corruption
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.survey.misnamed_labels import warn_of_misnamed_labels
from rangeseg.engine.calibration import Calibration
from rangeseg.engine.distance import ConfusionByDistance
from rangeseg.engine.figures import point_figures
from rangeseg.engine.inference import Predictor
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.errors import DataError
from rangeseg.geometry.channels import to_image
from rangeseg.system.distributed import gather, shard, world_size
from rangeseg.system.progress import Progress


def scans_to_evaluate(source: ScanSource, split: str) -> list[str]:
    """The scans of a split that need labels.

    Raises:
        DataError: no scan has labels, or the split cannot be listed.
        ConfigError: no such split.
    """
    scan_ids = source.labelled_ids(split)
    if not any(source.has_labels(scan_id) for scan_id in scan_ids):
        warn_of_misnamed_labels(source, split)
        raise DataError(
            f"no scan of the split {split} of {source.root} has labels to "
            "evaluate against: copy the labels there, or write predictions with `rangeseg predict`"
        )
    return scan_ids


def skipped_by_all(bad_scans: BadScans) -> dict[str, str]:
    """The skipped scans of all processes, with their faults.

    Raises:
        DataError: in total they are too many.
    """
    if world_size() > 1:
        for skipped in gather(bad_scans.report()):
            for scan_id, fault in skipped.items():
                bad_scans.add(scan_id, DataError(fault))
    return bad_scans.report()


def scans_per_second(scans: int, started: float) -> float:
    """The rate of a stage since its start in ``time.monotonic``."""
    return scans / max(time.monotonic() - started, 1e-9)


def protocol_of(
    predictor: Predictor, info: DatasetInfo, split: str, corruption: Corruption | None = None
) -> dict[str, Any]:
    """The part of the protocol known before scans are read; see ``evaluate``."""
    sensor, settings = predictor.images.sensor, predictor.settings
    layers = predictor.images.settings.layers
    back_projection = settings.model_dump(include={"back_projection", "window"})
    if settings.back_projection == "knn_vote":
        back_projection |= settings.model_dump(include={"neighbours", "sigma", "cutoff"})
    return {
        "dataset": info.name,
        "split": split,
        "policy": info.policy,
        "image": [sensor.height, sensor.width],
        **({"layers": layers} if layers > 1 else {}),
        "min_range": sensor.min_range,  # m; nearer points are outside the image, but evaluated
        **back_projection,
        **({"tta": settings.tta} if settings.tta > 1 else {}),
        **({"corruption": str(corruption)} if corruption else {}),
        "backend": predictor.backend.name,
    }


def evaluate(
    predictor: Predictor,
    source: ScanSource,
    split: str,
    on_bad_scan: OnBadScan = "fail",
    corruption: Corruption | None = None,
) -> dict[str, Any]:
    """Evaluate on all scans of a split, with a progress bar; processes share the scans.

    Args:
        predictor: makes the predictions.
        source: the data set.
        split: name of the split.
        on_bad_scan: ``fail`` on an unreadable scan, or leave it out of the metrics and name it in
            the result.
        corruption: applied to each scan first; lost points are not evaluated.

    Returns:
        The content of ``result.json``: ``protocol``, ``miou`` (per cent: ``point``, ``point_raw``,
        ``pixel``), the result of ``point_figures``, and ``calibration`` without unprojected points
        (see ``Calibration.result``). Also the number of ``scans``, ``skipped_scans`` with their
        faults, ``seconds``, and ``scans_per_second`` over all processes.

    Raises:
        DataError: a scan or its labels cannot be read and may not be skipped, or the split has no
            labels.
    """
    info = source.info
    scan_ids = scans_to_evaluate(source, split)
    reader: ScanReader = source
    if corruption is not None:
        reader = Corrupted(source, corruption, predictor.images.sensor)
    classes = info.label_map.num_classes
    points, calibration = ConfusionByDistance(classes), Calibration()
    raw, pixels = ConfusionMatrix(classes), ConfusionMatrix(classes)
    rows: Counter[str] = Counter()
    bad_scans = BadScans(on_bad_scan, len(scan_ids))
    own = shard(scan_ids)
    stage = f"evaluate {split}" if corruption is None else f"evaluate {split}, {corruption}"
    started = time.monotonic()
    with (
        Progress(stage, len(own), "scan") as progress,
        closing(
            predictor.predict(reader, own, with_confidence=True, bad_scans=bad_scans)
        ) as predictions,
    ):
        for prediction in predictions:
            labels = prediction.scan.labels
            assert labels is not None
            assert prediction.confidence is not None
            rows[prediction.rows] += 1
            truth_image = to_image(labels, prediction.projection.point_index, IGNORE)
            points.update(prediction.points, labels, prediction.scan.points)
            calibration.update(prediction.confidence, prediction.points, labels)
            raw.update(prediction.raw, labels)
            pixels.update(prediction.pixels, truth_image)
            rate = scans_per_second(sum(rows.values()), started)
            miou = 100 * points.total().miou(info.policy)
            progress.update(note=f"mIoU {miou:.1f}, {rate:.3g} scans/s")
    for counted in (points, calibration, raw, pixels):
        counted.counts = np.sum(gather(counted.counts), axis=0)
    rows = sum(gather(rows), Counter())
    skipped = skipped_by_all(bad_scans)
    matrices = {"point": points.total(), "point_raw": raw, "pixel": pixels}
    # Each scan that does not allow the sensor's rule falls back alone.
    rules = [rule if len(rows) == 1 else f"{rule} ({n})" for rule, n in sorted(rows.items())]
    return {
        "protocol": {**protocol_of(predictor, info, split, corruption), "rows": " + ".join(rules)},
        "miou": {kind: 100 * m.miou(info.policy) for kind, m in matrices.items()},
        **point_figures(points, info.label_map),
        "calibration": calibration.result(),
        "scans": sum(rows.values()),
        "skipped_scans": skipped,
        "seconds": round(time.monotonic() - started, 1),
        "scans_per_second": round(scans_per_second(sum(rows.values()), started), 3),
    }
