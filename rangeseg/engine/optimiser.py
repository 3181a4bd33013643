"""Update weights: gradient clipping, optimiser, schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from rangeseg.methods.base import Method


class Optimiser:
    """AdamW on a OneCycle schedule, with gradients clipped per network.

    Args:
        method: method with the networks, already on their device.
        steps: number of training steps.
        learning_rate: peak learning rate.
        weight_decay: decoupled weight decay of every parameter.
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
            # PyTorch divides by the warm-up's length minus one step: keep it above zero.
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
        """The state for a resumed training: finished steps, and each parameter's moments by name.

        Rates and betas are functions of the step.
        """
        moments = self._optimiser.state
        learnt = {name: p for name, p in self._learnt.items() if p in moments}
        return {
            "step": self._schedule.last_epoch,
            "optimiser": {name: dict(moments[p]) for name, p in learnt.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from ``state_dict``.

        Raises:
            ValueError: it belongs to other parameters, or moments have another shape.
            LookupError, TypeError, AttributeError: it is not such a state.
        """
        step, moments = state["step"], state["optimiser"]
        learnt = self._learnt if step > 0 else {}
        if unlike := moments.keys() ^ learnt.keys():
            name = min(unlike, key=str)
            has = "lacks" if name in learnt else "should not have"
            raise ValueError(f"its optimiser {has} {name!r} at step {step}")
        for name, parameter in learnt.items():
            self._optimiser.state[parameter] = _moments(name, moments[name], parameter)
        self._schedule = self._schedule_from(last_epoch=step - 1)  # the constructor takes a step


def _moments(name: str, found: dict[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """The moments of a parameter, in tensors of the optimiser's own layout.

    Shapes are checked: the fused optimiser reads as many numbers as the parameter has.
    """
    moments = {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }
    for field, moment in moments.items():
        if found[field].shape != moment.shape:
            raise ValueError(
                f"{field} of {name} has shape {tuple(found[field].shape)}, expected "
                f"{tuple(moment.shape)}"
            )
        moment.copy_(found[field].detach())
    return moments
