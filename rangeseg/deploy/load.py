"""Load an exported network without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rangeseg.deploy.backends import BackendName, OnnxRuntime, OpenVino, extra, installed
from rangeseg.deploy.metadata import KEY, NetworkMetadata
from rangeseg.engine.inference import Predictor
from rangeseg.errors import ConfigError, DataError, one_line


@dataclass(frozen=True)
class OnnxNetwork:
    """A network from an ONNX file, ready to predict.

    Attributes:
        metadata: the file's metadata; its ``info()`` and ``images()`` give classes, sensor and
            range images.
        predictor: labels scans.
    """

    metadata: NetworkMetadata
    predictor: Predictor


def load_onnx(path: Path, backend: BackendName = "auto", threads: int | None = None) -> OnnxNetwork:
    """Load a file from ``rangeseg export``.

    Args:
        path: of the file.
        backend: ``onnxruntime`` or ``openvino``; ``auto`` takes OpenVINO where installed, which is
            faster on every processor measured.
        threads: threads of the network; None takes one per core of this process.

    Raises:
        ConfigError: no such backend for a file, or it is not installed.
        DataError: the file is missing, not ONNX, or not from ``rangeseg export``.
    """
    if backend == "auto":
        backend = "openvino" if installed("openvino") else "onnxruntime"
    if backend == "torch":
        raise ConfigError(
            f"{path} is an ONNX file, which PyTorch does not run: take --backend openvino or "
            "onnxruntime, or give the folder of the run"
        )
    content = _read(path)
    metadata = read_metadata(path, content)
    runs = (
        OpenVino(content, metadata.bfloat16, threads)
        if backend == "openvino"
        else OnnxRuntime(content, threads)
    )
    classes = len(metadata.class_names)
    return OnnxNetwork(metadata, Predictor(runs, metadata.images(), metadata.evaluate, classes))


def read_metadata(path: Path, content: bytes) -> NetworkMetadata:
    """Read the metadata of an ONNX file.

    Args:
        path: of the file, for messages.
        content: content of the file.

    Raises:
        ConfigError: onnx is not installed.
        DataError: it is not ONNX, or not from ``rangeseg export``.
    """
    onnx = extra("onnx")
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's error has no public class
        model = None
    if model is None or not model.graph.node:
        raise DataError(f"{path} is not an ONNX file: give one that `rangeseg export` wrote")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if KEY not in properties:
        raise DataError(
            f"{path} is an ONNX file, but not from `rangeseg export`: it does not name the "
            "channels and the sensor of its network"
        )
    try:
        return NetworkMetadata.model_validate_json(properties[KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}: its metadata cannot be read ({where}: {one_line(ValueError(first['msg']))}): "
            "export the run again with this version of rangeseg"
        ) from None
    except ConfigError as error:  # raised by the sensor
        raise DataError(f"{path}: its metadata cannot be read ({error})") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): give a file that `rangeseg export` wrote"
        ) from None
