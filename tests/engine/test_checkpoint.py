"""Checkpoints that fit load; all others are refused with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rangeseg.engine.checkpoint import (
    Identity,
    check_owner,
    find_checkpoint,
    fitting,
    load_checkpoint,
    save_checkpoint,
)
from rangeseg.errors import CheckpointError
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method

from ..methods.conftest import make_task, small_fidnet

SETTINGS = {"model.name": "fidnet", "model.width": 4, "range_image.channels": ("range", "x")}
IDENTITY = Identity("cps", ("road", "car", "tree", "pole"), "a1b2", SETTINGS)
CPU = torch.device("cpu")
TRAINING = {"step": 7, "optimiser": {}}


def make_method(seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return METHODS["cps"](small_fidnet, make_task(), METHODS["cps"].Settings())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, IDENTITY, 7, make_method(), TRAINING)
    return path


def test_what_is_saved_comes_back(saved: Path) -> None:
    method = make_method(seed=1)
    step, training = load_checkpoint(saved, IDENTITY, method, CPU)
    assert (step, training) == (7, TRAINING)
    for a, b in zip(method.parameters(), make_method().parameters(), strict=True):
        assert torch.equal(a, b)
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "supervised"}, "belongs to method 'cps', but .* asks for 'supervised'"),
        ({"classes": ("road", "car", "pole", "tree")}, "belongs to classes .*'tree', 'pole'"),
        ({"labelled": "c3d4"}, "belongs to labelled 'a1b2', but .* asks for 'c3d4'"),
        ({"settings": SETTINGS | {"model.width": 128}}, r"belongs to model\.width 4, .* for 128"),
        ({"settings": SETTINGS | {"range_image.channels": ()}}, r"range_image\.channels"),
        ({"settings": {"model.name": "fidnet"}}, r"belongs to model\.width 4, .* for None"),
    ],
)
def test_another_network_is_refused(saved: Path, change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved, replace(IDENTITY, **change), make_method(), CPU)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

    path = tmp_path / "last.pt"
    save_checkpoint(path, IDENTITY, 7, Other(), TRAINING)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not fit the run"):
        load_checkpoint(path, IDENTITY, make_method(), CPU)


@pytest.mark.parametrize("place", [6, None, torch.zeros(2)])
def test_a_training_of_another_step_is_refused(saved: Path, place: object) -> None:
    save_checkpoint(saved, IDENTITY, 7, make_method(), {**TRAINING, "step": place})
    with pytest.raises(CheckpointError, match=r"last\.pt is of step 7, but its training of step"):
        load_checkpoint(saved, IDENTITY, make_method(), CPU)


def test_unlabelled_scans_count_where_they_are_named(tmp_path: Path, saved: Path) -> None:
    path, owner = tmp_path / "last.pt", replace(IDENTITY, unlabelled="c3d4")
    save_checkpoint(path, owner, 7, make_method(), TRAINING)
    for identity in (owner, IDENTITY):  # an evaluation does not name them
        load_checkpoint(path, identity, make_method(), CPU)
        check_owner(tmp_path, identity)
    other = replace(IDENTITY, unlabelled="e5f6")
    said = r"last\.pt learnt from other unlabelled scans than the train split now has: restore"
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path, other, make_method(), CPU)
    path.rename(tmp_path / "previous.pt")
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"previous\.pt learnt from other"):
        check_owner(tmp_path, other)


def test_the_one_before_takes_the_place_of_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for step in (1, 2):
        training = {**TRAINING, "step": step}
        save_checkpoint(path, IDENTITY, step, make_method(), training)
    content = path.read_bytes()
    path.unlink()  # previous.pt may be the same file
    path.write_bytes(content[:1000])
    for _ in range(2):
        assert find_checkpoint(tmp_path) == path
        assert load_checkpoint(path, IDENTITY, make_method(), CPU)[0] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_gpu_is_no_damaged_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        load_checkpoint(saved, IDENTITY, make_method(), CPU)
    with pytest.raises(torch.cuda.OutOfMemoryError), fitting(saved):
        load()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with pytest.raises(CheckpointError, match=r"last\.pt does not exist: train the run first"):
        load_checkpoint(path, IDENTITY, make_method(), CPU)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a rangeseg checkpoint of format"):
        load_checkpoint(path, IDENTITY, make_method(), CPU)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path, IDENTITY, make_method(), CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, r"of format \d \(found: 1\)"),
        ({"step": -1}, "no sound field 'step'"),
        ({"identity": None}, "no sound field 'identity'"),
        ({"training": []}, "no sound field 'training'"),
    ],
)
def test_fields_of_another_kind_are_refused(saved: Path, change: dict, message: str) -> None:
    torch.save(torch.load(saved, weights_only=True) | change, saved)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved, IDENTITY, make_method(), CPU)
