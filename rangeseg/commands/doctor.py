"""``rangeseg doctor``: find missing packages, devices and data, and print remedies."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from rangeseg import __version__
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import RangesegError, one_line
from rangeseg.viewer.open3d_libraries import PACKAGES, explain, missing_libraries

REQUIRED = (
    "torch", "numpy", "numba", "scipy", "pydantic", "pyyaml", "tqdm", "matplotlib", "pillow",
    "jinja2",
)  # fmt: skip
"""The required packages."""

OPTIONAL = {
    "open3d": "`view` draws points with it; strips and batches work without",
    "nuscenes-devkit": "for `rangeseg-data index`, which reads nuScenes' tables",
    "onnx": "`export` writes with it, and files are loaded with it",
    "onnxscript": "`export` writes with it",
    "onnxruntime": "`export` checks its files with it, and it runs them",
    "openvino": "`predict` on a CPU is up to twice as fast with it",
    "tensorboard": "train.tensorboard=true writes curves for it",
    "kiss-icp": "`rangeseg-data poses` estimates poses with it",
    "laspy": "for scans in .las",
    "lazrs": "for scans in .laz",
    "rosbags": "`rangeseg-data import` reads bags with it",
}

GOOD, BAD = "ok  ", "--  "
"""How lines begin."""


def add_doctor(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    doctor = add_command(
        commands, "doctor", _doctor,
        "check packages, devices and data on this machine, and print remedies",
        "rangeseg doctor",
    )  # fmt: skip
    doctor.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?",
        help="check this configuration's data (default: those of all shipped configurations)",
    )  # fmt: skip


def _doctor(arguments: argparse.Namespace) -> int:
    for line in examine(arguments.config):
        print(line, flush=True)
    return 0


def examine(config: Path | None) -> Iterator[str]:
    """Report available and missing parts, line by line.

    Args:
        config: a configuration whose data are checked; None takes the shipped ones.

    Returns:
        Lines that begin with GOOD or BAD; BAD lines name a remedy.
    """
    yield f"{GOOD}rangeseg {__version__} on Python {platform.python_version()} ({sys.executable})"
    for name, use in (dict.fromkeys(REQUIRED, "nothing works without it") | OPTIONAL).items():
        try:
            yield f"{GOOD}{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{BAD}{name} is not installed ({use}): pip install {name}"
    yield _gpu()
    yield from _drawing()
    yield from _data(config)


def _gpu() -> str:
    try:
        import torch
    except Exception as error:  # a broken installation may raise anything
        reason = one_line(error)
        return f"{BAD}torch cannot be imported ({reason}): pip install --force-reinstall torch"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "PyTorch is built without CUDA" if built is None else f"no driver for CUDA {built}"
        return (
            f"{BAD}no GPU ({why}): small networks train on the CPU too; for full size see "
            "https://pytorch.org/get-started for a build that fits your driver"
        )
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return f"{GOOD}GPU: {', '.join(names)} (CUDA {torch.version.cuda})"


def _drawing() -> Iterator[str]:
    """Try whether open3d can draw without a display, and whether windows can open."""
    if importlib.util.find_spec("open3d") is None:
        return
    if missing_libraries():
        yield f"{BAD}{explain('')}"
        return
    yield f"{GOOD}open3d's system libraries: {', '.join(PACKAGES)}"
    import numpy as np

    from rangeseg.viewer.display import has_display
    from rangeseg.viewer.offscreen import OffscreenRenderer

    try:
        with OffscreenRenderer(64, 48, 2.0, np.zeros(3)) as renderer:
            renderer.draw(np.zeros((1, 3)), np.zeros((1, 3), dtype=np.uint8))
    except RangesegError as error:
        yield f"{BAD}{error}"
        return
    yield f"{GOOD}open3d draws without a display (`rangeseg view ... --save`)"
    if has_display():
        yield f"{GOOD}a display for windows (`rangeseg view`)"
    else:
        yield f"{BAD}no display, so no windows: `rangeseg view ... --save` needs none"


def _data(config: Path | None) -> Iterator[str]:
    """Check for each configuration whether its data exist."""
    try:
        from rangeseg.runs.shipped import shipped_config

        folder = shipped_config("simulated.yaml").parent
    except Exception as error:  # includes a broken torch
        yield f"{BAD}data are not looked for ({one_line(error)})"
        return
    for path in sorted(folder.glob("*.yaml")) if config is None else [config]:
        yield _root(path)


def _root(path: Path) -> str:
    from rangeseg.runs.config import load_config
    from rangeseg.runs.experiment import Experiment

    try:
        config = load_config(path)
        root = config.dataset.root
        source = Experiment(config).source
        counts = [f"{split} {len(source.scan_ids(split))}" for split in ("train", "val")]
    except RangesegError as error:
        return f"{BAD}{path.name}: {error}"
    return f"{GOOD}{path.name}: {root} ({', '.join(counts)} scans)"
