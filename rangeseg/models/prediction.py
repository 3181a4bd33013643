"""Copy a trained network for prediction: the same function with less work."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rangeseg.models.blocks import AzimuthConv
from rangeseg.models.network import Network


def folded(network: nn.Module) -> nn.Module:
    """Copy a network in eval mode, with batch norms folded into the convolutions before them.

    A batch norm belongs to the convolution that its module registers right before it. The copy
    shares no weight with the network, which may train on.

    Args:
        network: any network, also a pair.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(network.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return network.requires_grad_(False)


def lower_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast the weights of a folded network; input and output stay in float32.

    The classifier stays in float32: bfloat16 logits, with 8 significant bits, often tie.

    Args:
        network: result of ``folded``; changed in place.
        dtype: type of the weights and activations.
    """
    network.to(dtype)
    for module in list(network.modules()):
        if isinstance(module, Network):
            module.classifier = _InFloat32(module.classifier)
    return _Lowered(network, torch.float32 if needs_float32(network) else dtype)


def needs_float32(network: nn.Module) -> bool:
    """Whether a network, or one that it averages, needs its image in float32."""
    return any(m.casts_input for m in network.modules() if isinstance(m, Network))


class _InFloat32(nn.Module):
    """A module that always computes in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.float()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x.float())
        return out


class _Lowered(nn.Module):
    """A network with another type than its output.

    Args:
        network: network whose input is cast to ``dtype``.
        dtype: float32 if the network casts it itself.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, image: Tensor) -> Tensor:
        """(B,C,H,W) float32 -> logits (B,K,H,W) float32."""
        logits: Tensor = self.network(image.to(self.dtype))
        return logits.float()


def without_padding(network: nn.Module) -> nn.Module:
    """Let a folded network's convolutions wrap around the seam without a padded copy.

    For eager PyTorch on a CPU, where such a copy costs as much as a small convolution. A compiler
    plans memory itself.

    Args:
        network: result of ``folded``; changed in place.
    """
    for module in list(network.modules()):
        for name, conv in list(module.named_children()):
            if isinstance(conv, AzimuthConv) and conv.full_turn:
                setattr(module, name, _SeamConv(conv))
    return network


class _SeamConv(nn.Module):
    """``AzimuthConv`` of a full turn, without a padded copy of its input.

    Zero padding gives wrong values only in the outermost columns, which are recomputed.
    """

    def __init__(self, conv: AzimuthConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H/stride,W/stride)."""
        if x.shape[3] < 2:
            return self.conv(x)  # type: ignore[no-any-return]
        weight, bias, stride = self.conv.weight, self.conv.bias, self.conv.stride
        out = F.conv2d(x, weight, bias, stride, padding=1)
        # The columns around the seam; a stride skips the last one.
        before = 2 if stride[1] == 1 else 1
        around = torch.cat([x[..., -before:], x[..., :2]], dim=3)
        seam = F.conv2d(around, weight, bias, (stride[0], 1), padding=(1, 0))
        out[..., :1] = seam[..., -1:]
        if before == 2:
            out[..., -1:] = seam[..., :1]
        return out
