"""Checkpoints: written whole or not at all, read without running code."""

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
"""What to do about a file that holds more than tensors."""


@dataclass(frozen=True)
class Identity:
    """The fields that must agree for a checkpoint to fit a run.

    Attributes:
        method: a name in METHODS.
        classes: names of the network's outputs, in their order.
        labelled: fingerprint of the list of labelled scans.
        settings: dotted key -> value of every setting that shapes the weights.
        unlabelled: fingerprint of the list of unlabelled scans that it learns from; None where it
            does not matter, as in an evaluation.
        propagated: the key of the propagated labels that it learns from; None likewise, or where
            there are none.
    """

    method: str
    classes: tuple[str, ...]
    labelled: str
    settings: Mapping[str, Any]
    unlabelled: str | None = None
    propagated: str | None = None

    def fields(self) -> dict[str, Any]:
        """Everything by its name, as it comes back from JSON."""
        named = {
            "method": self.method, "classes": self.classes, "labelled": self.labelled,
            "unlabelled": self.unlabelled, "propagated": self.propagated,
        }  # fmt: skip
        fields: dict[str, Any] = json.loads(json.dumps({**named, **self.settings}))
        return fields


def save_checkpoint(
    path: Path, identity: Identity, step: int, method: Method[Any], training: dict[str, Any]
) -> None:
    """Write a checkpoint, whole or not at all; the one that was there becomes ``previous.pt``.

    Args:
        path: the file.
        identity: what it belongs to.
        step: steps done.
        method: all its networks, heads and banks are written.
        training: state of the optimiser and the schedule.

    Raises:
        CheckpointError: it cannot be written; the one that was there is untouched.
        RangesegError: a weight is no longer finite.
    """
    state = method.state_dict()
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise not_finite(name, step)
    content = io.BytesIO()  # PyTorch's own error for a full disk names neither file nor reason
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
    """A second name for a checkpoint that is about to be replaced."""
    temporary = path.with_name(PREVIOUS + PARTIAL)
    with suppress(OSError):  # some file systems have no links; theirs is the one file
        temporary.unlink(missing_ok=True)
        os.link(path, temporary)
        os.replace(temporary, path.with_name(PREVIOUS))
        # Where both are one file already, the replacement does nothing.
        temporary.unlink(missing_ok=True)


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints in the folder of a run, the newest first, whole or not."""
    # A link to a disk that is not there is no sign that nothing was ever saved.
    return [path for path in (run / CHECKPOINT, run / PREVIOUS) if os.path.lexists(path)]


def find_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, with a warning where it is not the last one written.

    The one before takes the place of a damaged one: the next to be written would otherwise leave
    the damaged one as its only predecessor.

    Args:
        run: the run's folder.

    Returns:
        Its path; None if none was written yet.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
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
        CheckpointError: no such file, a damaged one, one of another format, or one of another
            method, network, list of scans or other setting, which the message names, or with
            states of different steps.
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
    """The content of a checkpoint; nothing in the file is executed.

    Args:
        path: the file.
        device: where its tensors are put.

    Raises:
        CheckpointError: no such file, a damaged one, or one of another format.
    """
    return check_content(path, read_archive(path, device))


def read_archive(path: Path, device: torch.device) -> Any:
    """What ``torch.save`` put into a file; nothing in it is executed.

    Raises:
        CheckpointError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: train the run first, or name another one")
    try:
        _check_archive(path)
        return torch.load(path, map_location=device, weights_only=True)
    except torch.cuda.OutOfMemoryError:  # the file is sound
        raise
    except pickle.UnpicklingError:  # PyTorch's message tells how to run what is in it
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint (it holds more than tensors; none of it was "
            f"run): {SAVE_AGAIN}"
        ) from None
    except Exception as error:  # PyTorch and zipfile raise nearly anything on hostile bytes
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({one_line(error)})"
        ) from None


def check_content(path: Path, state: Any) -> dict[str, Any]:
    """Check that what a file holds is a checkpoint.

    Args:
        path: the file, for the message.
        state: what ``read_archive`` returned.

    Raises:
        CheckpointError: it is none, or one of another format.
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
    """Check what the checkpoint of a run belongs to, if there is one that can be read.

    Args:
        run: the run's folder.
        identity: what it must belong to.

    Raises:
        CheckpointError: it belongs to something else, which the message names.
    """
    for path in (run / CHECKPOINT, run / PREVIOUS):
        try:
            state = read_checkpoint(path, torch.device("cpu"))
        except CheckpointError:  # for find_checkpoint to tell
            continue
        _check_identity(path, state["identity"], identity)
        return


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """What is raised where a state does not fit its owner, as a CheckpointError.

    Args:
        path: the checkpoint that the state is from.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{path} does not fit the run: {one_line(error)}") from None


def _check_archive(path: Path) -> None:
    """Check every byte against its checksum, which PyTorch writes but does not look at.

    PyTorch stores tensors as they are: a packed entry could grow to any size in memory.
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
    """Compare field by field; a setting that an older version did not have is left out."""
    try:
        found = json.loads(found_text)
    except (ValueError, RecursionError):
        found = None
    named, expected = found if isinstance(found, dict) else {}, identity.fields()
    for name in ("method", "classes", "labelled", "unlabelled", "propagated"):
        if name not in named:
            raise CheckpointError(f"{path} does not say its {name}: train the run again")
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
    """A value in a message, shortened where it is long."""
    short = reprlib.Repr()
    short.maxlist, short.maxstring = 40, 80
    return short.repr(value)
