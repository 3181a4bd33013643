"""From a new process to the first label of an exported network.

Part ``load`` of ``tests.benchmarks.inference``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from torch import nn

from rangeseg.datasets.range_images import RangeImages
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.deploy.metadata import describe
from rangeseg.deploy.write import to_onnx
from rangeseg.engine.inference import EvaluateSettings

BACKENDS = ("openvino", "onnxruntime")
PROGRAM = """
import sys, time
import numpy, rangeseg
network, cloud, backend, start = sys.argv[1:]
points = numpy.load(cloud)
segmenter = rangeseg.load(network, backend=backend)
segmenter.predict(points)
first = time.monotonic()
segmenter.predict(points)
print(first - float(start), time.monotonic() - first)
"""
Row = dict[str, object]


def first_label_rows(
    folder: Path, source: SemanticKitti, images: RangeImages, network: nn.Module, repeats: int
) -> list[Row]:
    """Seconds of a new process to its first label of a scan, and to label it again.

    Args:
        folder: of the files that are written.
        source: its first validation scan is the cloud.
        images: of the network.
        network: in float32.
        repeats: processes of each backend; they take turns.
    """
    file, cloud = folder / "net.onnx", folder / "cloud.npy"
    file.write_bytes(to_onnx(network, describe(source, images, EvaluateSettings())))
    np.save(cloud, source.read_scan(source.scan_ids("val")[0]).points)
    first: dict[str, list[float]] = {name: [] for name in BACKENDS}
    second: dict[str, list[float]] = {name: [] for name in BACKENDS}
    for turn in range(repeats + 1):  # the first fills the caches of numba and of the disk
        for name in BACKENDS:
            command = [sys.executable, "-c", PROGRAM, str(file), str(cloud), name]
            command.append(str(time.monotonic()))
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            if turn:
                to_first, again = map(float, done.stdout.split())
                first[name].append(to_first)
                second[name].append(again)
    return [
        {"load": name, "first label, median s": statistics.median(first[name]),
         "least": min(first[name]), "most": max(first[name]),
         "second label, median s": statistics.median(second[name])}
        for name in BACKENDS
    ]  # fmt: skip
