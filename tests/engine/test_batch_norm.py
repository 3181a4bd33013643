"""Batch norms at the end of a training: the statistics of whole scans, and weights untouched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rangeseg.cli import main
from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.simulated import Simulated
from rangeseg.datasets.split_files import read_split
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.engine.batch_norm import renew_statistics
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.errors import DataError
from rangeseg.models import ModelSettings, build_network
from rangeseg.runs.folder import LABELLED
from rangeseg.runs.trained import load_run

CPU = torch.device("cpu")


def predictor_of(source: Simulated) -> Predictor:
    images = RangeImages(source.info, RangeImageSettings(height=32, width=256))
    torch.manual_seed(0)
    classes = source.info.label_map.num_classes
    network = build_network(ModelSettings(width=4), len(images.settings.channels), classes)
    return Predictor(network, images, EvaluateSettings(), classes, CPU, "float32")


def test_layers_get_the_mean_of_what_they_normalise_by(simulated_root: Path) -> None:
    source = Simulated(simulated_root)
    predictor = predictor_of(source)
    layers = [m for m in predictor.network.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = [p.clone() for p in predictor.network.parameters()]
    seen: list[list[Tensor]] = [[] for _ in layers]
    for layer, its in zip(layers, seen, strict=True):
        layer.register_forward_pre_hook(lambda _, args, its=its: its.append(args[0].double()))
    scans = source.scan_ids("train")[:5]
    renew_statistics(predictor, source, scans, BadScans("fail", 5))
    for layer, its in zip(layers, seen, strict=True):
        assert [len(x) for x in its] == [2, 2, 1]
        var_mean = [torch.var_mean(x, dim=(0, 2, 3)) for x in its]
        var, mean = (torch.stack(values).mean(dim=0) for values in zip(*var_mean, strict=True))
        torch.testing.assert_close(layer.running_mean, mean.float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, var.float(), rtol=1e-4, atol=1e-6)
        assert layer.momentum == 0.1
        assert not layer.training
    after = list(predictor.network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


@pytest.mark.parametrize("method", ["supervised", "mean_teacher", "cps"])
def test_a_training_ends_with_them(tiny_config: list[str], tmp_path: Path, method: str) -> None:
    """Of the labelled scans, or of all; for a teacher, and for the mean of two networks."""
    run = tmp_path / "run"
    words = [*tiny_config, "--set", "train.precise_batch_norm=7", "--method", method]
    assert main(["train", *words, "--labels", "20%", "--out", str(run)]) == 0
    experiment, predictor = load_run(run, CPU)
    source = experiment.source
    kept = {name: value.clone() for name, value in predictor.network.state_dict().items()}
    for layer in predictor.network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()

    scans = read_split(run / LABELLED) if method == "supervised" else source.scan_ids("train")
    used = evenly_spaced(scans, 7)
    assert len(used) == (4 if method == "supervised" else 7)
    renew_statistics(predictor, source, used, BadScans("fail", len(used)))
    for name, value in predictor.network.state_dict().items():
        assert torch.equal(value, kept[name]) or name.endswith("num_batches_tracked"), name


def test_a_bad_scan_is_left_out(simulated_root: Path, tmp_path: Path) -> None:
    shutil.copytree(simulated_root, tmp_path / "data")
    source = Simulated(tmp_path / "data")
    bad, *others = source.scan_ids("train")[:5]
    path = source.root / "sequences" / bad[:2] / "velodyne" / f"{bad[3:]}.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=f"{bad[3:]}.bin"):
        renew_statistics(predictor_of(source), source, [bad], BadScans("fail", 5))
    skipping = BadScans("skip", 5)
    states = []
    for scans in ([*others, bad], others):  # two batches, and nothing of the third
        predictor = predictor_of(source)
        renew_statistics(predictor, source, scans, skipping)
        states.append(predictor.network.state_dict())
    assert list(skipping.skipped) == [bad]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
