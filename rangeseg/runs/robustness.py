"""Evaluate a run on corrupted scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rangeseg.datasets.bad_scans import OnBadScan
from rangeseg.datasets.corruption import SEVERITIES, Corruption
from rangeseg.deploy.backends import BackendName
from rangeseg.engine.evaluation import protocol_of
from rangeseg.engine.inference import Predictor
from rangeseg.errors import DataError
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import result_path
from rangeseg.runs.trained import evaluate_trained, open_for_evaluation, read_result
from rangeseg.system.distributed import on_rank_zero


def evaluate_corrupted(
    folder: Path,
    split: str | None,
    device: torch.device,
    on_bad_scan: OnBadScan | None = None,
    tta: int | None = None,
    backend: BackendName = "torch",
) -> list[dict[str, Any]]:
    """Evaluate a trained run on a clean split, and with each corruption of SEVERITIES.

    Existing results of the same protocol are reused.

    Args:
        folder: folder of the run.
        split: see ``evaluate_run``.
        device: device of the network.
        on_bad_scan: policy for unreadable scans.
        tta: views of each scan.
        backend: name of the backend.

    Returns:
        The results, the clean one first.

    Raises:
        RangesegError: see ``evaluate_run``.
    """
    experiment, predictor, folder, split = open_for_evaluation(
        folder, split, device, on_bad_scan, tta, backend
    )

    def result(corruption: Corruption | None) -> dict[str, Any]:
        found = on_rank_zero(lambda: _found(experiment, predictor, folder, split, corruption))
        return found or evaluate_trained(experiment, predictor, folder, split, corruption)

    return [result(corruption) for corruption in (None, *SEVERITIES)]


def _found(
    experiment: Experiment[RunConfig],
    predictor: Predictor,
    folder: Path,
    split: str,
    corruption: Corruption | None,
) -> dict[str, Any] | None:
    """The existing result of this protocol on all scans, if any."""
    try:
        result = read_result(result_path(folder, split, corruption))
    except DataError:  # no such file
        return None
    known_later = ("rows", "propagation", "init")
    protocol = {k: v for k, v in result["protocol"].items() if k not in known_later}
    expected = protocol_of(predictor, experiment.source.info, split, corruption)
    judged = result["scans"] + len(result["skipped_scans"])
    is_whole = judged == len(experiment.source.labelled_ids(split))
    return result if protocol == expected and is_whole else None
