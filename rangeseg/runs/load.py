"""Load a network that labels clouds. Only the folder of a run needs torch."""

from __future__ import annotations

from pathlib import Path

from rangeseg.deploy.backends import BackendName
from rangeseg.deploy.load import load_onnx
from rangeseg.deploy.segmenter import Segmenter
from rangeseg.errors import ConfigError


def load_segmenter(
    path: Path,
    backend: BackendName = "auto",
    device: str = "auto",
    threads: int | None = None,
    tta: int | None = None,
    scans: int = 1,
) -> Segmenter:
    """Load a trained network.

    Args:
        path: the folder of a run, or a file from ``rangeseg export``.
        backend: name of the backend; ``auto`` takes the fastest available.
        device: device for a run's network: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        threads: threads of the network; None takes one per core of this process.
        tta: views of each scan; None takes the run's.
        scans: number of scans to predict: for many, ``auto`` converts a run.

    Raises:
        ConfigError: the path is neither, an option does not fit it, or a package is missing.
        CheckpointError: the checkpoint of a run is missing, damaged or not trained to the end.
        DataError: the file is not from ``rangeseg export``.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads}: give a number from 1 on")
    if path.is_dir():
        from rangeseg.runs.trained import segmenter_of_run

        return segmenter_of_run(path, backend, device, threads, tta, scans)
    if not path.exists():
        raise ConfigError(
            f"{path} does not exist: give the folder of a run, or a file that `rangeseg export` "
            "wrote"
        )
    if device not in ("auto", "cpu"):
        raise ConfigError(f"{path} is an ONNX file, which runs on the CPU, not on {device}")
    if tta is not None and tta != 1:
        raise ConfigError(f"{path} is an ONNX file of one view: --tta needs the folder of the run")
    loaded = load_onnx(path, backend, threads)
    return Segmenter(loaded.metadata, loaded.predictor)


def weights_of(path: Path) -> Path:
    """The file with the weights: the ONNX file, or the checkpoint of a run's folder."""
    if not path.is_dir():
        return path
    from rangeseg.engine.checkpoint import CHECKPOINT

    return path / CHECKPOINT
