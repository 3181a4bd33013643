"""Train a run, from its configuration to its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.bad_scans import RECORD, BadScans
from rangeseg.datasets.batches import TrainingScans
from rangeseg.datasets.range_images import class_frequencies
from rangeseg.datasets.simulated import ensure_simulated
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.judge import judge_source, refuse, training_scans
from rangeseg.datasets.survey.statistics import field_of_view_warning
from rangeseg.drawing.curves import draw_curves
from rangeseg.drawing.strips import range_panels
from rangeseg.engine.batch_norm import renew_statistics
from rangeseg.engine.checkpoint import PREVIOUS, checkpoints
from rangeseg.engine.evaluation import scans_to_evaluate, skipped_by_all
from rangeseg.engine.inference import Prediction, Predictor
from rangeseg.engine.trainer import train
from rangeseg.engine.validation import SPLIT, Validation, scans_to_validate
from rangeseg.errors import ConfigError
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import (
    begin,
    go_on,
    is_begun,
    note_init,
    note_propagation,
    run_folder,
)
from rangeseg.runs.trained import evaluate_trained
from rangeseg.system.device import has_bfloat16, resolved
from rangeseg.system.distributed import check_batch_size, on_rank_zero
from rangeseg.system.files import sole_user

_log = logging.getLogger(__name__)


def train_run(
    config: RunConfig, folder: Path, device: torch.device, resume: bool
) -> dict[str, Any]:
    """Train a run to its end and evaluate it.

    The folder is written only after all checks that are possible before training.

    Args:
        config: configuration of the run.
        folder: folder of the run.
        device: device of the networks.
        resume: continue from the folder's checkpoint. Settings without effect on weights or result
            may change, and replace the stored ones.

    Returns:
        The result; it is also written into the folder.

    Raises:
        ConfigError: the folder is not empty and ``resume`` is not set, it was begun with other
            settings or scans, or another process trains in it. Or there is no step to train, no
            unlabelled scan for the method, or no bfloat16 on the device.
        RangesegError: see ``train`` and ``evaluate``.
    """
    if config.train.steps == 0:
        raise ConfigError("train.steps=0 trains nothing: set how many steps")
    check_batch_size(config.train.batch_size)
    config = _with_precision(config, device)
    begun = on_rank_zero(lambda: is_begun(config, folder, resume))
    experiment = Experiment(config)
    source, seed = experiment.source, config.run.seed
    on_rank_zero(lambda: ensure_simulated(source))
    # Report missing data before the training.
    on_rank_zero(lambda: scans_to_evaluate(source, config.evaluate.split))
    labelled, unlabelled = experiment.scans()
    on_rank_zero(lambda: refuse(judge_source(source, training_scans(labelled, unlabelled))))
    propagated = on_rank_zero(lambda: experiment.propagated(labelled, folder))
    key = None if propagated is None else propagated.key
    identity = experiment.identity(labelled, unlabelled, key)
    bad_scans = BadScans(config.dataset.on_bad_scan, len(labelled + unlabelled))
    frequencies = on_rank_zero(lambda: class_frequencies(source, labelled, bad_scans=bad_scans))
    # Initial weights are read once: a resumed run has its own.
    has_weights = on_rank_zero(lambda: bool(checkpoints(folder)))
    initial = None if has_weights else on_rank_zero(experiment.initial_weights)
    method = experiment.method(frequencies, initial)
    title = str(run_folder(config).relative_to("runs"))  # independent of its folder

    def predictor() -> Predictor:
        return experiment.predictor(method.predictor(), device)

    def finish() -> None:
        """Recompute batch norms on whole scans, neither perturbed nor mixed."""
        count = config.train.precise_batch_norm
        if count:
            given = propagated or ()
            chosen = evenly_spaced(sorted({*labelled, *unlabelled, *given}), count)
            renew_statistics(
                method.predictor(), device, experiment.precision, experiment.images, source,
                chosen, bad_scans,
            )  # fmt: skip

    with ExitStack() as held:
        on_rank_zero(lambda: held.enter_context(sole_user(folder, "trains")))
        if begun:
            on_rank_zero(lambda: go_on(config, folder, labelled, identity))
        else:
            on_rank_zero(lambda: begin(config, folder, labelled))
        if initial is not None:
            on_rank_zero(lambda: note_init(folder, initial))
        bad_scans.keep_in(folder / RECORD)
        _warn_of_field_of_view(experiment, labelled[0], bad_scans)
        if propagated is not None:
            on_rank_zero(lambda: propagated.complete(bad_scans))
            on_rank_zero(lambda: note_propagation(config, folder, propagated))
        scans = TrainingScans(
            source, experiment.images, config.train.augmentation, labelled, unlabelled, bad_scans,
            propagated,
        )  # fmt: skip
        validation = _validation(experiment, predictor, lambda: draw_curves(folder, title))
        train(method, scans, config.train, identity, folder, seed, device, validation, finish)
        skipped_by_all(bad_scans)  # includes those of other processes
        result = evaluate_trained(experiment, predictor(), folder, config.evaluate.split)
        on_val = config.evaluate.split == SPLIT
        final = (config.train.steps, result["miou"]["point"]) if on_val else None
        on_rank_zero(lambda: draw_curves(folder, title, final))
        on_rank_zero(lambda: (folder / PREVIOUS).unlink(missing_ok=True))
        return result


def _with_precision(config: RunConfig, device: torch.device) -> RunConfig:
    """Resolve ``auto``: a run is resumed and compared in its initial precision.

    Raises:
        ConfigError: bfloat16 on a device without it.
    """
    precision = resolved(config.train.precision, device)
    if precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            f"train.precision=bfloat16, but this {device.type} has no bfloat16: set "
            "train.precision=float32 for a new run, or resume on a device with bfloat16"
        )
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"train": train})


def _warn_of_field_of_view(
    experiment: Experiment[RunConfig], scan_id: str, bad_scans: BadScans
) -> None:
    """Warn if the first scan does not fit the data set's sensor."""
    scan = bad_scans.read(experiment.source, scan_id, with_labels=False)
    if scan and (warning := field_of_view_warning(scan.points, experiment.images.sensor)):
        _log.warning("%s: %s", scan.scan_id, warning)


def _validation(
    experiment: Experiment[RunConfig], predictor: Callable[[], Predictor], show: Callable[[], None]
) -> Validation | None:
    """The validation during training; None if it is off or impossible."""
    config, source = experiment.config, experiment.source
    scan_ids = scans_to_validate(source, config.train.validate_scans)
    if config.train.validate_every == 0 or not scan_ids:
        return None

    def draw(prediction: Prediction) -> np.ndarray:
        scan, label_map = prediction.scan, source.info.label_map
        strips = {"prediction": prediction.points}
        return range_panels(scan.scan_id, scan, prediction.projection, label_map, strips)

    # The limit of bad scans is that of all scans, as a few allow none.
    bad_scans = BadScans(config.dataset.on_bad_scan, len(source.labelled_ids(SPLIT)))
    picture = draw if config.train.tensorboard else None
    return Validation(source, scan_ids, bad_scans, predictor, picture, show)
