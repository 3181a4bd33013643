"""From gradients to weights: clipping, optimiser, schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rangeseg.methods.base import Method


class Descent:
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
        self._optimiser = torch.optim.AdamW(
            method.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            learning_rate,
            total_steps=steps,
            # PyTorch divides by the length of the warm-up less one step: keep it off zero.
            pct_start=min(warm_up * (1 + 1e-6), 1.0),
        )

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
        """What a resumed training needs."""
        return {
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
