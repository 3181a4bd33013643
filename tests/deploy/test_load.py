"""A file instead of a run: the same labels without PyTorch, and what is no such file."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.simulated import Simulated
from rangeseg.deploy import backends
from rangeseg.deploy.backends import OnnxRuntime, OpenVino, pixel_classes
from rangeseg.deploy.load import load_onnx, read_metadata
from rangeseg.deploy.metadata import KEY
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.errors import ConfigError, DataError
from rangeseg.runs.trained import load_network

CPU = torch.device("cpu")
WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # whoever imports it fails
from rangeseg.datasets.simulated import Simulated
from rangeseg.deploy.load import load_onnx
source = Simulated(Path(sys.argv[2]))
predictor = load_onnx(Path(sys.argv[1]), sys.argv[3]).predictor
(prediction,) = predictor.predict(source, source.scan_ids("val")[:1], False)
print(len(prediction.points))
"""
DROPPED_IN_A_THREAD = """
import gc, signal, subprocess, sys, threading
from pathlib import Path
from rangeseg.deploy.backends import OpenVino
signal.signal(signal.SIGCHLD, lambda *_: None)
networks = [OpenVino(Path(sys.argv[1]).read_bytes(), threads=1)]
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
gc.collect()
subprocess.run([sys.executable, "--version"])
print("survived")
"""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_its_labels_are_those_of_the_run(exported: Path, trained_run: Path, backend: Any) -> None:
    experiment, network = load_network(trained_run, CPU)
    source, scans = experiment.source, experiment.source.scan_ids("val")
    by_torch = experiment.predictor(network, CPU)
    by_torch.backend = TorchBackend(network, CPU, "float32")
    predictor = load_onnx(exported, backend, threads=1).predictor
    if backend == "openvino":  # so short a training leaves ties that bfloat16 decides
        predictor.backend = OpenVino(exported.read_bytes(), bfloat16=False)
    assert (predictor.backend.name, predictor.backend.device) == (backend, "cpu")
    pairs = zip(
        predictor.predict(source, scans, False, True),
        by_torch.predict(source, scans, False, True),
        strict=True,
    )
    for found, expected in pairs:
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.points.dtype == np.uint8
        assert (found.points == expected.points).mean() >= 0.999
        assert found.confidence is not None
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)


def test_it_knows_the_data_set(exported: Path, trained_run: Path) -> None:
    metadata = load_onnx(exported, threads=1).metadata
    experiment, _ = load_network(trained_run, CPU)
    assert metadata.run["method"] == "cutmix_seg"
    assert metadata.evaluate == experiment.config.evaluate
    info, images, own = metadata.info(), metadata.images(), experiment.source.info
    assert (info.name, info.policy) == (own.name, own.policy)
    assert images.sensor == experiment.images.sensor
    assert images.settings.channels == experiment.images.settings.channels
    assert images.channel_statistics == experiment.images.channel_statistics
    assert info.label_map.names == own.label_map.names
    np.testing.assert_array_equal(info.label_map.colours, own.label_map.colours)
    labels = np.array([*range(own.label_map.num_classes), IGNORE], dtype=np.uint8)
    np.testing.assert_array_equal(info.label_map.to_raw(labels), own.label_map.to_raw(labels))
    assert experiment.source.encode_labels(labels).dtype == np.dtype(metadata.label_type)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_needs_no_torch(exported: Path, simulated_root: Path, backend: str) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, str(exported), str(simulated_root), backend]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source = Simulated(simulated_root)
    assert int(done.stdout) == source.check_files(source.scan_ids("val")[0])


def test_a_network_may_be_dropped_in_any_thread(exported: Path) -> None:
    """It takes a stack for signals with it, on which Python would handle the end of a child."""
    words = [sys.executable, "-c", DROPPED_IN_A_THREAD, str(exported)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "survived" in done.stdout, (done.returncode, done.stderr)


@pytest.mark.parametrize("kind", [OnnxRuntime, OpenVino])
def test_threads_share_a_network(exported: Path, kind: Any) -> None:
    backend = kind(exported.read_bytes(), threads=1)
    generator = np.random.default_rng(0)
    batches = [generator.normal(size=(n, 8, 32, 256)).astype(np.float32) for n in (1, 3, 1, 2)]
    alone = [backend.logits(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(backend.logits, batches), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_classes_are_the_most_probable_ones() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5, 4, 7), scale=3).astype(np.float32)
    expected = torch.from_numpy(logits).softmax(1).max(1)
    for found, sure, classes in zip(pixel_classes(logits, True), *expected, strict=True):
        np.testing.assert_array_equal(found.classes, classes)
        np.testing.assert_allclose(found.confidence, sure, rtol=1e-5)
    assert pixel_classes(logits, False)[0].confidence is None


def saved(path: Path, **properties: str) -> Path:
    """A sound ONNX file of others."""
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [result]))
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, str(path))
    return path


def test_files_of_others(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(DataError, match=r"net.onnx cannot be read \(No such file or directory\)"):
        load_onnx(path)
    for content in (b"", b"no protobuf" * 99, exported.read_bytes()[:-999]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not an ONNX file: give one that `rangeseg export`"):
            load_onnx(path)
    with pytest.raises(DataError, match="not from `rangeseg export`: it does not name the"):
        load_onnx(saved(path))
    metadata = json.loads(read_metadata(path, exported.read_bytes()).model_dump_json())
    for change, message in [
        ({"format": 2}, "format: Value error, format 2, this version of rangeseg reads 1"),
        ({"raw_ids": "x"}, "raw_ids: "),
        ({"sensor": metadata["sensor"] | {"beams": 0}}, "must be at least 1, found 0"),
    ]:
        saved(path, **{KEY: json.dumps(metadata | change)})
        with pytest.raises(DataError, match=f"metadata cannot be read .*{message}") as error:
            load_onnx(path)
        assert "\n" not in str(error.value)
    saved(path, **{KEY: json.dumps(metadata)})
    with pytest.raises(ConfigError, match="which PyTorch does not run: take --backend openvino"):
        load_onnx(path, "torch")


@pytest.mark.parametrize(
    ("module", "line"),
    [("onnx", "rangeseg[onnx]"), ("onnxruntime", "rangeseg[onnx]"),
     ("openvino", "rangeseg[openvino]")],
)  # fmt: skip
def test_a_missing_extra(
    exported: Path, monkeypatch: pytest.MonkeyPatch, module: str, line: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    monkeypatch.setattr(backends, "installed", lambda name: name != module)
    backend: Any = "openvino" if module == "openvino" else "onnxruntime"
    with pytest.raises(ConfigError) as error:
        load_onnx(exported, backend)
    assert str(error.value) == f"{module} is not installed: pip install '{line}'"
