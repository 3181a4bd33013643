"""Write predictions as files: submissions to benchmarks, and pseudo-labels."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field

from rangeseg.datasets.bad_scans import BadScans, OnBadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.engine.coloured_clouds import encode_cloud
from rangeseg.engine.evaluation import scans_per_second, skipped_by_all
from rangeseg.engine.inference import Prediction, Predictor
from rangeseg.errors import ConfigError
from rangeseg.settings import Settings
from rangeseg.system.distributed import on_rank_zero, shard
from rangeseg.system.files import LOCK, PARTIAL, sole_user, writable, write_file, writing
from rangeseg.system.prefetch import map_ahead, threads
from rangeseg.system.progress import Progress

STAMP = "rangeseg_predictions.json"


class PredictionSettings(Settings):
    """Settings of the files."""

    split: str = "test"
    confidence: bool = False  # also float16 files of confidences
    min_confidence: float | None = Field(
        default=None, ge=0, le=1
    )  # labels of points below it are withheld
    # ply, pcd: points with labels and colours, for data sets with `.label` predictions
    format: Literal["label", "ply", "pcd"] = "label"


def write_predictions(
    predictor: Predictor,
    source: ScanSource,
    settings: PredictionSettings,
    out: Path,
    origin: dict[str, Any],
    resume: bool,
    on_bad_scan: OnBadScan = "fail",
    scan_ids: list[str] | None = None,
) -> tuple[int, dict[str, str]]:
    """Write one file per scan, named as the benchmark expects; labels are never read.

    Each file is written atomically; several processes share the scans. With ``min_confidence`` the
    files hold pseudo-labels, not a submission. They have the ids of the data set's label files, and
    further submission files are left out. A skipped scan has no file; the folder's stamp names it.

    Args:
        predictor: makes the predictions.
        source: data set of the scans.
        settings: split and content of the files.
        out: output folder; created if missing.
        origin: the run of the predictions; kept in the folder, compared on resume.
        resume: keep existing files and add missing ones.
        on_bad_scan: ``fail`` on an unreadable scan, or ``skip`` it.
        scan_ids: the only scans of the split to predict; None takes all.

    Returns:
        The number of predicted scans, including earlier calls, and the skipped ones with their
        faults.

    Raises:
        ConfigError: the folder is not empty and ``resume`` is not set, or it holds other
            predictions. Another process writes in it, a file cannot be written, or the data set has
            no id for withheld labels.
        DataError: a scan cannot be read and may not be skipped.
    """
    if settings.min_confidence is not None:
        source.encode_labels(np.array([IGNORE], dtype=np.uint8))  # check before writing anything
    stamp = {**origin, **settings.model_dump()}
    scan_ids = source.scan_ids(settings.split) if scan_ids is None else scan_ids
    with ExitStack() as held:
        on_rank_zero(lambda: _begin(out, stamp, resume, held))
        skipped = _write_own(predictor, source, settings, out, scan_ids, on_bad_scan)
        if settings.min_confidence is None:
            for name, text in source.submission_files(settings.split).items():
                on_rank_zero(partial(_write, out / name, text))
        if skipped:
            named = {**stamp, "skipped_scans": skipped}
            on_rank_zero(lambda: _write(out / STAMP, json.dumps(named, indent=2) + "\n"))
    return len(scan_ids) - len(skipped), skipped


def _write_own(
    predictor: Predictor,
    source: ScanSource,
    settings: PredictionSettings,
    out: Path,
    scan_ids: list[str],
    on_bad_scan: OnBadScan,
) -> dict[str, str]:
    """Write the missing files of this process's scans; return the skipped scans of all."""
    own = shard(scan_ids)
    files = {i: _named(source.prediction_file(i, settings.split), settings) for i in own}
    missing = [i for i in own if not (out / files[i]).is_file()]
    with_confidence = settings.confidence or settings.min_confidence is not None
    done = len(own) - len(missing)
    bad_scans = BadScans(on_bad_scan, len(scan_ids))
    write = partial(_write_prediction, source, settings, out, files)
    count, started = predictor.settings.threads, time.monotonic()
    with (
        Progress(f"predict {settings.split}", len(own), "scan", initial=done) as progress,
        threads(count) as pool,
        closing(
            predictor.predict(source, missing, False, with_confidence, bad_scans)
        ) as predictions,
    ):
        # Syncing a file to the disk is slow.
        for written, _ in enumerate(map_ahead(pool, write, predictions, ahead=count), start=1):
            progress.update(note=f"{scans_per_second(written, started):.3g} scans/s")
    return skipped_by_all(bad_scans)


def zip_submission(
    source: ScanSource, split: str, out: Path, scan_ids: Iterable[str] | None = None
) -> Path:
    """Pack only the predictions of a split, as the benchmark's server expects.

    Folders get entries too: SemanticKITTI's validator looks for them.

    Args:
        source: the data set.
        split: the predicted split.
        out: folder of the predictions.
        scan_ids: the only scans of the split to pack; None takes all.

    Returns:
        The archive, next to the folder; an existing one is replaced.

    Raises:
        ConfigError: it cannot be written, or another process writes in the folder.
    """
    archive = Path(f"{os.path.abspath(out)}.zip")  # `.` has no name
    scan_ids = source.scan_ids(split) if scan_ids is None else scan_ids
    files = [source.prediction_file(scan_id, split) for scan_id in scan_ids]
    files += source.submission_files(split)
    folders = {f"{folder}/" for file in files for folder in PurePosixPath(file).parents}
    with (
        sole_user(out, "writes predictions"),
        _writable(archive),
        writing(archive) as content,
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as zipped,
        Progress(f"zip {archive.name}", len(files), "file") as progress,
    ):
        for folder in sorted(folders - {"./"}):
            zipped.write(out / folder, folder)
        for file in files:
            zipped.write(out / file, file)
            progress.update()
    return archive


def read_stamp(out: Path) -> dict[str, Any] | None:
    """Read the stamp of a folder of predictions; None for another folder."""
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_prediction(
    source: ScanSource,
    settings: PredictionSettings,
    out: Path,
    files: dict[str, str],
    prediction: Prediction,
) -> None:
    confidence, file = prediction.confidence, files[prediction.scan.scan_id]
    classes = prediction.points
    if settings.min_confidence is None:
        encoded = source.encode_prediction(classes)
    else:
        assert confidence is not None
        classes = np.where(confidence >= settings.min_confidence, classes, np.uint8(IGNORE))
        encoded = source.encode_labels(classes)
    content = encoded.tobytes()
    if settings.format != "label":
        points, colours = prediction.scan.points, source.info.label_map.colours
        content = encode_cloud(settings.format, points, encoded, classes, colours)
    if settings.confidence:
        assert confidence is not None
        halves = confidence.astype("<f2").tobytes()
        _write((out / "confidence" / file).with_suffix(".float16"), halves)
    # Write labels last: they mark a scan as done.
    _write(out / file, content)


def _named(file: str, settings: PredictionSettings) -> str:
    """The name of a prediction file in the requested format."""
    return (
        file if settings.format == "label" else f"{file.removesuffix('.label')}.{settings.format}"
    )


def _write(path: Path, content: bytes | str) -> None:
    with _writable(path):
        write_file(path, content)


def _writable(path: Path) -> AbstractContextManager[None]:
    return writable(path, "make room and go on with --resume, or choose another --out")


def _begin(out: Path, stamp: dict[str, Any], resume: bool, held: ExitStack) -> None:
    """Check the folder, hold it until ``held`` is closed, and write its stamp."""
    _check_folder(out, stamp, resume)
    held.enter_context(sole_user(out, "writes predictions"))
    _write(out / STAMP, json.dumps(stamp, indent=2) + "\n")


def _check_folder(out: Path, stamp: dict[str, Any], resume: bool) -> None:
    left = {LOCK, STAMP + PARTIAL}  # left by a call killed at its beginning
    if not out.exists() or (out.is_dir() and {p.name for p in out.iterdir()} <= left):
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: choose another --out")
    if not resume:
        raise ConfigError(
            f"{out} is not empty: add --resume to complete it, or choose another --out"
        )
    if (was := read_stamp(out)) is None:
        raise ConfigError(
            f"{out} is not a folder of predictions (no sound {STAMP}): choose another --out"
        )
    for key, value in stamp.items():
        if was.get(key) != value:
            raise ConfigError(
                f"{out} was begun with {key}={was.get(key)}, now it is {value}: resume with the "
                "same run and options, or choose another --out"
            )
