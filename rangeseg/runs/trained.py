"""A trained run: loaded, evaluated, its predictions written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from rangeseg.datasets import missing_data
from rangeseg.datasets.bad_scans import RECORD, BadScans, OnBadScan
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.split_files import fingerprint
from rangeseg.datasets.splits import read_split
from rangeseg.engine.checkpoint import CHECKPOINT, load_checkpoint
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.export import (
    ExportSettings,
    export_predictions,
    file_hash,
    zip_submission,
)
from rangeseg.engine.inference import Predictor
from rangeseg.engine.metrics_log import training_seconds
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.report.comparison import KINDS
from rangeseg.runs.config import RunConfig, load_run_config
from rangeseg.runs.experiment import (
    build_method,
    identity,
    make_predictor,
    open_source,
)
from rangeseg.system.device import device_name
from rangeseg.system.distributed import on_rank_zero
from rangeseg.system.files import PARTIAL, on_disk, write_file

CONFIG = "config.yaml"
LABELLED = "labelled.txt"


def result_path(folder: Path, split: str) -> Path:
    """``result.json`` holds the validation result; other splits are named in the file."""
    return folder / ("result.json" if split == "val" else f"result_{split}.json")


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
    return evaluate_trained(config, folder, source, predictor, split or config.evaluate.split)


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
    origin |= config.evaluate.model_dump(exclude={"split", "batch_size", "threads"})
    policy = config.dataset.on_bad_scan
    scans, skipped = export_predictions(predictor, source, settings, out, origin, resume, policy)
    if pack and skipped:
        raise DataError(
            f"{out} lacks the predictions of {len(skipped)} skipped scans "
            f"({', '.join(list(skipped)[:3])}{', ...' if len(skipped) > 3 else ''}), and a "
            "submission needs all: repair the scans, then the same command with --resume completes "
            "and packs it"
        )
    archive = on_rank_zero(lambda: zip_submission(source, settings.split, out)) if pack else None
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
    source = open_source(config)
    missing = missing_data(source)  # the simulated data set would make itself anew
    if missing:
        raise DataError(
            f"{config.dataset.root}, the data of {folder}, {missing}: copy it back, or change "
            f"dataset.root in {folder / CONFIG}"
        )
    method = build_method(config, source, torch.ones(source.info.label_map.num_classes))
    path = folder / CHECKPOINT
    labelled = read_split(folder / LABELLED)
    step, _ = load_checkpoint(path, identity(config, source, labelled), method, device)
    if step < config.train.steps:
        raise CheckpointError(
            f"{path} has {step} of {config.train.steps} steps: train the run to its end with "
            "--resume first"
        )
    if step > config.train.steps:
        raise CheckpointError(
            f"{path} has {step} of {config.train.steps} steps: bring it back from a copy, or train "
            "the run again"
        )
    return config, source, make_predictor(config, source, method.predictor(), device)


def read_result(path: Path) -> dict[str, Any]:
    """A result that ``evaluate`` wrote, and in ``file`` where.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        protocol, run = result["protocol"], result["run"]
        protocol["dataset"], int(result["scans"]), [run[key] for key in _OF_A_RUN]
        known = [iou for iou in result["iou"].values() if iou is not None]
        [float(figure) for figure in [*(result["miou"][kind] for kind in KINDS), *known]]
        protocol["split"], list(result["skipped_scans"]), len(run["skipped_scans"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        named = path.stem.partition("_")[2]
        again = f"rangeseg evaluate {path.parent}" + (f" --split {named}" if named else "")
        raise DataError(f"{path} is not a result ({error!r}): `{again}` makes it anew") from None
    return {**result, "file": str(path)}


_OF_A_RUN = (
    "method", "settings", "labelled", "labels", "labelled_scans", "labelled_list", "seed", "steps",
    "train_seconds", "precision", "fingerprint", "common",
)  # fmt: skip


def evaluate_trained(
    config: RunConfig, folder: Path, source: ScanSource, predictor: Predictor, split: str
) -> dict[str, Any]:
    """Evaluate the network of a run and write the result into its folder.

    Args:
        config: of the run.
        folder: of the run.
        source: its data.
        predictor: around its network.
        split: which scans.

    Returns:
        The result.

    Raises:
        ConfigError: the result cannot be written.
        DataError: scans cannot be read.
    """
    path = result_path(folder, split)
    on_rank_zero(lambda: _check_writable(path))  # not only when all scans are done
    result = evaluate(predictor, source, split, config.dataset.on_bad_scan)
    trained = BadScans(config.dataset.on_bad_scan, 0)
    trained.keep_in(folder / RECORD)
    labelled = read_split(folder / LABELLED)
    result["run"] = {
        **config.run.model_dump(),
        "settings": config.of_the_method(),
        "labelled": config.train.labelled,
        "labelled_scans": len(labelled),
        "labelled_list": fingerprint(labelled),
        "skipped_scans": trained.report(),
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "precision": config.train.precision,
        "device": device_name(predictor.device),
        "train_seconds": training_seconds(folder),
        # Runs with one fingerprint differ in nothing but the seed.
        "fingerprint": _hash(config.of_the_figures()),
        # And with one of these, in the method, its settings and its labelled branch.
        "common": _hash(config.besides_the_method()),
    }
    on_rank_zero(lambda: _write_result(path, result))
    return result


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _check_writable(path: Path) -> None:
    probe = path.with_name(path.name + PARTIAL)
    try:
        with on_disk(probe):
            pass
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None


def _write_result(path: Path, result: dict[str, Any]) -> None:
    try:
        write_file(path, json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path} cannot be written ({error.strerror}): make room, or evaluate a copy of the run "
        "where you may write"
    )
