"""A run folder out of a checkpoint that the authors of a network published."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rangeseg.datasets.range_images import STRIDE
from rangeseg.engine.checkpoint import CHECKPOINT, SAVE_AGAIN, read_archive, save_checkpoint
from rangeseg.engine.initial_weights import InitialWeights
from rangeseg.engine.prediction_files import file_hash
from rangeseg.errors import CheckpointError, ConfigError
from rangeseg.models.official import OFFICIAL, OfficialNetwork, translate
from rangeseg.runs.config import RunConfig
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import begin, note_init

_EVALUATE: dict[str, dict[str, Any]] = {
    "fidnet": {"back_projection": "nearest_label", "window": 5},
    "cenet": {
        "back_projection": "knn_vote", "window": 7, "neighbours": 7, "sigma": 1.0, "cutoff": 2.0,
    },
}  # fmt: skip
"""How the authors take labels back to the points."""


def import_weights(
    name: str, file: Path, out: Path, root: Path, width: int | None = None
) -> RunConfig:
    """Make a run of a published network.

    It predicts as the authors' code does: their rows, channels, padding, interpolation and
    back-projection. The run has 0 steps: nothing was trained here.

    Args:
        name: a key of OFFICIAL.
        file: the ``.pth`` file of the authors; nothing in it is executed.
        out: the folder of the run; it must not exist.
        root: of SemanticKITTI, which need not be there yet.
        width: columns of the range images that the network was trained on; None where it was
            published for one width.

    Returns:
        The configuration of the run.

    Raises:
        ConfigError: the folder exists or cannot be written, or the width is not known.
        CheckpointError: the file is missing, damaged, or holds another network.
    """
    official = OFFICIAL[name]
    if out.exists():
        raise ConfigError(f"{out} exists: choose another --out, or move it away")
    width = _width(official, width)
    found = _read(file)
    official = official.variant(found)
    config = _config(name, file, root, width, official.channels)
    experiment = Experiment(config)
    method = experiment.method()
    try:
        wanted, statistics = method.student.state_dict(), experiment.images.statistics
        state = translate(official, found, wanted, statistics)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    method.student.load_state_dict(state)
    train = experiment.source.official("train")
    assert train is not None
    labelled = sorted(train.scan_ids)
    begin(config, out, labelled)
    record = {
        "file": str(config.train.init),
        "weights": file_hash(file)[:12],
        "origin": f"official {official.title}",
        "taken": len(state),
        "tensors": len(state),
        "new": {},
    }
    note_init(out, InitialWeights({}, {}, record))
    save_checkpoint(out / CHECKPOINT, experiment.identity(labelled), 0, method, {"step": 0})
    return config


def _width(official: OfficialNetwork, width: int | None) -> int:
    if width is not None:
        if width < STRIDE or width % STRIDE:
            raise ConfigError(f"--width {width}: give a multiple of {STRIDE}")
        return width
    if len(official.widths) > 1:
        raise ConfigError(
            f"{official.title} was published for images of {_or(official.widths)} columns: give "
            "the file's width with --width"
        )
    return official.widths[0]


def _or(widths: tuple[int, ...]) -> str:
    *most, last = map(str, widths)
    return f"{', '.join(most)} or {last}"


def _config(name: str, file: Path, root: Path, width: int, channels: tuple[str, ...]) -> RunConfig:
    """The configuration under which the imported network predicts as the official one."""
    image = {"height": 64, "width": width, "rows": "inclination", "channels": channels}
    values = {
        "dataset": {"name": "semantic_kitti", "root": root.expanduser().resolve()},
        "range_image": image,
        "model": {"name": name, "width": 128, "padding": "zeros", "align_corners": True},
        "train": {
            "steps": 0, "labelled": "plain", "precision": "float32",
            "init": file.expanduser().resolve(),
        },
        "evaluate": _EVALUATE[name],
        "run": {"method": "supervised", "labels": "100%", "seed": 0},
    }  # fmt: skip
    return RunConfig.model_validate(values)


def _read(file: Path) -> dict[str, Tensor]:
    """The state_dict in a file, alone or with the state of its training.

    Raises:
        CheckpointError: no such file, a damaged one, or one without a state_dict.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist: give the checkpoint of the authors")
    if not zipfile.is_zipfile(file):
        raise CheckpointError(
            f"{file} is damaged, no checkpoint, or older than PyTorch 1.6; none of it was run: "
            f"{SAVE_AGAIN}"
        )
    content = read_archive(file, torch.device("cpu"))
    for key in ("state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{file} holds no state_dict")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) < len(content):
        others = [str(name) for name in content if str(name) not in tensors]
        raise CheckpointError(
            f"{file} holds no state_dict of a network, but {', '.join(others[:4])}"
        )
    return tensors
