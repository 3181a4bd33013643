"""Device and precision of the networks."""

from __future__ import annotations

import os
from typing import Literal, TypeVar

import torch
from torch import nn

from rangeseg.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """Choose the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        return _tuned(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device '{name}'; known: auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{name}' is not there: PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu, or install a CUDA build"
        )
    return _tuned(device)


def _tuned(device: torch.device) -> torch.device:
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as in convolutions
        torch.backends.cudnn.benchmark = True  # shapes do not change
    return device


def make_deterministic() -> None:
    """Make a GPU add in a fixed order, so that a run is exactly repeatable.

    Call it before the first use of the GPU. PyTorch warns of operations that do not support it.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Every element is overwritten anyway.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def device_name(device: torch.device) -> str:
    """The name of a device in results: ``cpu``, or the GPU's model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def to_device(module: AnyModule, device: torch.device) -> AnyModule:
    """Move a module; its convolutions take channels_last, the layout CPU and GPU prefer."""
    module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def channels_last(images: torch.Tensor) -> torch.memory_format:
    """The layout that CPU and GPU prefer, for images (B,C,H,W) or (B,C,k,H,W)."""
    return torch.channels_last if images.dim() == 4 else torch.channels_last_3d


def resolved(precision: Precision, device: torch.device) -> Precision:
    """Resolve ``auto`` to bfloat16 where the device has it, otherwise float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # older PyTorch lacks it
    return supported is not None and bool(supported())


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward runs.

    Weights are converted at each use. The cache of older PyTorch keeps weights converted without
    gradients: a network that predicts before training would not learn.
    """
    enabled = resolved(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
