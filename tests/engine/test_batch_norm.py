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
from rangeseg.errors import DataError
from rangeseg.geometry.channels import CHANNELS
from rangeseg.models import ModelSettings, build_network
from rangeseg.runs.folder import LABELLED
from rangeseg.runs.trained import load_network
from rangeseg.system.device import to_device

CPU = torch.device("cpu")


def new_network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(
        ModelSettings(width=4), len(CHANNELS), Simulated.info.label_map.num_classes
    )


def renew(network: nn.Module, source: Simulated, scans: list[str], bad_scans: BadScans) -> None:
    images = RangeImages(source.info, RangeImageSettings(height=32, width=256))
    renew_statistics(network, CPU, "float32", images, source, scans, bad_scans)


def test_layers_get_the_mean_of_what_they_normalise_by(simulated_root: Path) -> None:
    source = Simulated(simulated_root)
    network = new_network()
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = [p.clone() for p in network.parameters()]
    seen: list[list[Tensor]] = [[] for _ in layers]
    for layer, its in zip(layers, seen, strict=True):
        layer.register_forward_pre_hook(lambda _, args, its=its: its.append(args[0].double()))
    scans = source.scan_ids("train")[:5]
    renew(network, source, scans, BadScans("fail", 5))
    for layer, its in zip(layers, seen, strict=True):
        assert [len(x) for x in its] == [2, 2, 1]
        var_mean = [torch.var_mean(x, dim=(0, 2, 3)) for x in its]
        var, mean = (torch.stack(values).mean(dim=0) for values in zip(*var_mean, strict=True))
        torch.testing.assert_close(layer.running_mean, mean.float(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, var.float(), rtol=1e-4, atol=1e-6)
        assert layer.momentum == 0.1
        assert not layer.training
    after = list(network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, after, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "mean_teacher", "cps"])
def test_a_training_ends_with_them(tiny_config: list[str], tmp_path: Path, method: str) -> None:
    """Of the labelled scans, or of all; for a teacher, and for the mean of two networks."""
    run = tmp_path / "run"
    words = [*tiny_config, "--set", "train.precise_batch_norm=7", "--method", method]
    assert main(["train", *words, "--labels", "20%", "--out", str(run)]) == 0
    experiment, network = load_network(run, CPU)
    source = experiment.source
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()

    scans = read_split(run / LABELLED) if method == "supervised" else source.scan_ids("train")
    used = evenly_spaced(scans, 7)
    assert len(used) == (4 if method == "supervised" else 7)
    to_device(network, CPU)
    renew_statistics(
        network, CPU, experiment.precision, experiment.images, source, used,
        BadScans("fail", len(used)),
    )  # fmt: skip
    for name, value in network.state_dict().items():
        assert torch.equal(value, kept[name]) or name.endswith("num_batches_tracked"), name


def test_a_bad_scan_is_left_out(simulated_root: Path, tmp_path: Path) -> None:
    shutil.copytree(simulated_root, tmp_path / "data")
    source = Simulated(tmp_path / "data")
    bad, *others = source.scan_ids("train")[:5]
    path = source.root / "sequences" / bad[:2] / "velodyne" / f"{bad[3:]}.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=f"{bad[3:]}.bin"):
        renew(new_network(), source, [bad], BadScans("fail", 5))
    skipping = BadScans("skip", 5)
    states = []
    for scans in ([*others, bad], others):  # two batches, and nothing of the third
        network = new_network()
        renew(network, source, scans, skipping)
        states.append(network.state_dict())
    assert list(skipping.skipped) == [bad]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
