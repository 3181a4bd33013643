"""Choose and make the fastest backend for a run's network."""

from __future__ import annotations

import torch
from torch import nn

from rangeseg.deploy.backends import BackendName, OnnxRuntime, OpenVino, installed
from rangeseg.deploy.write import Shape, onnx_model, openvino_model
from rangeseg.engine.inference import Backend
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import ConfigError
from rangeseg.models.prediction import folded, needs_float32
from rangeseg.system.device import Precision

WORTH_CONVERTING = 20
"""Scans: converting a network takes as long as PyTorch for about half of them."""


def resolve_backend(name: BackendName, device: torch.device, scans: int) -> BackendName:
    """Resolve ``auto`` to the fastest available backend.

    Args:
        name: name of the backend, or ``auto``.
        device: device of the network.
        scans: number of scans to predict.
    """
    if name != "auto":
        return name
    worth = device.type == "cpu" and scans >= WORTH_CONVERTING
    return "openvino" if worth and installed("openvino") else "torch"


def make_backend(
    name: BackendName, network: nn.Module, shape: Shape, device: torch.device, precision: Precision
) -> Backend:
    """Make a backend with a copy of a network.

    Args:
        name: name of the backend, not ``auto``.
        network: maps (B,C,H,W) to logits (B,K,H,W), in float32; unchanged.
        shape: shape of an image.
        device: device of the network.
        precision: precision of the forward; ONNX Runtime computes in float32 on a CPU.

    Raises:
        ConfigError: it is not installed, does not run on the device, or cannot run the network.
    """
    if name == "torch":
        return TorchBackend(network, device, precision)
    if device.type != "cpu":
        raise ConfigError(
            f"--backend {name} runs on the CPU, not on {device}: add --device cpu, or leave "
            "--backend out"
        )
    copy, threads = folded(network).cpu(), torch.get_num_threads()
    if name == "openvino":
        less = precision != "float32" and not needs_float32(network)  # it would also cast the image
        return OpenVino(openvino_model(copy, shape), less, threads)
    content: bytes = onnx_model(copy, shape).SerializeToString()
    return OnnxRuntime(content, threads)
