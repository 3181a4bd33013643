"""Propagated labels of a run's training, to view."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from rangeseg.datasets.bad_scans import BadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.split_files import read_split
from rangeseg.errors import DataError
from rangeseg.motion.propagation import propagate
from rangeseg.motion.store import PropagatedLabels, PropagationPlan
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import LABELLED

_log = logging.getLogger(__name__)


def labels_of_run(
    experiment: Experiment[RunConfig], folder: Path, split: str
) -> PropagatedLabels | None:
    """The labels that a run propagated to a split; warn if they are gone.

    Args:
        experiment: the parts of the run.
        folder: folder of the run.
        split: only splits that share sequences with ``train`` have such labels.

    Returns:
        Scan id -> labels; None if there are none.
    """
    source = experiment.source
    if not set(source.sequences(split)) & set(source.sequences("train")):
        return None
    try:
        labels = experiment.propagated(read_split(folder / LABELLED), folder)
    except DataError as error:  # predictions can still be shown
        _log.warning("the propagated labels of %s are not shown: %s", folder, error)
        return None
    if labels is not None and not _has_any(labels):
        _log.warning(
            "%s holds no propagated labels: they were removed, or the poses have changed",
            labels.folder,
        )
        return None
    return labels


def labels_of_training(
    experiment: Experiment[RunConfig], labelled: list[str], folder: Path | None
) -> Mapping[str, np.ndarray]:
    """The propagated labels for a training.

    Args:
        experiment: the parts of the run.
        labelled: ids of the labelled scans.
        folder: folder of the run; None if it was not trained.

    Returns:
        Scan id -> labels (N,) uint8, made on demand if no files are kept.

    Raises:
        DataError: there are no usable poses, or no scan is within reach.
    """
    kept = experiment.propagated(labelled, folder or Path("none"))
    if kept is None:
        return {}
    return kept if _has_any(kept) else MadeWhenAsked(experiment.source, kept.plan)


class MadeWhenAsked(Mapping[str, np.ndarray]):
    """Scan id -> propagated labels, made on demand and not kept.

    Args:
        source: the data set.
        plan: plan of the propagation.
    """

    def __init__(self, source: ScanSource, plan: PropagationPlan) -> None:
        self.source, self.plan = source, plan

    def __getitem__(self, scan_id: str) -> np.ndarray:
        """Raises DataError if the scan or one of its sources cannot be read."""
        near, settings = {scan_id: self.plan.sources[scan_id]}, self.plan.settings
        (given,) = propagate(self.source, self.plan.poses, near, settings, _fail)
        return given.sure(settings.min_confidence)

    def __contains__(self, scan_id: object) -> bool:
        return scan_id in self.plan.sources

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.plan.sources))

    def __len__(self) -> int:
        return len(self.plan.sources)


def _fail(bad: BadScan) -> NoReturn:
    raise bad.error


def _has_any(labels: PropagatedLabels) -> bool:
    return next(iter(labels), None) is not None
