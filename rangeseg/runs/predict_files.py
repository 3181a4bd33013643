"""Predictions of scans that belong to no data set, by a run or an exported network.

Nothing here imports torch: an exported network predicts without it.
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
_ENOUGH_BYTES = 1 << 15  # of a raw file, to see after how many its values repeat

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
    """Write the predictions of files of scans, named as these are.

    Args:
        network: the folder of a run, or a file that ``rangeseg export`` wrote.
        paths: files of scans, and folders of them.
        settings: what is written; its split is not looked at.
        out: the folder of the predictions.
        resume: complete what an earlier call began.
        layout: what the user states of the files; its fields that were set count.
        anyway: predict, also if the scans are not read right or lack what the network needs.
        on_bad_scan: whether a scan that cannot be read ends the work or is skipped.
        device: where the network of a run runs.
        backend: what runs it; ``auto`` takes the fastest at hand.
        tta: views of each scan; None takes those of the run.

    Returns:
        The number of scans predicted, and those that were skipped, with what is wrong with them.

    Raises:
        ConfigError: see ``load_segmenter``, ``find_files`` and ``write_predictions``.
        DataError: there are no scans, they are not read right, or one cannot be read.
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
    """Files of scans as a network reads them.

    Args:
        metadata: of the network.
        files: scan id -> file.
        stated: what the user states of them.

    Raises:
        ConfigError: see ``layout_of_files``.
        DataError: the first file cannot be read.
    """
    layout = layout_of_files(metadata.layout, next(iter(files.values())), stated)
    return LooseFiles(files, metadata.info(), layout, metadata.label_type)


def judge_files(metadata: NetworkMetadata, source: LooseFiles, anyway: bool) -> None:
    """Look at the first scans of each folder before any is predicted, and log what is odd.

    Args:
        metadata: of the network.
        source: the scans.
        anyway: whether refused verdicts are warnings too.

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
    """A raw file of another number of columns would be read as another cloud."""
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
