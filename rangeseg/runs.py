"""A run: a folder with its configuration, its training and its results."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch

from rangeseg.building import build_method, identity, make_predictor, open_source
from rangeseg.config import Config, RunConfig, RunSettings, load_run_config
from rangeseg.datasets.bad_scans import RECORD, BadScans, OnBadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.range_images import RangeImages, class_frequencies
from rangeseg.datasets.splits import (
    format_ratio,
    is_ratio,
    labelled_and_unlabelled,
    parse_ratio,
    read_split,
    write_split,
)
from rangeseg.datasets.statistics import field_of_view_warning
from rangeseg.datasets.training_scans import TrainingScans
from rangeseg.engine.checkpoint import CHECKPOINT, PREVIOUS, load_checkpoint
from rangeseg.engine.device import device_name
from rangeseg.engine.export import (
    ExportSettings,
    export_predictions,
    file_hash,
    zip_submission,
)
from rangeseg.engine.inference import Predictor, evaluate, scans_to_evaluate
from rangeseg.engine.journal import training_seconds
from rangeseg.engine.processes import check_batch_size, on_first
from rangeseg.engine.trainer import class_weights, train
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.files import PARTIAL, write_file
from rangeseg.methods import find_method

_log = logging.getLogger(__name__)

CONFIG = "config.yaml"
LABELLED = "labelled.txt"


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


def result_path(folder: Path, split: str) -> Path:
    """``result.json`` holds the validation result; other splits are named in the file."""
    return folder / ("result.json" if split == "val" else f"result_{split}.json")


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
        resume: go on from the folder's checkpoint.

    Returns:
        The result; it is also written into the folder.

    Raises:
        ConfigError: the folder is not empty and ``resume`` is not set, or it was begun with other
            settings or labelled scans; or the method has no unlabelled scan to learn from.
        RangesegError: see ``train`` and ``evaluate``.
    """
    check_batch_size(config.train.batch_size)
    begun = on_first(lambda: _check_folder(config, folder, resume))
    source = open_source(config)
    # What is missing is said before the training; and the simulated street is made by one process.
    on_first(lambda: scans_to_evaluate(source, config.evaluate.split))
    labelled, unlabelled = labelled_and_unlabelled(source, config.run.labels, config.run.seed)
    used = labelled + unlabelled if find_method(config.run.method).uses_unlabelled else labelled
    bad_scans = BadScans(config.dataset.on_bad_scan, len(used))
    counted = on_first(lambda: class_frequencies(source, labelled, bad_scans=bad_scans))
    frequencies = torch.from_numpy(counted)
    weights = torch.ones(len(frequencies))
    if config.train.class_weights != "none":
        weights = class_weights(frequencies)
    torch.manual_seed(config.run.seed)
    method = build_method(config, source, weights)
    if method.uses_unlabelled and not unlabelled:
        raise ConfigError(
            f"{config.run.method} learns from unlabelled scans, but --labels {config.run.labels} "
            "leaves none: take fewer labels, or --method supervised"
        )
    prepare = _check_list if begun else _begin
    on_first(lambda: prepare(config, folder, labelled))
    bad_scans.keep_in(folder / RECORD)
    images = RangeImages(source.info, config.range_image)
    first = bad_scans.read(source, labelled[0], with_labels=False)
    if first and (warning := field_of_view_warning(first.points, images.sensor)):
        _log.warning("%s: %s", first.scan_id, warning)
    augmentation = config.train.augmentation
    scans = TrainingScans(source, images, augmentation, labelled, unlabelled, bad_scans)
    train(
        method, scans, labelled, unlabelled, config.train, identity(config, source, labelled),
        folder, config.run.seed, device,
    )  # fmt: skip
    predictor = make_predictor(config, source, method.predictor(), device)
    result = _evaluate(config, folder, source, predictor, config.evaluate.split)
    on_first(lambda: (folder / PREVIOUS).unlink(missing_ok=True))
    return result


def evaluate_run(
    folder: Path, split: str | None, device: torch.device, on_bad_scan: OnBadScan | None = None
) -> dict[str, Any]:
    """Evaluate a trained run.

    Args:
        folder: of the run.
        split: None takes that of its configuration.
        device: where the network runs.
        on_bad_scan: None takes that of its configuration.

    Returns:
        The result; it is also written into the folder.

    Raises:
        ConfigError: the folder is no run, or there is no such split.
        CheckpointError: its checkpoint is missing, damaged or not trained to the end.
        DataError: scans cannot be read.
    """
    config, source, predictor = load_run(folder, device, on_bad_scan)
    return _evaluate(config, folder, source, predictor, split or config.evaluate.split)


def predict_run(
    folder: Path,
    settings: ExportSettings,
    out: Path,
    device: torch.device,
    resume: bool,
    pack: bool,
    on_bad_scan: OnBadScan | None = None,
) -> tuple[int, dict[str, str], Path | None]:
    """Write the predictions of a trained run as files.

    Args:
        folder: of the run.
        settings: which split, and what.
        out: the folder of the files.
        device: where the network runs.
        resume: complete what an earlier call began.
        pack: also make the archive that a benchmark's server takes.
        on_bad_scan: None takes that of the run's configuration.

    Returns:
        The number of scans predicted; those that were skipped, with what is wrong with them; and
        the archive if one was made.

    Raises:
        ConfigError: a submission with withheld labels, or see ``export_predictions``.
        DataError: a submission without all scans.
        RangesegError: see ``load_run``.
    """
    if pack and settings.min_confidence is not None:
        raise ConfigError(
            "--zip packs a submission, and no benchmark takes one whose labels --min-confidence "
            "withholds: give one of the two"
        )
    config, source, predictor = load_run(folder, device, on_bad_scan)
    origin: dict[str, Any] = {"run": str(folder.resolve())}
    origin["checkpoint"] = file_hash(folder / CHECKPOINT)
    origin |= config.evaluate.model_dump(exclude={"split", "batch_size"})
    policy = config.dataset.on_bad_scan
    scans, skipped = export_predictions(predictor, source, settings, out, origin, resume, policy)
    if pack and skipped:
        raise DataError(
            f"{out} lacks the predictions of {len(skipped)} skipped scans "
            f"({', '.join(list(skipped)[:3])}{', ...' if len(skipped) > 3 else ''}), and a "
            "submission needs all: repair the scans, then the same command with --resume completes "
            "and packs it"
        )
    archive = on_first(lambda: zip_submission(source, settings.split, out)) if pack else None
    return scans, skipped, archive


def load_run(
    folder: Path, device: torch.device, on_bad_scan: OnBadScan | None = None
) -> tuple[RunConfig, ScanSource, Predictor]:
    """The configuration, the data and the trained network of a run.

    Args:
        folder: of the run.
        device: where the network runs.
        on_bad_scan: put into the configuration if it is not None.

    Raises:
        ConfigError: the folder is no run.
        DataError: its data are not where they were.
        CheckpointError: its checkpoint is missing, damaged or not trained to the end.
    """
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} holds no {CONFIG}, so it is no run: give the folder of a run")
    config = load_run_config(folder / CONFIG)
    if on_bad_scan is not None:
        dataset = config.dataset.model_copy(update={"on_bad_scan": on_bad_scan})
        config = config.model_copy(update={"dataset": dataset})
    if not config.dataset.root.is_dir():  # the simulated data set would make itself anew
        raise DataError(
            f"{config.dataset.root}, the data of {folder}, is not there: copy it back, or change "
            f"dataset.root in {folder / CONFIG}"
        )
    source = open_source(config)
    method = build_method(config, source, torch.ones(source.info.label_map.num_classes))
    path = folder / CHECKPOINT
    labelled = read_split(folder / LABELLED)
    step, _ = load_checkpoint(path, identity(config, source, labelled), method, device)
    if step < config.train.steps:
        raise CheckpointError(
            f"{path} has {step} of {config.train.steps} steps: train the run to its end with "
            "--resume first"
        )
    return config, source, make_predictor(config, source, method.predictor(), device)


def read_result(path: Path) -> dict[str, Any]:
    """A result that ``evaluate`` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        result["miou"]["point"], result["run"]["method"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a result ({error!r}): evaluate the run again") from None
    return result


def _check_folder(config: RunConfig, folder: Path, resume: bool) -> bool:
    """Whether the folder holds this run already; nothing is written yet."""
    path = folder / CONFIG
    if not folder.exists():
        return False
    # What a run that was killed as it began may have left.
    left = {LABELLED, LABELLED + PARTIAL, CONFIG + PARTIAL}
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
    was, now = load_run_config(path).comparable(), config.comparable()
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            raise ConfigError(
                f"{path} was begun with {key}={was.get(key)}, now it is {now.get(key)}: "
                "resume with the same settings, or choose another --out"
            )
    return True


def _begin(config: RunConfig, folder: Path, labelled: list[str]) -> None:
    run = config.run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LABELLED).unlink(missing_ok=True)
        write_split(folder / LABELLED, labelled, f"labelled: {run.labels}, seed {run.seed}")
        write_file(folder / CONFIG, config.resolved())
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made ({error.strerror}): make room, or choose another --out"
        ) from None


def _check_list(config: RunConfig, folder: Path, labelled: list[str]) -> None:
    if read_split(folder / LABELLED) != labelled:
        raise ConfigError(
            f"{folder / LABELLED} lists other scans than --labels {config.run.labels} now gives: "
            "restore the list and the data as they were, or choose another --out"
        )


def _evaluate(
    config: RunConfig, folder: Path, source: ScanSource, predictor: Predictor, split: str
) -> dict[str, Any]:
    result = evaluate(predictor, source, split, config.dataset.on_bad_scan)
    trained = BadScans(config.dataset.on_bad_scan, 0)
    trained.keep_in(folder / RECORD)
    settings = config.comparable()
    # How often is saved changes no figure; an exact order of sums is no other experiment.
    for key in ("run.seed", "dataset.root", "train.save_minutes", "train.deterministic"):
        del settings[key]
    result["run"] = {
        **config.run.model_dump(),
        "labelled": config.train.labelled,
        "labelled_scans": len(read_split(folder / LABELLED)),
        "skipped_scans": trained.report(),
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "device": device_name(predictor.device),
        "train_seconds": training_seconds(folder),
        # Runs with one fingerprint differ in nothing but the seed.
        "fingerprint": hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12],
    }
    on_first(lambda: _write_result(result_path(folder, split), result))
    return result


def _write_result(path: Path, result: dict[str, Any]) -> None:
    try:
        write_file(path, json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}): make room and evaluate the run again"
        ) from None
