"""Trainings from ``configs/published``, and which scans a method takes for unlabelled ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.datasets.splits import parse_labels
from rangeseg.errors import ConfigError
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.plan import plan_run

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = [
    "range_image.height=32", "range_image.width=128", "model.width=4", "train.steps=2",
    "train.batch_size=2", "train.workers=0",
]  # fmt: skip


def test_the_published_file_is_the_whole_recipe(
    simulated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``rangeseg train configs/published/semantic_kitti.yaml --method cutmix_seg --labels 10%``."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/semantic_kitti").symlink_to(simulated_root)
    words = ["train", str(CONFIGS / "published" / "semantic_kitti.yaml"), "--method", "cutmix_seg"]
    words += ["--labels", "10%"]
    assert main([*words, *[w for s in TINY for w in ("--set", s)]]) == 0
    result = json.loads(
        Path("runs/semantic_kitti/cutmix_seg_plain/10pct/seed0/result.json").read_text()
    )
    assert result["run"]["published"] == [
        "model.width 4 (published: 128)", "range_image.height 32 (published: 64)",
        "range_image.width 128 (published: 2048)", "train.batch_size 2 (published: 8)",
        "train.steps 2 (published: 45000)",
    ]  # fmt: skip
    assert result["protocol"]["rows"] == "inclination"
    assert result["protocol"]["back_projection"] == "none"


def test_the_pool_of_unlabelled_scans(tiny_config: list[str]) -> None:
    """The labelled scans are in it or not, as the method has it."""
    path, overrides = Path(tiny_config[0]), tiny_config[2::2]

    def scans(method: str, labels: str, *more: str) -> tuple[list[str], list[str]]:
        config = load_config(path, [*overrides, *more])
        return Experiment(plan_run(config, method, parse_labels(labels), seed=0)).scans()

    labelled, others = scans("cutmix_seg", "10%")
    again, everything = scans("cutmix_seg", "10%", "methods.cutmix_seg.pool=all")
    assert labelled == again
    assert sorted(everything) == sorted([*labelled, *others])
    assert not set(labelled) & set(others)
    assert len(scans("cps", "100%", "methods.cps.pool=all")[1]) == 20
    with pytest.raises(ConfigError, match=r"leaves none: .* or methods\.cps\.pool=all"):
        scans("cps", "100%")
    assert scans("supervised", "10%") == (labelled, [])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lasermix", "pcr"])
def test_scribbles_as_published(
    simulated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(simulated_root / "sequences", "data/semantic_kitti/sequences")
    for labels in Path("data/semantic_kitti/sequences").glob("*/labels"):
        shutil.copytree(labels, labels.parent / "scribbles")
    words = ["train", str(CONFIGS / "published" / "scribble_kitti.yaml"), "--method", method]
    assert main([*words, "--labels", "10%", *[w for s in TINY for w in ("--set", s)]]) == 0
