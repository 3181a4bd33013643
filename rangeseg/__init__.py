"""rangeseg: semi-supervised LiDAR segmentation in the range view.

Example:
    >>> import rangeseg
    >>> segmenter = rangeseg.load("runs/semantic_kitti/cps/10pct/seed0")  # or "net.onnx"
    >>> labels = segmenter.predict(points)  # (N, 4): x, y, z, intensity -> (N,) raw ids
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rangeseg.deploy.backends import BackendName
    from rangeseg.deploy.segmenter import Segmenter

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(
    path: str | os.PathLike[str],
    *,
    backend: BackendName = "auto",
    device: str | None = None,
    threads: int | None = None,
) -> Segmenter:
    """Load a trained network that labels clouds of points.

    The training data are not needed. An ONNX file needs no PyTorch.

    Args:
        path: the folder of a run, or a file from ``rangeseg export``.
        backend: library that runs the network: ``torch``, ``onnxruntime``, ``openvino``. ``auto``
            takes PyTorch for a run, and OpenVINO for a file where installed. OpenVINO is faster on
            a CPU, but converting a run takes as long as several scans: export it once.
        device: device for the network of a run: ``cpu``, ``cuda``, ``cuda:N``; None prefers a GPU.
        threads: CPU threads of the network; None takes one per core of this process. For a run this
            sets all of PyTorch in this process.

    Returns:
        An object whose ``predict`` labels points.

    Raises:
        rangeseg.errors.ConfigError: the path is neither, an option does not fit it, or a package is
            missing.
        rangeseg.errors.CheckpointError: a run is not trained to the end, or its checkpoint is
            missing or damaged.
        rangeseg.errors.DataError: the file is not from ``rangeseg export``.
    """
    from pathlib import Path  # not at the top: `import rangeseg` is instant

    from rangeseg.runs.load import load_segmenter

    return load_segmenter(Path(path), backend, device or "auto", threads)
