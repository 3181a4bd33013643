"""A run whose predictions take a while."""

import os
import shutil
from pathlib import Path

import pytest

from rangeseg.cli import main

SCANS = 120


@pytest.fixture(scope="session")
def long_run(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with SCANS scans in its split ``test``, nearly all the same one."""
    folder = tmp_path_factory.mktemp("long")
    shutil.copytree(simulated_root, folder / "data")
    points = folder / "data" / "sequences" / "11" / "velodyne"
    for number in range(2, SCANS - 2):
        os.link(points / "000000.bin", points / f"{number:06d}.bin")
    settings = [
        f"dataset.root={folder / 'data'}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=1", "train.batch_size=2",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    words = [str(config), *[word for s in settings for word in ("--set", s)]]
    words += ["--method", "supervised", "--labels", "10%", "--out", str(folder / "run")]
    assert main(["train", *words]) == 0
    return folder / "run"
