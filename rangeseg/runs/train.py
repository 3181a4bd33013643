"""A run: a folder with its configuration and its training."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.datasets.bad_scans import RECORD, BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.batches import TrainingScans
from rangeseg.datasets.range_images import RangeImages, class_frequencies
from rangeseg.datasets.split_files import fingerprint
from rangeseg.datasets.splits import (
    format_ratio,
    is_ratio,
    labelled_and_unlabelled,
    parse_ratio,
    read_split,
    write_split,
)
from rangeseg.datasets.survey.statistics import field_of_view_warning
from rangeseg.drawing.curves import draw_curves
from rangeseg.engine.batch_norm import renew_statistics
from rangeseg.engine.checkpoint import PREVIOUS, Identity, check_owner
from rangeseg.engine.evaluation import scans_to_evaluate, skipped_by_all
from rangeseg.engine.inference import Prediction
from rangeseg.engine.trainer import train
from rangeseg.engine.validation import SPLIT, Validation, evenly_spaced, scans_to_validate
from rangeseg.errors import ConfigError
from rangeseg.methods import find_method
from rangeseg.methods.base import Method
from rangeseg.runs.config import Config, RunConfig, RunSettings, load_run_config
from rangeseg.runs.experiment import build_untrained, identity, make_predictor, open_source
from rangeseg.runs.trained import CONFIG, LABELLED, evaluate_trained
from rangeseg.system.device import resolved
from rangeseg.system.distributed import check_batch_size, on_rank_zero
from rangeseg.system.files import LOCK, PARTIAL, sole_user, write_file

_log = logging.getLogger(__name__)


def plan_run(config: Config, method: str, labels: str, seed: int) -> RunConfig:
    """The configuration of a run.

    Args:
        config: of the data set.
        method: a name in METHODS.
        labels: a ratio or the path of a split file.
        seed: of every random draw.

    Raises:
        ConfigError: an unknown method, a wrong ratio or seed.
    """
    find_method(method)
    if not 0 <= seed < 1 << 32:
        raise ConfigError(f"--seed {seed}: give a whole number from 0 to {(1 << 32) - 1}")
    if is_ratio(labels):
        labels = format_ratio(parse_ratio(labels))  # 0.1 and 10% are the same budget
    values = config.model_dump()
    # A run must find its data from any working directory.
    values["dataset"]["root"] = config.dataset.root.resolve()
    run = RunSettings(method=method, labels=labels, seed=seed)
    return RunConfig.model_validate(values | {"run": run})


def run_folder(config: RunConfig) -> Path:
    """``runs/<data set>/<method>/<labels>/seed<N>``; a plain labelled branch is named."""
    run = config.run
    plain = "_plain" if config.train.labelled == "plain" else ""
    labels = run.labels.replace("%", "pct") if is_ratio(run.labels) else Path(run.labels).stem
    return Path("runs") / config.dataset.name / (run.method + plain) / labels / f"seed{run.seed}"


def train_run(
    config: RunConfig, folder: Path, device: torch.device, resume: bool
) -> dict[str, Any]:
    """Train a run to its end and evaluate it.

    The folder is written to only once everything that can be checked before the training has
    been.

    Args:
        config: what ``plan_run`` returned.
        folder: where the run is kept.
        device: where the networks run.
        resume: go on from the folder's checkpoint; settings that change neither weights nor
            result may differ from those it was begun with, and take their place in the folder.

    Returns:
        The result; it is also written into the folder.

    Raises:
        ConfigError: the folder is not empty and ``resume`` is not set, or it was begun with other
            settings or scans, or another process trains in it; or the method has no
            unlabelled scan to learn from.
        RangesegError: see ``train`` and ``evaluate``.
    """
    check_batch_size(config.train.batch_size)
    config = _with_precision(config, device)
    begun = on_rank_zero(lambda: _check_folder(config, folder, resume))
    source = open_source(config)
    # What is missing is said before the training; and the simulated street is made by one process.
    on_rank_zero(lambda: scans_to_evaluate(source, config.evaluate.split))
    labelled, unlabelled = labelled_and_unlabelled(source, config.run.labels, config.run.seed)
    learnt_from = unlabelled if find_method(config.run.method).uses_unlabelled else []
    owner = replace(identity(config, source, labelled), unlabelled=fingerprint(learnt_from))
    bad_scans = BadScans(config.dataset.on_bad_scan, len(labelled + learnt_from))
    counted = on_rank_zero(lambda: class_frequencies(source, labelled, bad_scans=bad_scans))
    method = build_untrained(config, source, unlabelled, counted)
    with ExitStack() as held:
        on_rank_zero(lambda: _hold(folder, held))
        prepare = _go_on if begun else _begin
        on_rank_zero(lambda: prepare(config, folder, labelled, owner))
        bad_scans.keep_in(folder / RECORD)
        images = RangeImages(source.info, config.range_image)
        first = bad_scans.read(source, labelled[0], with_labels=False)
        if first and (warning := field_of_view_warning(first.points, images.sensor)):
            _log.warning("%s: %s", first.scan_id, warning)
        augmentation = config.train.augmentation
        scans = TrainingScans(source, images, augmentation, labelled, unlabelled, bad_scans)

        def finish() -> None:
            """Batch norms for what is evaluated: whole scans, nothing perturbed or mixed."""
            count = config.train.precise_batch_norm
            if count:
                predictor = make_predictor(config, source, method.predictor(), device)
                chosen = evenly_spaced(sorted(labelled + learnt_from), count)
                renew_statistics(predictor, source, chosen, bad_scans)

        title = str(run_folder(config).relative_to("runs"))  # wherever it is kept
        train(
            method, scans, labelled, unlabelled, config.train, owner,
            folder, config.run.seed, device, _validation(config, source, method, device),
            lambda: draw_curves(folder, title),
            finish,
        )  # fmt: skip
        skipped_by_all(bad_scans)  # those of other processes are warned of too
        predictor = make_predictor(config, source, method.predictor(), device)
        result = evaluate_trained(config, folder, source, predictor, config.evaluate.split)
        on_val = config.evaluate.split == SPLIT
        final = (config.train.steps, result["miou"]["point"]) if on_val else None
        on_rank_zero(lambda: draw_curves(folder, title, final))
        on_rank_zero(lambda: (folder / PREVIOUS).unlink(missing_ok=True))
        return result


def _with_precision(config: RunConfig, device: torch.device) -> RunConfig:
    """``auto`` resolved: a run goes on, and is compared, in the precision it was begun with."""
    train = config.train.model_copy(update={"precision": resolved(config.train.precision, device)})
    return config.model_copy(update={"train": train})


# Of the settings that do not shape the weights, those that a result depends on.
_OF_THE_RESULT = ("dataset.description.", "evaluate.", "run.")


def _check_folder(config: RunConfig, folder: Path, resume: bool) -> bool:
    """Whether the folder holds this run already; nothing is written yet."""
    path = folder / CONFIG
    if not folder.exists():
        return False
    # What a run that was killed as it began may have left.
    left = {LOCK, LABELLED + PARTIAL, CONFIG + PARTIAL}
    if _is_our_list(folder / LABELLED):
        left.add(LABELLED)
    if folder.is_dir() and {p.name for p in folder.iterdir()} <= left:
        return False
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose another --out")
    if not resume:
        raise ConfigError(
            f"{folder} is not empty: add --resume to go on there, or choose another --out"
        )
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {CONFIG}, so it is no run: choose another --out")
    begun = load_run_config(path)
    was, now = begun.comparable(), config.comparable()
    of_the_weights = begun.of_the_weights().keys() | config.of_the_weights().keys()
    for key in sorted(was.keys() | now.keys()):
        matters = key in of_the_weights or key.startswith(_OF_THE_RESULT)
        if matters and was.get(key) != now.get(key):
            raise ConfigError(
                f"{path} was begun with {key}={was.get(key)}, now it is {now.get(key)}: "
                "resume with the same settings, or choose another --out"
            )
    return True


def _is_our_list(path: Path) -> bool:
    """Whether ``_begin`` wrote a list; anybody may have one of this name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return re.fullmatch(rb"# labelled: .+, seed \d+\n", file.readline(1 << 13)) is not None


def _hold(folder: Path, held: ExitStack) -> None:
    """Make the folder and keep other processes from it until ``held`` is closed."""
    try:
        held.enter_context(sole_user(folder))
    except BlockingIOError:
        raise ConfigError(
            f"another process trains in {folder}: wait for its end, or choose another --out"
        ) from None
    except OSError as error:
        raise _no_folder(folder, error) from None


def _begin(config: RunConfig, folder: Path, labelled: list[str], owner: Identity) -> None:
    run = config.run
    try:
        (folder / LABELLED).unlink(missing_ok=True)
        write_split(folder / LABELLED, labelled, f"labelled: {run.labels}, seed {run.seed}")
        write_file(folder / CONFIG, config.resolved())
    except OSError as error:
        raise _no_folder(folder, error) from None


def _no_folder(folder: Path, error: OSError) -> ConfigError:
    reason = f"{folder} cannot be made ({error.strerror})"
    return ConfigError(f"{reason}: make room, or choose another --out")


def check_list(folder: Path, labels: str, labelled: list[str]) -> None:
    """Check that a run was begun with the labelled scans that its labels give now.

    Args:
        folder: of the run.
        labels: as given to ``--labels``.
        labelled: sorted ids of the scans that these are.

    Raises:
        ConfigError: they are others.
    """
    if read_split(folder / LABELLED) != labelled:
        raise ConfigError(
            f"{folder / LABELLED} lists other scans than --labels {labels} now gives: restore the "
            "list and the data as they were, or choose another --out"
        )


def _go_on(config: RunConfig, folder: Path, labelled: list[str], owner: Identity) -> None:
    """Check the scans, then keep the settings that have changed."""
    check_list(folder, config.run.labels, labelled)
    path = folder / CONFIG
    if load_run_config(path).resolved() == config.resolved():
        return
    check_owner(folder, owner)  # a folder that cannot go on keeps its settings
    try:
        write_file(path, config.resolved())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): make room") from None


def _validation(
    config: RunConfig, source: ScanSource, method: Method[Any], device: torch.device
) -> Validation | None:
    """What looks at the mIoU during the training; None where it is not wanted or not possible."""
    scan_ids = scans_to_validate(source, config.train.validate_scans)
    if config.train.validate_every == 0 or not scan_ids:
        return None

    def draw(prediction: Prediction) -> np.ndarray:
        from rangeseg.drawing.strips import range_panels

        scan, label_map = prediction.scan, source.info.label_map
        return range_panels(scan.scan_id, scan, prediction.projection, label_map, prediction.points)

    return Validation(
        source,
        scan_ids,
        # A few scans hold too few bad ones for a limit: it is that of all.
        BadScans(config.dataset.on_bad_scan, len(source.labelled_ids(SPLIT))),
        lambda: make_predictor(config, source, method.predictor(), device),
        draw if config.train.tensorboard else None,
    )
