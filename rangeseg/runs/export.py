"""Export the network of a run as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rangeseg.datasets.bad_scans import BadScan
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.deploy.backends import extra
from rangeseg.deploy.check import Agreement, compare, require
from rangeseg.deploy.metadata import describe
from rangeseg.deploy.write import to_onnx
from rangeseg.engine.checkpoint import CHECKPOINT
from rangeseg.engine.inference import Prepared, prepare
from rangeseg.engine.prediction_files import file_hash
from rangeseg.errors import ConfigError
from rangeseg.models.prediction import needs_float32
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.trained import load_network
from rangeseg.system.files import writable, write_file

SCANS = 4
"""Number of scans to check a file on."""


def export_run(folder: Path, out: Path, half: bool) -> Agreement:
    """Write the network of a run as ONNX, and check it on scans of the run's data.

    Args:
        folder: folder of the run.
        out: path of the file; it must not exist.
        half: store weights and activations in float16.

    Returns:
        The agreement of the file with float32 PyTorch.

    Raises:
        ConfigError: the folder is not a run folder, a package is missing, or the file exists or
            cannot be written.
        DataError: the file does not agree well enough and is not kept, or no scan can be read.
        CheckpointError: see ``load_network``.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        extra(module)
    if out.exists():
        raise ConfigError(f"{out} exists: choose another --out, or move it away")
    experiment, network = load_network(folder, torch.device("cpu"))
    scans = _scans(experiment)
    config = experiment.config
    metadata = describe(
        experiment.source, experiment.images, config.evaluate, half=half,
        bfloat16=experiment.precision != "float32" and not needs_float32(network),
        run=_protocol(config, folder),
    )  # fmt: skip
    content = to_onnx(network, metadata)
    agreement = compare(content, network, scans)
    require(agreement, half)
    with writable(out, "make room, or choose another --out"):
        write_file(out, content)
    return agreement


def _scans(experiment: Experiment[RunConfig]) -> list[Prepared]:
    """A few scans of the evaluated split, without bad ones, at least one.

    Raises:
        DataError: none can be read.
    """
    source = experiment.source
    chosen = evenly_spaced(source.scan_ids(experiment.config.evaluate.split), SCANS)
    found = [prepare(experiment.images, source, False, scan_id) for scan_id in chosen]
    scans = [scan for scan in found if isinstance(scan, Prepared)]
    for scan in found:
        if isinstance(scan, BadScan) and not scans:
            raise scan.error
    return scans


def _protocol(config: RunConfig, folder: Path) -> dict[str, Any]:
    """The training protocol of the network, and its checkpoint."""
    return {
        **config.run.model_dump(mode="json"),
        "network": config.model.model_dump(mode="json"),
        "settings": config.of_the_method(),
        "labelled": config.train.labelled,
        "steps": config.train.steps,
        "checkpoint": file_hash(folder / CHECKPOINT),
    }
