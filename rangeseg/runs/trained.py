"""Load and evaluate a trained run."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rangeseg.datasets.bad_scans import RECORD, BadScans, OnBadScan
from rangeseg.datasets.corruption import Corruption
from rangeseg.datasets.split_files import fingerprint, read_split
from rangeseg.deploy.backends import BackendName
from rangeseg.deploy.convert import resolve_backend
from rangeseg.deploy.metadata import describe
from rangeseg.deploy.segmenter import Segmenter
from rangeseg.engine.checkpoint import CHECKPOINT, load_checkpoint
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.inference import Predictor
from rangeseg.engine.metrics_log import training_seconds
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.report.comparison import KINDS
from rangeseg.report.rows import init_text, propagation_text
from rangeseg.runs.as_published import differences
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import (
    CONFIG,
    LABELLED,
    read_init,
    read_propagation,
    read_run_config,
    result_path,
    result_words,
)
from rangeseg.system.device import choose_device
from rangeseg.system.distributed import on_rank_zero
from rangeseg.system.files import PARTIAL, on_disk, writable, write_file


def evaluate_run(
    folder: Path,
    split: str | None,
    device: torch.device,
    on_bad_scan: OnBadScan | None = None,
    tta: int | None = None,
    backend: BackendName = "torch",
    corruption: Corruption | None = None,
) -> dict[str, Any]:
    """Evaluate a trained run.

    Args:
        folder: folder of the run.
        split: split to evaluate; None takes the configuration's.
        device: device of the network.
        on_bad_scan: policy; None takes the configuration's.
        tta: views of each scan; None takes the configuration's.
        backend: name of the backend; ``auto`` takes the fastest available.
        corruption: applied to each scan first.

    Returns:
        The result; it is also written into the folder.

    Raises:
        ConfigError: the folder is not a run folder, or there is no such split.
        CheckpointError: its checkpoint is missing, damaged or not trained to the end.
        DataError: scans cannot be read.
    """
    opened = open_for_evaluation(folder, split, device, on_bad_scan, tta, backend)
    return evaluate_trained(*opened, corruption)


def open_for_evaluation(
    folder: Path,
    split: str | None,
    device: torch.device,
    on_bad_scan: OnBadScan | None,
    tta: int | None,
    backend: BackendName,
) -> tuple[Experiment[RunConfig], Predictor, Path, str]:
    """Open the first arguments of ``evaluate_trained``; see ``evaluate_run``."""
    experiment, network = load_network(folder, device, on_bad_scan, tta)
    split = split or experiment.config.evaluate.split
    backend = resolve_backend(backend, device, len(experiment.source.labelled_ids(split)))
    return experiment, experiment.predictor(network, device, backend), folder, split


def load_run(
    folder: Path,
    device: torch.device,
    on_bad_scan: OnBadScan | None = None,
    tta: int | None = None,
) -> tuple[Experiment[RunConfig], Predictor]:
    """Load the parts of a run, and a predictor with its network; see ``load_network``."""
    experiment, network = load_network(folder, device, on_bad_scan, tta)
    return experiment, experiment.predictor(network, device)


def load_network(
    folder: Path,
    device: torch.device,
    on_bad_scan: OnBadScan | None = None,
    tta: int | None = None,
) -> tuple[Experiment[RunConfig], nn.Module]:
    """Load the parts of a run, and its trained network in float32.

    Args:
        folder: folder of the run.
        device: device of the network.
        on_bad_scan: replaces the configuration's if not None.
        tta: likewise.

    Raises:
        ConfigError: the folder is not a run folder.
        DataError: its data are missing.
        CheckpointError: its checkpoint is missing, damaged or not trained to the end.
    """
    experiment = _open(folder, on_bad_scan, tta)
    try:
        experiment.source.check_root()
    except DataError as error:
        raise DataError(
            f"the data of {folder}: {error}; if they lie elsewhere, change dataset.root in "
            f"{folder / CONFIG}"
        ) from None
    return experiment, _trained_network(experiment, folder, device)


def segmenter_of_run(
    folder: Path,
    backend: BackendName = "auto",
    device_name: str = "auto",
    threads: int | None = None,
    tta: int | None = None,
    scans: int = 1,
) -> Segmenter:
    """Load the network of a run without its data; see ``load_segmenter``."""
    if threads is not None:
        torch.set_num_threads(threads)
    device = choose_device(device_name)
    experiment = _open(folder, None, tta)
    network = _trained_network(experiment, folder, device)
    backend = resolve_backend(backend, device, scans)
    predictor = experiment.predictor(network, device, backend)
    metadata = describe(experiment.source, experiment.images, experiment.config.evaluate)
    return Segmenter(metadata, predictor)


def _open(folder: Path, on_bad_scan: OnBadScan | None, tta: int | None) -> Experiment[RunConfig]:
    """Open the parts of a run, with some settings changed, without its data."""
    config = read_run_config(folder)
    if on_bad_scan is not None:
        dataset = config.dataset.model_copy(update={"on_bad_scan": on_bad_scan})
        config = config.model_copy(update={"dataset": dataset})
    if tta is not None:
        if tta < 1:
            raise ConfigError(f"--tta {tta}: give a number of views, from 1 on")
        evaluate_ = config.evaluate.model_copy(update={"tta": tta})
        config = config.model_copy(update={"evaluate": evaluate_})
    return Experiment(config)


def _trained_network(
    experiment: Experiment[RunConfig], folder: Path, device: torch.device
) -> nn.Module:
    """Load the network of a fully trained run, in float32."""
    config = experiment.config
    method, path = experiment.method(), folder / CHECKPOINT
    identity = experiment.identity(read_split(folder / LABELLED))
    step, _ = load_checkpoint(path, identity, method, device)
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
    return method.predictor().eval()


def read_result(path: Path) -> dict[str, Any]:
    """Read a result of ``evaluate``, and add its path as ``file``.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        protocol, run = result["protocol"], result["run"]
        protocol["dataset"], int(result["scans"]), [run[key] for key in _OF_A_RUN]
        known = [iou for iou in result["iou"].values() if iou is not None]
        figures = [result["fwiou"], result["accuracy"], result["calibration"]["ece"]]
        [float(f) for f in [*(result["miou"][kind] for kind in KINDS), *known, *figures]]
        [interval["miou"] for interval in result["distance"].values()]
        protocol["split"], protocol["backend"]
        list(result["skipped_scans"]), len(run["skipped_scans"])
        if (propagation := protocol.get("propagation")) is not None:
            propagation_text(propagation), int(propagation["scans"])
        init_text(protocol.get("init"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        again = f"rangeseg evaluate {path.parent} {result_words(path)}".rstrip()
        raise DataError(f"{path} is not a result ({error!r}): `{again}` writes it again") from None
    return {**result, "file": str(path)}


_OF_A_RUN = (
    "method", "settings", "labelled", "labels", "labelled_scans", "labelled_list", "seed", "steps",
    "train_seconds", "precision", "batch_size", "device", "fingerprint", "common", "published",
)  # fmt: skip


def evaluate_trained(
    experiment: Experiment[RunConfig],
    predictor: Predictor,
    folder: Path,
    split: str,
    corruption: Corruption | None = None,
) -> dict[str, Any]:
    """Evaluate the network of a run and write the result into its folder.

    Args:
        experiment: the parts of the run.
        predictor: predictor with its network.
        folder: folder of the run.
        split: name of the split.
        corruption: applied to each scan first.

    Returns:
        The result.

    Raises:
        ConfigError: the result cannot be written.
        DataError: scans cannot be read, or the propagation of labels is unknown.
    """
    config, path = experiment.config, result_path(folder, split, corruption)
    on_rank_zero(lambda: _check_writable(path))  # check before all scans are done
    propagation, init = read_propagation(config, folder), read_init(config, folder)
    on_bad_scan = config.dataset.on_bad_scan
    result = evaluate(predictor, experiment.source, split, on_bad_scan, corruption)
    trained = BadScans(config.dataset.on_bad_scan, 0)
    trained.keep_in(folder / RECORD)
    labelled = read_split(folder / LABELLED)
    result["protocol"] |= {"propagation": propagation, "init": init}
    result["run"] = {
        **config.run.model_dump(),
        "settings": config.of_the_method(),
        "network": config.model.model_dump(mode="json"),
        "labelled": config.train.labelled,
        "labelled_scans": len(labelled),
        "labelled_list": fingerprint(labelled),
        "skipped_scans": trained.report(),
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "precision": config.train.precision,
        "device": predictor.backend.device,
        "train_seconds": training_seconds(folder),
        # Runs with equal fingerprints differ only in the seed.
        "fingerprint": _hash(config.of_the_figures()),
        # With this one equal, only in the method, its settings and labelled branch.
        "common": _hash(config.besides_the_method()),
        # Settings that make the published figure of this method incomparable.
        "published": differences(config),
    }
    on_rank_zero(lambda: _write_result(path, result))
    return result


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]


def _check_writable(path: Path) -> None:
    probe = path.with_name(path.name + PARTIAL)
    with _writable(path):
        with on_disk(probe):
            pass
        probe.unlink()


def _write_result(path: Path, result: dict[str, Any]) -> None:
    with _writable(path):
        write_file(path, json.dumps(result, indent=2) + "\n")


def _writable(path: Path) -> AbstractContextManager[None]:
    return writable(path, "make room, or evaluate a copy of the run where you may write")
