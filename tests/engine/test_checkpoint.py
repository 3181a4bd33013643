"""Checkpoints that fit load; all others are refused with a reason."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rangeseg.engine.checkpoint import Identity, load_checkpoint, save_checkpoint
from rangeseg.errors import CheckpointError
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method

from ..methods.conftest import make_task, small_fidnet

SETTINGS = {"model.name": "fidnet", "model.width": 4, "range_image.channels": ("range", "x")}
IDENTITY = Identity("cps", ("road", "car", "tree", "pole"), "a1b2", SETTINGS)
CPU = torch.device("cpu")


def make_method(seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return METHODS["cps"](small_fidnet, make_task(), METHODS["cps"].Settings())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, IDENTITY, 7, make_method(), {"optimiser": {}, "schedule": {}})
    return path


def test_what_is_saved_comes_back(saved: Path) -> None:
    method = make_method(seed=1)
    step, training = load_checkpoint(saved, IDENTITY, method, CPU)
    assert (step, training) == (7, {"optimiser": {}, "schedule": {}})
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
    save_checkpoint(path, IDENTITY, 0, Other(), {})  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not fit the network"):
        load_checkpoint(path, IDENTITY, make_method(), CPU)


@pytest.mark.parametrize("kept", [0, 10, 2000])
def test_a_truncated_file_is_refused(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(saved, IDENTITY, make_method(), CPU)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt does not exist: train the run first"):
        load_checkpoint(tmp_path / "last.pt", IDENTITY, make_method(), CPU)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "last.pt"
    torch.save(Hostile(), path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, IDENTITY, make_method(), CPU)
    assert not (tmp_path / "ran").exists()


def test_another_file_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not a rangeseg checkpoint of format"):
        load_checkpoint(tmp_path / "last.pt", IDENTITY, make_method(), CPU)
