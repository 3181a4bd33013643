"""Predict scans outside any data set with a run or an exported network.

This module imports no torch: an exported network predicts without it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rangeseg.datasets.bad_scans import OnBadScan
from rangeseg.datasets.formats import file_format
from rangeseg.datasets.formats.files import file_size
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.loose_files import LooseFiles, find_files, layout_of_files
from rangeseg.datasets.survey.complete_layout import guess_columns
from rangeseg.datasets.survey.judge import first_scans, judge_source, refuse
from rangeseg.datasets.survey.other_sensor import judge_for_network
from rangeseg.deploy.backends import BackendName, resumed_backend
from rangeseg.deploy.metadata import NetworkMetadata
from rangeseg.engine.prediction_files import (
    PredictionSettings,
    file_hash,
    write_predictions,
)
from rangeseg.errors import DataError
from rangeseg.runs.load import load_segmenter, weights_of

_ANYWAY = ", or predict all the same with --anyway"
_ENOUGH_BYTES = 1 << 15  # bytes of a raw file, to find the period of its values

_log = logging.getLogger(__name__)


def predict_files(
    network: Path,
    paths: Sequence[Path],
    settings: PredictionSettings,
    out: Path,
    resume: bool = False,
    layout: Layout | None = None,
    anyway: bool = False,
    on_bad_scan: OnBadScan = "fail",
    device: str = "auto",
    backend: BackendName = "auto",
    tta: int | None = None,
) -> tuple[int, dict[str, str]]:
    """Write predictions for files of scans, under the same names.

    Args:
        network: the folder of a run, or a file from ``rangeseg export``.
        paths: files of scans, and folders of them.
        settings: content of the files; its split is not used.
        out: folder of the predictions.
        resume: complete an earlier call.
        layout: the user's layout of the files; only fields that were set count.
        anyway: predict even if scans seem wrong or lack the network's inputs.
        on_bad_scan: ``fail`` on an unreadable scan, or ``skip`` it.
        device: device for a run's network.
        backend: name of the backend; ``auto`` takes the fastest available.
        tta: views of each scan; None takes the run's.

    Returns:
        The number of predicted scans, and the skipped ones with their faults.

    Raises:
        ConfigError: see ``load_segmenter``, ``find_files`` and ``write_predictions``.
        DataError: there are no scans, they seem wrong, or one cannot be read.
    """
    files = find_files(paths)
    backend = resumed_backend(backend, out) if resume else backend
    segmenter = load_segmenter(network, backend, device, None, tta, len(files))
    metadata, predictor = segmenter.metadata, segmenter.predictor
    source = open_files(metadata, files, layout or Layout())
    judge_files(metadata, source, anyway)
    origin: dict[str, Any] = {
        "run": str(network.resolve()),
        "checkpoint": file_hash(weights_of(network)),
        **predictor.settings.model_dump(exclude={"split", "batch_size", "threads"}),
        "backend": predictor.backend.name,
        "paths": [str(path.resolve()) for path in paths],
        "layout": source.layout.model_dump(mode="json", exclude_defaults=True),
    }
    settings = settings.model_copy(update={"split": source.splits[0]})
    return write_predictions(predictor, source, settings, out, origin, resume, on_bad_scan)


def open_files(metadata: NetworkMetadata, files: dict[str, Path], stated: Layout) -> LooseFiles:
    """Open files of scans for a network.

    Args:
        metadata: metadata of the network.
        files: scan id -> file.
        stated: the user's layout.

    Raises:
        ConfigError: see ``layout_of_files``.
        DataError: the first file cannot be read.
    """
    layout = layout_of_files(metadata.layout, next(iter(files.values())), stated)
    return LooseFiles(files, metadata.info(), layout, metadata.label_type)


def judge_files(metadata: NetworkMetadata, source: LooseFiles, anyway: bool) -> None:
    """Judge the first scans of each folder before prediction, and log doubts.

    Args:
        metadata: metadata of the network.
        source: the scans.
        anyway: treat refused verdicts as warnings too.

    Raises:
        DataError: a verdict is refused.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for folder in source.sequences(source.splits[0]):
        folders[folder] = source.sequence_ids(folder)
    _check_columns(source, anyway)
    needs_intensity = "intensity" in metadata.channels
    judge = partial(judge_for_network, sensor=metadata.sensor, needs_intensity=needs_intensity)
    verdicts = judge_source(source, first_scans(folders), judge, labels=False)
    if anyway:
        for verdict in verdicts:
            _log.warning("%s", verdict)
    else:
        refuse(verdicts, f" (here --layout KEY=VALUE){_ANYWAY}")


def _check_columns(source: LooseFiles, anyway: bool) -> None:
    """Refuse a raw file with another number of columns, which would be misread."""
    file, layout = next(iter(source.files.values())), source.layout
    if file_format(file) != "raw" or (file_size(file) or 0) < _ENOUGH_BYTES:
        return
    columns = guess_columns(file, layout)
    if columns == layout.columns:
        return
    seen = f"the values of {file} repeat after {columns}, and {layout.columns} are read as a point"
    if not anyway:
        raise DataError(f"{seen}: add --layout columns={columns}{_ANYWAY}")
    _log.warning("%s", seen)
