"""ONNX Runtime and OpenVINO as backends; neither needs PyTorch."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rangeseg.engine.inference import PixelClasses
from rangeseg.engine.prediction_files import read_stamp
from rangeseg.errors import ConfigError, DataError, one_line
from rangeseg.geometry.kernel import kernel
from rangeseg.system.process import cores

BackendName = Literal["auto", "torch", "onnxruntime", "openvino"]
BACKENDS: tuple[str, ...] = get_args(BackendName)

INPUT, OUTPUT = "image", "logits"

EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx", "openvino": "openvino"}
"""Module -> the extra of rangeseg that installs it."""


def installed(module: str) -> bool:
    """Whether a module of an extra is installed, without importing it."""
    return importlib.util.find_spec(module) is not None


def resumed_backend(backend: BackendName, out: Path) -> BackendName:
    """The backend for a folder of predictions: ``auto`` keeps the one that began it."""
    began = (read_stamp(out) or {}).get("backend")
    return began if backend == "auto" and began in BACKENDS else backend


def extra(module: str) -> Any:
    """Import a module of an extra.

    Raises:
        ConfigError: it is not installed; the message gives the install command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if installed(module):
            raise ConfigError(f"{module} cannot be imported: {one_line(error)}") from None
        raise ConfigError(
            f"{module} is not installed: pip install 'rangeseg[{EXTRAS[module]}]'"
        ) from None


@cache
def _core(openvino: Any) -> Any:
    """OpenVINO's core, one per process.

    On a processor with AMX its plugin gives the calling thread a signal stack, and unmaps it on
    destruction. Python handles signals there, and PyTorch's loaders handle a child's end: the next
    child to end would crash this process (SIGSEGV).
    """
    return openvino.Core()


class OnnxRuntime:
    """ONNX Runtime on the CPU; see ``inference.Backend``.

    Args:
        content: content of an ONNX file.
        threads: None takes as many as this process has cores.

    Raises:
        ConfigError: it is not installed.
        DataError: it cannot run the network.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, content: bytes, threads: int | None = None) -> None:
        onnxruntime = extra("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common class
            raise _cannot_run(self.name, error) from None

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(B,C,H,W) float32 -> (B,K,H,W) float32; any thread may call it."""
        (logits,) = self._session.run([OUTPUT], {INPUT: images})
        return np.asarray(logits)

    def classify(self, images: Sequence[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        """See ``inference.Backend.classify``."""
        return pixel_classes(self.logits(np.stack(images)), with_confidence)


class OpenVino:
    """OpenVINO on the CPU; see ``inference.Backend``.

    Args:
        model: the content of an ONNX file, or a model converted by OpenVINO.
        bfloat16: allow bfloat16 if the processor supports it.
        threads: None takes as many as this process has cores.

    Raises:
        ConfigError: it is not installed.
        DataError: it cannot run the network.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Any, bfloat16: bool = True, threads: int | None = None) -> None:
        openvino = extra("openvino")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads or cores(),
        }  # fmt: skip
        if not bfloat16:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = _core(openvino)
            if isinstance(model, bytes):
                model = core.read_model(model)
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise _cannot_run(self.name, error) from None
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()

    def logits(self, images: np.ndarray) -> np.ndarray:
        """(B,C,H,W) float32 -> (B,K,H,W) float32; any thread may call it."""
        with self._lock:  # a request runs one batch at a time, on all cores
            self._request.infer([images], share_inputs=True)
            return np.array(self._request.get_output_tensor(0).data)

    def classify(self, images: Sequence[np.ndarray], with_confidence: bool) -> list[PixelClasses]:
        """See ``inference.Backend.classify``."""
        return pixel_classes(self.logits(np.stack(images)), with_confidence)


def _cannot_run(name: str, error: Exception) -> DataError:
    return DataError(f"{name} cannot run this network ({one_line(error)}): export the run again")


def pixel_classes(logits: np.ndarray, with_confidence: bool) -> list[PixelClasses]:
    """The most probable class of each pixel.

    Args:
        logits: (B,K,H,W) or (B,K,k,H,W) float32.
        with_confidence: also its probability.
    """
    batch, number, *size = logits.shape
    logits = logits.reshape(batch, number, -1, size[-1])  # stack layers vertically
    classes = np.empty((batch, *logits.shape[2:]), dtype=np.uint8)
    largest = np.empty(classes.shape, dtype=np.float32)
    _classify(logits, classes, largest)
    classes = classes.reshape(batch, *size)
    if not with_confidence:
        return [PixelClasses(of_pixels, None) for of_pixels in classes]
    behind = logits - largest[:, None]
    np.maximum(behind, -50.0, out=behind)  # an underflowing exponential is slow
    confidence = 1.0 / np.exp(behind, out=behind).sum(axis=1).reshape(batch, *size)
    return [PixelClasses(*pixels) for pixels in zip(classes, confidence, strict=True)]


@kernel
def _classify(logits: np.ndarray, classes: np.ndarray, largest: np.ndarray) -> None:
    """Fill in the classes and their logits, row by row to fit the cache."""
    batch, number, height, width = logits.shape
    for b in range(batch):
        for row in range(height):
            best = largest[b, row]
            best[:] = logits[b, 0, row]
            classes[b, row] = 0
            for k in range(1, number):
                for col in range(width):
                    if logits[b, k, row, col] > best[col]:
                        best[col] = logits[b, k, row, col]
                        classes[b, row, col] = k
