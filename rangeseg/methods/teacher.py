"""Base of methods with an averaged teacher."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from rangeseg.methods.base import Method, StepContext, Task, UnsupervisedSettings
from rangeseg.models import NetworkFactory


class TeacherSettings(UnsupervisedSettings):
    """Settings of the methods with a teacher."""

    ema_momentum: float = Field(default=0.99, ge=0, lt=1)


AnyTeacherSettings = TypeVar("AnyTeacherSettings", bound=TeacherSettings)


class TeacherMethod(Method[AnyTeacherSettings]):
    """A method whose teacher is an exponential moving average of the student.

    The teacher starts as a copy, stays in eval mode, gets no gradient, and is evaluated. Some
    official codes keep it in training mode, with batch statistics.

    Reference:
        Tarvainen and Valpola 2017, "Mean teachers are better role models", Sec. 2; the warm-up
        min(1 - 1/(k+1), momentum) is their official code's.
    """

    def __init__(
        self, build_network: NetworkFactory, task: Task, settings: AnyTeacherSettings
    ) -> None:
        super().__init__(build_network, task, settings)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> TeacherMethod[AnyTeacherSettings]:
        """Set training mode for all but the teacher."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def teach(self, image: Tensor) -> Tensor:
        """The teacher's class probabilities (B,K,H,W) for (B,C,H,W)."""
        logits: Tensor = self.teacher(image)
        return logits.float().softmax(dim=1)

    @torch.no_grad()
    def after_step(self, context: StepContext) -> None:
        """Teacher <- a·teacher + (1-a)·student; integer buffers are copied."""
        momentum = min(1.0 - 1.0 / (context.step + 1), self.settings.ema_momentum)
        teacher, student = _floats(self.teacher), _floats(self.student)
        torch._foreach_lerp_(teacher, student, 1.0 - momentum)
        mine, theirs = (
            [b for b in network.buffers() if not b.is_floating_point()]
            for network in (self.teacher, self.student)
        )
        if mine:
            torch._foreach_copy_(mine, theirs)

    def predictor(self) -> nn.Module:
        """The teacher."""
        return self.teacher


def _floats(network: nn.Module) -> list[Tensor]:
    state: list[Any] = [*network.parameters(), *network.buffers()]
    return [t for t in state if t.is_floating_point()]
