"""From gradients to weights: clipping, optimiser, schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from rangeseg.methods.base import Method


class Optimiser:
    """AdamW on a OneCycle schedule, with the gradient of each network clipped by itself.

    Args:
        method: whose networks are trained; already on their device.
        steps: of the training.
        learning_rate: the peak.
        weight_decay: decoupled, of every parameter.
        warm_up: share of the steps before the peak.
        clip_norm: largest norm of the gradient, per network.

    Reference:
        Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; Smith and Topin 2019,
        "Super-Convergence".
    """

    def __init__(
        self,
        method: Method[Any],
        steps: int,
        learning_rate: float,
        weight_decay: float,
        warm_up: float,
        clip_norm: float,
    ) -> None:
        self._networks, self._clip_norm = method.trained_networks(), clip_norm
        self._learnt = {name: p for name, p in method.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(
            method.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self._schedule_from = partial(
            torch.optim.lr_scheduler.OneCycleLR,
            self._optimiser,
            learning_rate,
            total_steps=steps,
            # PyTorch divides by the length of the warm-up less one step: keep it off zero.
            pct_start=min(warm_up * (1 + 1e-6), 1.0),
        )
        self._schedule = self._schedule_from()

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def step(self) -> dict[str, Tensor]:
        """Apply the gradients and drop them.

        Returns:
            The norm of each network's gradient before clipping, by name.
        """
        norms = {
            f"gradient_norm_{number}": torch.nn.utils.clip_grad_norm_(
                network.parameters(), self._clip_norm
            )
            for number, network in enumerate(self._networks)
        }
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._schedule.step()
        return norms

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: steps done, and the moments of each parameter by its name.

        Rates and betas are functions of the step.
        """
        moments = self._optimiser.state
        learnt = {name: p for name, p in self._learnt.items() if p in moments}
        return {
            "step": self._schedule.last_epoch,
            "optimiser": {name: dict(moments[p]) for name, p in learnt.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned.

        All of it is checked, for it comes from a file: the fused optimiser reads and writes as many
        numbers as the parameter has, whatever the moments are.

        Raises:
            ValueError: it is not the state of such a training; the message names the field.
        """
        step, moments = state.get("step"), state.get("optimiser")
        steps = self._schedule.total_steps
        if type(step) is not int or not 0 <= step <= steps:
            raise ValueError(
                f"its step is {_described(step)}, expected a whole number from 0 to {steps}"
            )
        learnt = self._learnt if step > 0 else {}
        if not isinstance(moments, dict):
            raise ValueError(f"its optimiser is {_described(moments)}, expected a dict")
        if unlike := moments.keys() ^ learnt.keys():
            name = min(unlike, key=str)
            has = "lacks" if name in learnt else "should not have"
            raise ValueError(f"its optimiser {has} {name!r} at step {step}")
        for name, parameter in learnt.items():
            self._optimiser.state[parameter] = _checked(name, moments[name], parameter, step)
        self._schedule = self._schedule_from(last_epoch=step - 1)  # it takes a step as it begins


def _checked(name: str, found: Any, parameter: Tensor, step: int) -> dict[str, Tensor]:
    """The moments of a parameter, in tensors laid out as the optimiser itself makes them."""
    moments = {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
    if not isinstance(found, dict) or found.keys() != moments.keys():
        raise ValueError(f"its optimiser has no {', '.join(moments)} alone for {name}")
    for field, moment in moments.items():
        value = found[field]
        sound = isinstance(value, Tensor) and value.is_floating_point()
        if not sound or value.shape != moment.shape:
            raise ValueError(
                f"{field} of {name} is {_described(value)}, expected floating point numbers of "
                f"shape {tuple(moment.shape)}"
            )
        moment.copy_(value.detach())
        if not bool(moment.isfinite().all()):
            raise ValueError(f"{field} of {name} is not finite")
    if bool((moments["exp_avg_sq"] < 0).any()):
        raise ValueError(f"exp_avg_sq of {name} is negative")
    if float(moments["step"]) != step:
        raise ValueError(f"step of {name} is {float(moments['step']):g}, expected {step}")
    return moments


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return str(value) if type(value) is int else f"of type {type(value).__name__}"
