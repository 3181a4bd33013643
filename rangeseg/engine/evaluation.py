"""Evaluation: the mIoU of a predictor on a split."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from typing import Any

import numpy as np

from rangeseg.datasets.bad_scans import BadScans, OnBadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.survey.misnamed_labels import warn_of_misnamed_labels
from rangeseg.engine.inference import Predictor
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.errors import DataError
from rangeseg.geometry.channels import to_image
from rangeseg.system.distributed import gather, shard, world_size
from rangeseg.system.progress import Progress


def scans_to_evaluate(source: ScanSource, split: str) -> list[str]:
    """The scans of a split that should have labels.

    Raises:
        DataError: none has, or the split cannot be listed.
        ConfigError: no such split.
    """
    scan_ids = source.labelled_ids(split)
    if not any(source.has_labels(scan_id) for scan_id in scan_ids):
        warn_of_misnamed_labels(source, split)
        raise DataError(
            f"no scan of the split {split} of {source.root} has labels, so there is nothing to "
            "evaluate against: copy the labels there, or write predictions with `rangeseg predict`"
        )
    return scan_ids


def skipped_by_all(bad_scans: BadScans) -> dict[str, str]:
    """The scans that any process skipped, with what is wrong with each.

    Raises:
        DataError: together they are too many.
    """
    if world_size() > 1:
        for skipped in gather(bad_scans.report()):
            for scan_id, fault in skipped.items():
                bad_scans.add(scan_id, DataError(fault))
    return bad_scans.report()


def scans_per_second(scans: int, started: float) -> float:
    """The rate of a stage since its start, as ``time.monotonic`` gave it."""
    return scans / max(time.monotonic() - started, 1e-9)


def evaluate(
    predictor: Predictor, source: ScanSource, split: str, on_bad_scan: OnBadScan = "fail"
) -> dict[str, Any]:
    """Evaluate on all scans of a split, with a progress bar; processes share the scans.

    Args:
        predictor: what predicts.
        source: the data set.
        split: which scans.
        on_bad_scan: whether a scan that cannot be read ends the evaluation, or is left out of the
            figures and named in the result.

    Returns:
        What ``result.json`` holds: ``protocol``, ``miou`` (per cent: ``point``, ``point_raw``,
        ``pixel``), ``iou`` (per cent of each class, per point; null where absent),
        ``scans`` that were evaluated, ``skipped_scans`` with what is wrong with each,
        ``seconds``, and ``scans_per_second`` of all processes together.

    Raises:
        DataError: a scan or its labels cannot be read and is not to be skipped, or the split has
            no labels.
    """
    info = source.info
    scan_ids = scans_to_evaluate(source, split)
    kinds = ("point", "point_raw", "pixel")
    matrices = {kind: ConfusionMatrix(info.label_map.num_classes) for kind in kinds}
    rows: Counter[str] = Counter()
    bad_scans = BadScans(on_bad_scan, len(scan_ids))
    own = shard(scan_ids)
    started = time.monotonic()
    with (
        Progress(f"evaluate {split}", len(own), "scan") as progress,
        closing(predictor.predict(source, own, bad_scans=bad_scans)) as predictions,
    ):
        for prediction in predictions:
            labels = prediction.scan.labels
            assert labels is not None
            rows[prediction.rows] += 1
            truth_image = to_image(labels, prediction.projection.point_index, IGNORE)
            matrices["point"].update(prediction.points, labels)
            matrices["point_raw"].update(prediction.raw, labels)
            matrices["pixel"].update(prediction.pixels, truth_image)
            rate = scans_per_second(sum(rows.values()), started)
            miou = 100 * matrices["point"].miou(info.policy)
            progress.update(note=f"mIoU {miou:.1f}, {rate:.3g} scans/s")
    for matrix in matrices.values():
        matrix.counts = np.sum(gather(matrix.counts), axis=0)
    rows = sum(gather(rows), Counter())
    skipped = skipped_by_all(bad_scans)
    sensor, settings = predictor.images.sensor, predictor.settings
    back_projection = settings.model_dump(include={"back_projection", "window"})
    if settings.back_projection == "knn_vote":
        back_projection |= settings.model_dump(include={"neighbours", "sigma", "cutoff"})
    return {
        "protocol": {
            "dataset": info.name,
            "split": split,
            "policy": info.policy,
            "image": [sensor.height, sensor.width],
            "min_range": sensor.min_range,  # m; nearer points are not in the image, but judged
            # Scans that do not allow the sensor's rule fall back, each for itself.
            "rows": " + ".join(
                rule if len(rows) == 1 else f"{rule} ({n})" for rule, n in sorted(rows.items())
            ),
            **back_projection,
            **({"tta": settings.tta} if settings.tta > 1 else {}),
            "backend": predictor.backend.name,
        },
        "miou": {kind: 100 * m.miou(info.policy) for kind, m in matrices.items()},
        "iou": {
            name: None if np.isnan(value) else 100 * float(value)
            for name, value in zip(info.label_map.names, matrices["point"].iou(), strict=True)
        },
        "scans": sum(rows.values()),
        "skipped_scans": skipped,
        "seconds": round(time.monotonic() - started, 1),
        "scans_per_second": round(scans_per_second(sum(rows.values()), started), 3),
    }
