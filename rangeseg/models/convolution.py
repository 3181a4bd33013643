"""Convolutions that are quick in bfloat16 on every processor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Without AVX-512 PyTorch convolves bfloat16 in a loop that takes six times as long as float32.
SLOW_ON_CPU = torch.backends.cpu.get_cpu_capability() in ("NO AVX", "DEFAULT", "AVX2")


class Conv2d(nn.Conv2d):
    """PyTorch's, but bfloat16 autocast on a processor without it is about as quick as float32.

    So a run that was begun in bfloat16 can go on anywhere. Operands and results are rounded to
    bfloat16 and sums are float32, as in the instructions that such a processor lacks; what differs
    is the order of a sum.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H',W')."""
        in_bfloat16 = (
            SLOW_ON_CPU
            and x.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") is torch.bfloat16
        )
        if not in_bfloat16:
            return super().forward(x)
        way = (self.stride, self.padding, self.dilation, False, (0, 0), 1)
        convolved: Tensor = _InBfloat16.apply(x, self.weight, self.bias, way)  # type: ignore[no-untyped-call]
        return convolved


class _InBfloat16(torch.autograd.Function):
    """A float32 convolution whose operands and results are bfloat16's, forward and backward."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, way: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.way = way
        ctx.biases = None if bias is None else [len(bias)]
        bias = None if bias is None else bias.float()
        convolved: Tensor = torch.ops.aten.convolution(x.float(), weight.float(), bias, *way)
        return convolved.bfloat16()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = (saved.float() for saved in ctx.saved_tensors)
        found = torch.ops.aten.convolution_backward(
            gradients[0].float(), x, weight, ctx.biases, *ctx.way, ctx.needs_input_grad[:3]
        )
        return *(None if g is None else g.bfloat16() for g in found), None
