"""Fixtures of the viewer: a run that was trained for a moment, and whether open3d can draw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import data_tools.cli
from rangeseg.cli import main
from rangeseg.datasets.sampler import SampleKey, StepSampler
from rangeseg.engine import trainer

CONFIG = Path(__file__).parents[2] / "configs" / "simulated.yaml"
SMALL = [
    "range_image.width=256", "range_image.crop_width=64", "model.width=4", "train.steps=4",
    "train.batch_size=2", "methods.cutmix_seg.confidence=0.1",
]  # fmt: skip


@pytest.fixture(scope="session")
def small_config(simulated_root: Path) -> list[str]:
    """Words that name the simulated data and a small network."""
    settings = [f"dataset.root={simulated_root}", *SMALL]
    return [str(CONFIG), *[word for s in settings for word in ("--set", s)]]


@pytest.fixture(scope="session")
def run(small_config: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CutMix-Seg."""
    folder = tmp_path_factory.mktemp("viewed") / "run"
    words = ["train", *small_config, "--method", "cutmix_seg", "--labels", "20%"]
    assert main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def propagating(
    tiny_config: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[list[SampleKey]]]:
    """A supervised run that learns propagated labels, and the keys of each of its steps."""
    folder, steps = tmp_path_factory.mktemp("propagating") / "run", []

    class Recorded(StepSampler):
        def __iter__(self) -> Iterator[list[SampleKey]]:
            for keys in super().__iter__():
                steps.append(keys)
                yield keys

    words = ["train", *tiny_config, "--method", "supervised", "--labels", "10%"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trainer, "StepSampler", Recorded)
        more = ["--set", "train.propagation.reach=2", "--out", str(folder)]
        # As `propagate` does by default.
        more += ["--set", "train.propagation.min_confidence=0.8"]
        more += ["--set", "train.propagation.movable_distance=0.6"]
        assert main([*words, *more]) == 0
    return folder, steps


@pytest.fixture(scope="session")
def propagated(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same labels as files that ``rangeseg-data propagate`` wrote."""
    folder = tmp_path_factory.mktemp("propagated") / "labels"
    words = ["propagate", "simulated", str(simulated_root), "--labels", "10%", "--reach", "2"]
    assert data_tools.cli.main([*words, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def broken_library(folder: Path, name: str) -> dict[str, str]:
    """An environment in which a system library cannot be loaded, as on a bare system."""
    (folder / name).touch()
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}
