"""Write a network and its metadata as one ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from rangeseg.deploy.backends import INPUT, OUTPUT, extra
from rangeseg.deploy.metadata import KEY, NetworkMetadata
from rangeseg.errors import ConfigError, one_line
from rangeseg.models.prediction import folded, lower_precision

Shape = tuple[int, ...]
"""Shape (C,H,W) or (C,k,H,W) of an image."""


def to_onnx(network: nn.Module, metadata: NetworkMetadata) -> bytes:
    """Convert a network to the content of an ONNX file with dynamic batch size.

    Batch norms are folded. With ``metadata.half`` weights and activations are float16; input,
    output and the classifier stay float32.

    Args:
        network: maps (B,C,H,W) to logits (B,K,H,W), in float32; unchanged.
        metadata: written into the file.

    Raises:
        ConfigError: a package is missing, or PyTorch cannot express the network in ONNX.
    """
    network = folded(network)
    if metadata.half:
        network = lower_precision(network, torch.float16)
    model = onnx_model(network, metadata.images().shape())
    extra("onnx").helper.set_model_props(model, {KEY: metadata.model_dump_json()})
    content: bytes = model.SerializeToString()
    return content


def onnx_model(network: nn.Module, shape: Shape) -> Any:
    """Convert a folded network to an ``onnx.ModelProto`` with a dynamic batch.

    Args:
        network: result of ``folded`` or ``lower_precision``, on the CPU.
        shape: shape of an image.

    Raises:
        ConfigError: a package is missing, or PyTorch cannot express the network in ONNX.
    """
    for module in ("onnx", "onnxscript"):
        extra(module)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (_example(shape),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except Exception as error:  # the tracer may raise anything
            raise ConfigError(
                f"PyTorch {torch.__version__} cannot express this network in ONNX: "
                f"{one_line(error)}"
            ) from error
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # remove source code and local paths
        del node.metadata_props[:]
    return model


def openvino_model(network: nn.Module, shape: Shape) -> Any:
    """Convert a folded network to an OpenVINO model with a dynamic batch; see ``onnx_model``."""
    openvino = extra("openvino")
    with _quiet():
        try:
            program = torch.export.export(
                network, (_example(shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
            return openvino.convert_model(program)
        except Exception as error:  # the tracer and the converter may raise anything
            raise ConfigError(
                f"OpenVINO {openvino.__version__} cannot convert this network "
                f"({one_line(error)}): use --backend torch"
            ) from error


def _example(shape: Shape) -> torch.Tensor:
    """Two images: with one the tracer would fix the batch size."""
    return torch.zeros(2, *shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes on other packages and on future changes of PyTorch."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
