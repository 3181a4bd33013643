"""Shared fixtures: where the real scans are, and a small simulated data set."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch
    # Test processes side by side have a core each; threads of their own would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


REAL_DATA = Path(
    os.environ.get("RANGESEG_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")
)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; use with ``@pytest.mark.real_data``."""
    if not (REAL_DATA / "SOURCES.txt").is_file():
        pytest.skip(f"no real scans at {REAL_DATA}: set RANGESEG_REAL_DATA to their folder")
    return REAL_DATA


@pytest.fixture(scope="session")
def drawing() -> None:
    """open3d, and the system libraries it needs."""
    from rangeseg.viewer.open3d_libraries import missing_libraries

    if importlib.util.find_spec("open3d") is None:
        pytest.skip("open3d is not installed")
    if missing := missing_libraries():
        pytest.skip(f"open3d needs {', '.join(missing)}: `rangeseg doctor` says what to install")


@pytest.fixture(scope="session")
def simulated_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated data set: 20 train, 3 val and 4 test scans of 32 beams x 256 firings."""
    from rangeseg.simulation.generate import SimulationSettings, generate_dataset

    root = tmp_path_factory.mktemp("simulated")
    settings = SimulationSettings(train_scans=20, val_scans=3, test_scans=4, columns=256)
    generate_dataset(root, settings, workers=1)
    return root


@pytest.fixture(scope="session")
def tiny_config(simulated_root: Path) -> list[str]:
    """Words that make a training of seconds: ``rangeseg train *tiny_config --method ...``."""
    settings = [
        f"dataset.root={simulated_root}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=6", "train.batch_size=2", "train.save_every=2",
        "train.log_every=1",
    ]  # fmt: skip
    config = Path(__file__).parents[1] / "configs" / "simulated.yaml"
    return [str(config), *[word for s in settings for word in ("--set", s)]]


@pytest.fixture(scope="session")
def trained_run(tiny_config: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of CutMix-Seg, for reading: a test that changes it makes a copy."""
    from rangeseg.cli import main

    run = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", *tiny_config, "--method", "cutmix_seg", "--labels", "10%"]
    assert main([*words, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="session")
def exported(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of ``trained_run`` as a file, for reading."""
    from rangeseg.cli import main

    out = tmp_path_factory.mktemp("exported") / "net.onnx"
    assert main(["export", str(trained_run), "--out", str(out)]) == 0
    return out
