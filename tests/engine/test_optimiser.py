"""Optimiser and schedule go on where they stopped; a state that does not fit is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rangeseg.engine.checkpoint import fitting
from rangeseg.engine.optimiser import Optimiser
from rangeseg.errors import CheckpointError
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method
from rangeseg.system.device import to_device

from ..methods.conftest import make_task, small_fidnet

STEPS = 6
WEIGHT = "student.stem.0.0.weight"


def start(name: str) -> tuple[Method[Any], Optimiser]:
    torch.manual_seed(0)
    method = METHODS[name](small_fidnet, make_task(), METHODS[name].Settings())
    to_device(method, torch.device("cpu"))
    return method, Optimiser(method, STEPS, 1e-2, 1e-2, 0.3, 1.0)


def go(method: Method[Any], optimiser: Optimiser, steps: range) -> list[float]:
    """Steps with drawn gradients; the rates of learning."""
    rates = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
        rates.append(optimiser.rate)
        optimiser.step()
    return rates


def from_file(value: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


@pytest.mark.parametrize("stop", [0, 3, STEPS])
@pytest.mark.parametrize("name", ["cps", "mean_teacher"])  # two networks; one that never learns
def test_it_goes_on_bit_for_bit(name: str, stop: int) -> None:
    through, stopped, resumed = (start(name) for _ in range(3))
    rates = go(*through, range(STEPS))
    go(*stopped, range(stop))
    resumed[0].load_state_dict(stopped[0].state_dict())
    resumed[1].load_state_dict(from_file(stopped[1].state_dict()))
    assert go(*resumed, range(stop, STEPS)) == rates[stop:]
    found, expected = resumed[0].state_dict(), through[0].state_dict()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    found, expected = (d.state_dict() for d in (resumed[1], through[1]))
    assert found["step"] == expected["step"] == STEPS
    for key, moments in expected["optimiser"].items():
        for field, value in moments.items():
            assert torch.equal(value, found["optimiser"][key][field])
            assert value.stride() == found["optimiser"][key][field].stride()


def other(field: str, value: Any) -> Callable[[dict[str, Any]], object]:
    """A change of one moment of the first parameter."""
    return lambda state: state["optimiser"][WEIGHT].update({field: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other("exp_avg", torch.zeros(3)), r"exp_avg of student\.stem.*shape \(3,\), expected"),
        (other("exp_avg", None), "has no attribute 'shape'"),
        (lambda s: s["optimiser"].pop(WEIGHT), f"optimiser lacks '{WEIGHT}' at step 2"),
        (lambda s: s["optimiser"].update({7: {}}), "optimiser should not have 7 at step 2"),
        (lambda s: s.clear(), "step"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    method, optimiser = start("supervised")
    go(method, optimiser, range(2))
    state = from_file(optimiser.state_dict())
    change(state)
    fresh = start("supervised")[1]
    said = rf"last\.pt does not fit the run: .*{message}"
    with pytest.raises(CheckpointError, match=said), fitting(Path("last.pt")):
        fresh.load_state_dict(state)
