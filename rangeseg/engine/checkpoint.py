"""Checkpoints: written whole or not at all, read without running code."""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rangeseg.errors import CheckpointError
from rangeseg.methods.base import Method

FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What must agree for a checkpoint to fit."""

    method: str
    network: str
    width: int
    channels: tuple[str, ...]
    num_classes: int


def save_checkpoint(
    path: Path, identity: Identity, step: int, method: Method[Any], training: dict[str, Any]
) -> None:
    """Write a checkpoint beside ``path`` and move it there, so that ``path`` is always whole.

    Args:
        path: the file.
        identity: what it belongs to.
        step: steps done.
        method: all its networks, heads and banks are written.
        training: state of the optimiser and the schedule.
    """
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        torch.save(
            {
                "format": FORMAT,
                "identity": asdict(identity),
                "step": step,
                "method": method.state_dict(),
                "training": training,
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_checkpoint(
    path: Path, identity: Identity, method: Method[Any], device: torch.device
) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into a method.

    Returns:
        Steps done, and the state of the optimiser and the schedule.

    Raises:
        CheckpointError: no such file, a damaged one, or one of another method, network or
            number of classes.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: train the run first, or name another one")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{path} is damaged or not a checkpoint ({reason})") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a rangeseg checkpoint of format {FORMAT}")
    for name, expected in asdict(identity).items():
        found = state["identity"].get(name)
        found = tuple(found) if isinstance(found, list) else found
        if found != expected:
            raise CheckpointError(
                f"{path} belongs to {name} {found}, but the configuration asks for {expected}: "
                "use the run's own configuration"
            )
    try:
        method.load_state_dict(state["method"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path} does not fit the network: {reason}") from None
    return int(state["step"]), state["training"]
