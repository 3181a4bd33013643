"""Checkpoints: written atomically, read without running code."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import reprlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rangeseg.engine.finite import not_finite
from rangeseg.errors import CheckpointError, one_line
from rangeseg.methods.base import Method
from rangeseg.system.files import PARTIAL, writable, write_file

_log = logging.getLogger(__name__)

FORMAT = 3
CHECKPOINT = "last.pt"
PREVIOUS = "previous.pt"
SAVE_AGAIN = "if you trust it, load it and save its state_dict with torch.save"
"""Remedy for a file that holds more than tensors."""


@dataclass(frozen=True)
class Identity:
    """The fields that must agree for a checkpoint to fit a run.

    Attributes:
        method: a name in METHODS.
        classes: names of the network's outputs, in their order.
        labelled: fingerprint of the list of labelled scans.
        settings: dotted key -> value of every setting that shapes the weights.
        unlabelled: fingerprint of the list of unlabelled training scans; None if irrelevant, as in
            an evaluation.
        propagated: key of the propagated training labels; None if irrelevant or if there are none.
    """

    method: str
    classes: tuple[str, ...]
    labelled: str
    settings: Mapping[str, Any]
    unlabelled: str | None = None
    propagated: str | None = None

    def fields(self) -> dict[str, Any]:
        """All fields by name, as JSON returns them."""
        named = {
            "method": self.method, "classes": self.classes, "labelled": self.labelled,
            "unlabelled": self.unlabelled, "propagated": self.propagated,
        }  # fmt: skip
        fields: dict[str, Any] = json.loads(json.dumps({**named, **self.settings}))
        return fields


def save_checkpoint(
    path: Path, identity: Identity, step: int, method: Method[Any], training: dict[str, Any]
) -> None:
    """Write a checkpoint atomically; the last one becomes ``previous.pt``.

    Args:
        path: the file.
        identity: identity of the run.
        step: number of finished steps.
        method: method whose networks, heads and banks are written.
        training: state of the optimiser and the schedule.

    Raises:
        CheckpointError: it cannot be written; the last one is unchanged.
        RangesegError: a weight is no longer finite.
    """
    state = method.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise not_finite(name, step)
    content = io.BytesIO()  # PyTorch's error for a full disk names neither file nor reason
    torch.save(
        {
            "format": FORMAT,
            "identity": json.dumps(identity.fields()),
            "step": step,
            "method": state,
            "training": training,
        },
        content,
    )
    with writable(path, f"make room for step {step} and go on with --resume", CheckpointError):
        _keep_previous(path)
        write_file(path, content.getbuffer())


def _keep_previous(path: Path) -> None:
    """Link a second name to a checkpoint before its replacement."""
    temporary = path.with_name(PREVIOUS + PARTIAL)
    with suppress(OSError):  # some file systems have no links; they keep one file
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        os.replace(temporary, path.with_name(PREVIOUS))
        # If both are already one file, the replacement does nothing.
        temporary.unlink(missing_ok=True)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints in the folder of a run, the newest first, whole or not."""
    # A link to a missing disk does not prove that nothing was saved.
    return [path for path in (run / CHECKPOINT, run / PREVIOUS) if os.path.lexists(path)]


def find_checkpoint(run: Path) -> Path | None:
    """Find the newest whole checkpoint of a run; warn if it is not the last one written.

    The previous one replaces a damaged one. Otherwise the next write would keep the damaged one as
    its only predecessor.

    Args:
        run: the run's folder.

    Returns:
        Its path; None if none was written.

    Raises:
        CheckpointError: no existing checkpoint is whole.
    """
    paths = checkpoints(run)
    for path in paths:
        try:
            _check_archive(path)
        except Exception as error:  # see read_checkpoint
            _log.warning("%s is skipped: it is cut short or damaged (%s)", path, error)
            continue
        if path.name == PREVIOUS:
            _log.warning("going on from %s, the checkpoint before", path)
            os.replace(path, run / CHECKPOINT)
            return run / CHECKPOINT
        if path.with_name(path.name + PARTIAL).is_file():
            _log.warning("a newer checkpoint was cut short; going on from %s", path)
        return path
    if paths:
        raise CheckpointError(
            f"no checkpoint in {run} is whole: bring one back from a copy, or choose another --out"
        )
    return None


def load_checkpoint(
    path: Path, identity: Identity, method: Method[Any], device: torch.device
) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into a method.

    Returns:
        Steps done, and the state of the optimiser and the schedule.

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or has states of different
            steps. Or its method, network, list of scans or a setting differs; the message names it.
    """
    state = read_checkpoint(path, device)
    _check_identity(path, state["identity"], identity)
    place = state["training"].get("step")
    if type(place) is not int or place != state["step"]:
        raise CheckpointError(
            f"{path} is of step {_shown(state['step'])}, but its training of step {_shown(place)}: "
            "bring it back from a copy, or train the run again"
        )
    with fitting(path):
        method.load_state_dict(state["method"])
    return state["step"], state["training"]


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; nothing in the file is executed.

    Args:
        path: the file.
        device: device for its tensors.

    Raises:
        CheckpointError: no such file, a damaged one, or one of another format.
    """
    return check_content(path, read_archive(path, device))


def read_archive(path: Path, device: torch.device) -> Any:
    """Read a file from ``torch.save``; nothing in it is executed.

    Raises:
        CheckpointError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: train the run first, or name another one")
    try:
        _check_archive(path)
        return torch.load(path, map_location=device, weights_only=True)
    except torch.cuda.OutOfMemoryError:  # the file is not at fault
        raise
    except pickle.UnpicklingError:  # PyTorch's message explains how to execute it
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint (it holds more than tensors; none of it was "
            f"run): {SAVE_AGAIN}"
        ) from None
    except Exception as error:  # PyTorch and zipfile raise nearly anything on hostile bytes
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({one_line(error)})"
        ) from None


def check_content(path: Path, state: Any) -> dict[str, Any]:
    """Check that a file's content is a checkpoint.

    Args:
        path: path for the message.
        state: result of ``read_archive``.

    Raises:
        CheckpointError: it is not a checkpoint, or has another format.
    """
    found = state.get("format") if isinstance(state, dict) else None
    if type(found) is not int or found != FORMAT:  # a tensor has no truth value
        raise CheckpointError(
            f"{path} is not a rangeseg checkpoint of format {FORMAT} (found: "
            f"{_shown(found) if type(found) in (int, str) else 'none'}): train the run again, or "
            "use the version of rangeseg that wrote it"
        )
    kinds = {"identity": str, "step": int, "method": dict, "training": dict}
    for name, kind in kinds.items():
        if not isinstance(state.get(name), kind) or (kind is int and state[name] < 0):
            raise CheckpointError(f"{path} has no sound field '{name}': train the run again")
    content: dict[str, Any] = state
    return content


def check_owner(run: Path, identity: Identity) -> None:
    """Check the identity of a run's checkpoint, if one is readable.

    Args:
        run: the run's folder.
        identity: required identity.

    Raises:
        CheckpointError: the identity differs; the message names the field.
    """
    for path in (run / CHECKPOINT, run / PREVIOUS):
        try:
            state = read_checkpoint(path, torch.device("cpu"))
        except CheckpointError:  # find_checkpoint reports it
            continue
        _check_identity(path, state["identity"], identity)
        return


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn errors of a state that does not fit its owner into a CheckpointError.

    Args:
        path: checkpoint of the state.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{path} does not fit the run: {one_line(error)}") from None


def _check_archive(path: Path) -> None:
    """Check every byte against its checksum, which PyTorch writes but does not check.

    PyTorch stores tensors uncompressed: a compressed entry could grow to any size in memory.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it holds packed entries")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries are larger than the file")
        if (wrong := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {wrong} is wrong")


def _check_identity(path: Path, found_text: str, identity: Identity) -> None:
    """Compare field by field, without settings that an older version did not have."""
    try:
        found = json.loads(found_text)
    except (ValueError, RecursionError):
        found = None
    named, expected = found if isinstance(found, dict) else {}, identity.fields()
    for name in ("method", "classes", "labelled", "unlabelled", "propagated"):
        if name not in named:
            raise CheckpointError(f"{path} has no {name}: train the run again")
    unlabelled = named.pop("unlabelled"), expected.pop("unlabelled")
    propagated = named.pop("propagated"), expected.pop("propagated")
    for name in [n for n in expected if n in named] + [n for n in named if n not in expected]:
        if named[name] != expected.get(name):
            raise CheckpointError(
                f"{path} belongs to {name} {_shown(named[name])}, but the configuration asks for "
                f"{_shown(expected.get(name))}: use the run's own configuration and labelled list"
            )
    if unlabelled[1] is not None and unlabelled[0] != unlabelled[1]:
        raise CheckpointError(
            f"{path} learnt from other unlabelled scans than the train split now has: restore the "
            "data as they were, or choose another --out"
        )
    if propagated[1] is not None and propagated[0] != propagated[1]:
        raise CheckpointError(
            f"{path} learnt from other propagated labels: restore the poses as they were, or "
            "choose another --out"
        )


def _shown(value: Any) -> str:
    """A value for a message, shortened if long."""
    short = reprlib.Repr()
    short.maxlist, short.maxstring = 40, 80
    return short.repr(value)
