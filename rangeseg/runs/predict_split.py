"""Write a run's predictions for a split of its data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rangeseg.datasets.bad_scans import OnBadScan
from rangeseg.datasets.survey.completeness import check_submission, present_scans
from rangeseg.deploy.backends import BackendName, resumed_backend
from rangeseg.deploy.convert import resolve_backend
from rangeseg.engine.checkpoint import CHECKPOINT
from rangeseg.engine.prediction_files import (
    PredictionSettings,
    file_hash,
    write_predictions,
    zip_submission,
)
from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.trained import load_network
from rangeseg.system.distributed import on_rank_zero


def predict_split(
    folder: Path,
    settings: PredictionSettings,
    out: Path,
    device: torch.device,
    resume: bool,
    pack: bool,
    on_bad_scan: OnBadScan | None = None,
    anyway: bool = False,
    tta: int | None = None,
    backend: BackendName = "torch",
) -> tuple[int, dict[str, str], Path | None]:
    """Write the predictions of a trained run as files.

    Args:
        folder: folder of the run.
        settings: split and content of the files.
        out: folder of the files.
        device: device of the network.
        resume: complete an earlier call.
        pack: also make the archive for a benchmark's server.
        on_bad_scan: policy; None takes the run's.
        anyway: predict and pack an incomplete split, which a server would refuse.
        tta: views of each scan; None takes the run's.
        backend: name of the backend; ``auto`` takes the fastest available.

    Returns:
        The number of predicted scans, the skipped ones with their faults, and the archive, if any.

    Raises:
        ConfigError: a submission would have withheld labels, or see ``write_predictions``.
        DataError: a submission lacks scans; for a benchmark's split this is checked before
            prediction.
        RangesegError: see ``load_run``.
    """
    if pack and settings.min_confidence is not None:
        raise ConfigError(
            "--zip packs a submission, and no benchmark takes one whose labels --min-confidence "
            "withholds: give one of the two"
        )
    experiment, network = load_network(folder, device, on_bad_scan, tta)
    config, source = experiment.config, experiment.source
    scan_ids = None
    if pack and anyway:
        present = present_scans(source, settings.split)
        scan_ids = [i for ids in present.values() for i in ids] or source.scan_ids(settings.split)
    elif pack:
        check_submission(source, settings.split)
    origin: dict[str, Any] = {"run": str(folder.resolve())}
    origin["checkpoint"] = file_hash(folder / CHECKPOINT)
    origin |= config.evaluate.model_dump(exclude={"split", "batch_size", "threads"})
    if resume:
        backend = resumed_backend(backend, out)
    scans_to_do = len(scan_ids or source.scan_ids(settings.split))
    backend = resolve_backend(backend, device, scans_to_do)
    predictor = experiment.predictor(network, device, backend)
    origin["backend"] = predictor.backend.name
    policy = config.dataset.on_bad_scan
    scans, skipped = write_predictions(
        predictor, source, settings, out, origin, resume, policy, scan_ids
    )
    if pack and skipped and not anyway:
        raise DataError(
            f"{out} lacks the predictions of {len(skipped)} skipped scans "
            f"({', '.join(list(skipped)[:3])}{', ...' if len(skipped) > 3 else ''}), but a "
            "submission needs all: repair the scans, then repeat the command with --resume"
        )
    if not pack:
        return scans, skipped, None
    if scan_ids is not None:
        scan_ids = [scan_id for scan_id in scan_ids if scan_id not in skipped]
    archive = on_rank_zero(lambda: zip_submission(source, settings.split, out, scan_ids))
    return scans, skipped, archive
