"""Begin a training from another trained network."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rangeseg.engine.checkpoint import CHECKPOINT, check_content, read_archive
from rangeseg.errors import CheckpointError
from rangeseg.models import ModelSettings
from rangeseg.models.network import Network

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """The initial weights of a training.

    Attributes:
        body: name -> tensor to take, without the heads.
        heads: name -> tensor of the classifying modules; empty if the classes differ.
        record: entry for results and reports: ``file``, ``weights`` (first digits of their
            SHA-256), ``origin``, ``taken`` of ``tensors``, and ``new``: name -> why not taken.
    """

    body: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    record: Mapping[str, Any]

    def put_into(self, network: Network, with_heads: bool) -> None:
        """Replace the random weights of a network, and keep the rest.

        Args:
            network: same architecture as for ``read_initial_weights``.
            with_heads: also take the heads.
        """
        taken = {**self.body, **self.heads} if with_heads else {**self.body}
        network.load_state_dict(taken, strict=False)


@dataclass(frozen=True)
class _Found:
    """The network in a file and its metadata; empty for plain weights."""

    tensors: dict[str, Tensor]
    origin: str
    model: str | None = None
    classes: list[str] | None = None
    channels: list[str] | None = None


def read_initial_weights(
    path: Path,
    network: Network,
    model: ModelSettings,
    classes: tuple[str, ...],
    channels: tuple[str, ...],
) -> InitialWeights:
    """Read the weights that fit a network by name and shape.

    Heads are taken if the classes have the same names in the same order, and the first layer if the
    channels do. In a file without names equal shapes suffice.

    Args:
        path: the folder of a run, its ``last.pt``, or a network's ``state_dict`` from
            ``torch.save``. A run gives the network used for evaluation.
        network: network to train; may be on the meta device; unchanged.
        model: settings of the network.
        classes: names of the outputs.
        channels: names of the inputs.

    Raises:
        CheckpointError: no such file, a damaged one, or one of another network.
    """
    file = path / CHECKPOINT if path.is_dir() else path
    found = _read(file)
    wanted = network.state_dict()
    reasons = _why_not(wanted, found, network, classes, channels)
    taken = {name: found.tensors[name] for name, reason in reasons.items() if not reason}
    ends = (*network.heads, network.first_layer)
    inner = [n for n, t in taken.items() if t.ndim > 1 and not _is_part_of(n, ends)]
    if not inner or found.model not in (None, model.name):
        named = f" ({found.model})" if found.model else ""
        raise CheckpointError(
            f"{file} holds another network{named} than {model.name} of width {model.width}: set "
            "model.name and model.width as they were there, or name another train.init"
        )
    for name, tensor in taken.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{file} holds numbers that are not finite in {name}")
    new = {name: reason for name, reason in reasons.items() if reason}
    record = {
        "file": str(path),
        "weights": _digest(found.tensors)[:12],
        "origin": found.origin,
        "taken": len(taken),
        "tensors": len(wanted),
        "new": new,
    }
    _tell(record)
    return InitialWeights(
        {n: t for n, t in taken.items() if not _is_part_of(n, network.heads)},
        {n: t for n, t in taken.items() if _is_part_of(n, network.heads)},
        record,
    )


def _read(file: Path) -> _Found:
    content = read_archive(file, torch.device("cpu"))
    if _is_state_dict(content):
        return _Found(content, file.name)
    state = check_content(file, content)
    try:
        identity = json.loads(state["identity"])
        dataset, method = str(identity["dataset.name"]), str(identity["method"])
        model = str(identity["model.name"])
        classes, channels = list(identity["classes"]), list(identity["range_image.channels"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CheckpointError(f"{file} does not name its training data") from None
    weights = {str(n): t for n, t in state["method"].items() if isinstance(t, Tensor)}
    # A method with a teacher evaluates the teacher.
    prefix = "teacher." if any(n.startswith("teacher.") for n in weights) else "student."
    tensors = {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}
    return _Found(tensors, f"{dataset} {method}", model, classes, channels)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items())
    )


def _why_not(
    wanted: Mapping[str, Tensor],
    found: _Found,
    network: Network,
    classes: tuple[str, ...],
    channels: tuple[str, ...],
) -> dict[str, str]:
    """Name of each tensor -> why it is not taken; empty if taken."""

    def fit(modules: tuple[str, ...]) -> bool:
        names = [n for n in wanted if _is_part_of(n, modules) and n in found.tensors]
        return all(found.tensors[n].shape == wanted[n].shape for n in names)

    first = (network.first_layer,)
    same_classes = found.classes in (None, list(classes)) and fit(network.heads)
    same_channels = found.channels in (None, list(channels)) and fit(first)

    def reason(name: str) -> str:
        if _is_part_of(name, network.heads) and not same_classes:
            return "other classes"
        if _is_part_of(name, first) and not same_channels:
            return "other channels"
        if name not in found.tensors:
            return "not in the file"
        return "" if found.tensors[name].shape == wanted[name].shape else "another shape"

    return {name: reason(name) for name in wanted}


def _is_part_of(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and bits, independent of the file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tell(record: Mapping[str, Any]) -> None:
    reasons: dict[str, list[str]] = {}
    for name, reason in record["new"].items():
        reasons.setdefault(reason, []).append(name)
    new = "; ".join(
        f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({reason})"
        for reason, names in reasons.items()
    )
    _log.info(
        "train.init: took %d of %d tensors of %s (%s)%s", record["taken"], record["tensors"],
        record["file"], record["origin"], f"; new: {new}" if new else "",
    )  # fmt: skip
