"""Checkpoints of the authors: their layout, their arithmetic, and the runs made of them.

Names, shapes and forward are stated here as the official code has them, independently of ours.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import rangeseg
from rangeseg.cli import main
from rangeseg.datasets.base import Scan
from rangeseg.geometry.sensor import HDL_64E
from rangeseg.runs.trained import load_network, read_result
from tests.geometry.test_normals import naive_normals

Capture = pytest.CaptureFixture[str]
State = dict[str, Tensor]
WIDTH = 32
SENSOR = HDL_64E.resized(64, WIDTH, "inclination")
BLOCKS = (3, 4, 6, 3)


def conv(name: str, shape: tuple[int, int], kernel: int, bias: bool = False) -> State:
    fan_in = shape[1] * kernel * kernel
    state = {f"{name}.weight": torch.randn(*shape, kernel, kernel) * (2 / fan_in) ** 0.5}
    return state | ({f"{name}.bias": torch.randn(shape[0]) * 0.3} if bias else {})


def norm(name: str, channels: int) -> State:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels) * 0.3,
        f"{name}.running_mean": torch.randn(channels) * 0.3,
        f"{name}.running_var": torch.rand(channels) + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def stages(prefix: str, inputs: int) -> State:
    state: State = {}
    for layer, blocks in enumerate(BLOCKS, start=1):
        for number in range(blocks):
            name, inner = f"{prefix}layer{layer}.{number}", inputs if number == 0 else 128
            state |= conv(f"{name}.conv1", (128, inner), 3) | norm(f"{name}.bn1", 128)
            state |= conv(f"{name}.conv2", (128, 128), 3) | norm(f"{name}.bn2", 128)
            if number == 0 and (layer > 1 or inner != 128):
                state |= conv(f"{name}.downsample.0", (128, inner), 1)
                state |= norm(f"{name}.downsample.1", 128)
        inputs = 128
    return state


def fidnet_state(channels: int = 5, outputs: int = 20) -> State:
    sizes = (channels, 64, 128, 256, 512)
    state: State = {}
    for i, bn in enumerate(("bn_0", "bn", "bn_1", "bn_2")):
        state |= conv(f"backend.conv{i + 1}", (sizes[i + 1], sizes[i]), 1, bias=True)
        state |= norm(f"backend.{bn}", sizes[i + 1])
    state |= stages("backend.", 512)
    state |= conv("semantic_head.conv_1", (512, 1024), 1, bias=True)
    state |= norm("semantic_head.bn1", 512)
    state |= conv("semantic_head.conv_2", (128, 512), 1, bias=True)
    state |= norm("semantic_head.bn2", 128)
    return state | conv("semantic_head.semantic_output", (outputs, 128), 1, bias=True)


def cenet_state() -> State:
    state: State = {}
    for name, shape in {"conv1": (64, 5), "conv2": (128, 64), "conv3": (128, 128)}.items():
        state |= conv(f"{name}.conv", shape, 3) | norm(f"{name}.bn", shape[0])
    state |= stages("", 128)
    for name, shape in {"conv_1": (256, 640), "conv_2": (128, 256)}.items():
        state |= conv(f"{name}.conv", shape, 3) | norm(f"{name}.bn", shape[0])
    for name in ("semantic_output", "aux_head1", "aux_head2", "aux_head3"):
        state |= conv(name, (20, 128), 1, bias=True)
    return state


def leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.01)


class Forward:
    """The pieces of the official forward."""

    def __init__(self, state: State, activation: Callable[[Tensor], Tensor]) -> None:
        self.state, self.act = state, activation

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        leaves = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self.state[f"{name}.{leaf}"] for leaf in leaves)
        return F.batch_norm(x, mean, var, weight, bias)

    def unit(self, conv: str, bn: str, x: Tensor) -> Tensor:
        return self.act(self.norm(bn, self.conv(conv, x)))

    def stages(self, prefix: str, x: Tensor) -> list[Tensor]:
        features, size = [x], x.shape[2:]
        for layer, blocks in enumerate(BLOCKS, start=1):
            for number in range(blocks):
                name, stride = f"{prefix}layer{layer}.{number}", 2 if layer > 1 > number else 1
                y = self.act(self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride)))
                y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y))
                if f"{name}.downsample.0.weight" in self.state:
                    x = self.conv(f"{name}.downsample.0", x, stride)
                    x = self.norm(f"{name}.downsample.1", x)
                x = self.act(x + y)
            large = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
            features.append(large)
        return features


def fidnet_logits(state: State, x: Tensor) -> list[Tensor]:
    net = Forward(state, leaky)
    for i, bn in enumerate(("bn_0", "bn", "bn_1", "bn_2")):
        x = net.unit(f"backend.conv{i + 1}", f"backend.{bn}", x)
    x = torch.cat(net.stages("backend.", x), dim=1)
    for i in (1, 2):
        x = net.unit(f"semantic_head.conv_{i}", f"semantic_head.bn{i}", x)
    return [net.conv("semantic_head.semantic_output", x)]


def cenet_logits(state: State, x: Tensor) -> list[Tensor]:
    """Before the softmax; those of the auxiliary heads too."""
    net = Forward(state, F.hardswish)
    for name in ("conv1", "conv2", "conv3"):
        x = net.unit(f"{name}.conv", f"{name}.bn", x)
    features = net.stages("", x)
    x = torch.cat(features, dim=1)
    for name in ("conv_1", "conv_2"):
        x = net.unit(f"{name}.conv", f"{name}.bn", x)
    heads = [net.conv(f"aux_head{i}", f) for i, f in enumerate(features[2:], start=1)]
    return [net.conv("semantic_output", x), *heads]


def raw_image(scan: Scan, owners: np.ndarray) -> dict[str, np.ndarray]:
    """Values of each pixel's point, and -1 where it is empty, as in the official projections."""
    x, y, z, intensity = scan.points[:, :4].T
    values = {"x": x, "y": y, "z": z, "intensity": intensity, "range": np.sqrt(x**2 + y**2 + z**2)}
    return {name: np.where(owners >= 0, value[owners], -1.0) for name, value in values.items()}


def fidnet_input(raw: dict[str, np.ndarray], valid: np.ndarray) -> Tensor:
    scaled = [raw["x"] / 50, raw["y"] / 50, raw["z"] / 3, raw["intensity"], raw["range"] / 80]
    return torch.from_numpy(np.stack(scaled)[None]).float()


def fidnet_input_with_normals(raw: dict[str, np.ndarray], valid: np.ndarray) -> Tensor:
    """The normals along the axes of a camera, masked: right, down, forward."""
    normals = naive_normals(raw["range"], SENSOR) * valid
    return torch.cat([fidnet_input(raw, valid), torch.from_numpy(normals[None]).float()], dim=1)


def cenet_input(raw: dict[str, np.ndarray], valid: np.ndarray) -> Tensor:
    means = (11.71279, -0.1023471, 0.4952, -1.0545, 0.2877)
    stds = (10.24, 12.295865, 9.4287, 0.8643, 0.1450)
    names = ("range", "x", "y", "z", "intensity")
    normal = [(raw[n] - m) / s * valid for n, m, s in zip(names, means, stds, strict=True)]
    return torch.from_numpy(np.stack(normal)[None]).float()


NETWORKS: dict[str, tuple[Callable[[], State], Any, Any]] = {
    "fidnet": (fidnet_state, fidnet_input, fidnet_logits),
    "fidnet with normals": (
        lambda: fidnet_state(channels=8), fidnet_input_with_normals, fidnet_logits
    ),
    "cenet": (cenet_state, cenet_input, cenet_logits),
}  # fmt: skip


@pytest.fixture(scope="module")
def official() -> dict[str, State]:
    torch.manual_seed(0)
    return {name: make() for name, (make, *_) in NETWORKS.items()}


@pytest.fixture(scope="module")
def runs(
    official: dict[str, State], simulated_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A run of each; the file of FIDNet is a state_dict, that of CENet what its trainer saves."""
    folder, found = tmp_path_factory.mktemp("official"), {}
    for name, state in official.items():
        saved: Any = state
        if name == "cenet":
            # As two GPUs save it.
            saved = {
                "epoch": 29, "state_dict": {f"module.{n}": t for n, t in state.items()},
                "optimizer": {}, "info": {"valid_iou": 0.6}, "scheduler": {},
            }  # fmt: skip
        torch.save(saved, folder / name)
        words = ["import-weights", name.split()[0], str(folder / name)]
        words += ["--out", str(folder / f"run_{name}")]
        words += ["--root", str(simulated_root), "--width", str(WIDTH)]
        assert main(words) == 0
        found[name] = folder / f"run_{name}"
    return found


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_logits_are_those_of_the_official_arithmetic(
    name: str, official: dict[str, State], runs: dict[str, Path]
) -> None:
    _, official_input, official_logits = NETWORKS[name]
    experiment, network = load_network(runs[name], torch.device("cpu"))
    source, images = experiment.source, experiment.images
    scan = source.read_scan(source.scan_ids("val")[0])
    projection, rows = images.project(scan)
    assert rows == "inclination"
    raw = raw_image(scan, projection.point_index)
    expected = official_logits(official[name], official_input(raw, projection.valid))
    assert not projection.valid.all()

    image = torch.from_numpy(images.image(scan.points, projection))[None]
    features = network.encode(image)  # type: ignore[operator]
    found = [network(image), *network.auxiliary(features)]  # type: ignore[operator]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        classes = theirs[:, 1:]  # without "unlabelled"
        assert (ours - classes).abs().max() < 1e-4 * classes.abs().max()

    predictor = experiment.predictor(network, torch.device("cpu"))
    (prediction,) = predictor.predict(source, [scan.scan_id])
    same = prediction.pixels == expected[0][0, 1:].argmax(dim=0).numpy()
    assert same[projection.valid].mean() > 0.999


@pytest.mark.slow
def test_a_run_of_it_is_a_run(
    runs: dict[str, Path], simulated_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = runs["fidnet"]
    assert main(["evaluate", str(run)]) == 0
    result = read_result(run / "result.json")
    assert result["protocol"]["init"]["origin"] == "official FIDNet"
    assert result["protocol"]["back_projection"] == "nearest_label"
    assert result["run"]["labelled_scans"] == 19130
    assert result["run"]["steps"] == 0
    assert result["run"]["network"] == {
        "name": "fidnet", "width": 128, "padding": "zeros", "align_corners": True,
    }  # fmt: skip
    assert main(["predict", str(run), "--split", "val", "--out", str(tmp_path / "out")]) == 0
    assert list((tmp_path / "out").rglob("*.label"))
    points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    assert rangeseg.load(run).predict(points).shape == (500,)
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert "supervised, plain, from official FIDNet (" in capsys.readouterr().out


@pytest.mark.real_data
def test_real_scans_are_evaluated_with_normals(
    official: dict[str, State], real_data: Path, tmp_path: Path
) -> None:
    file, run = tmp_path / "25", tmp_path / "run"
    torch.save(official["fidnet with normals"], file)
    words = ["import-weights", "fidnet", str(file), "--out", str(run), "--width", "64"]
    assert main([*words, "--root", str(real_data / "semantickitti_mini")]) == 0
    assert main(["evaluate", str(run)]) == 0
    result = read_result(run / "result.json")
    assert result["scans"] == 5
    assert result["protocol"]["rows"] == "inclination"


def test_a_training_begins_from_it_but_does_not_go_on_in_its_folder(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    config = runs["cenet"] / "config.yaml"
    assert "steps: 0" in config.read_text()
    words = ["train", str(tmp_path / "c.yaml"), "--method", "supervised", "--labels", "50%"]
    lines = config.read_text().partition("\nrun:")[0]
    (tmp_path / "c.yaml").write_text(lines)
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "train.steps=0 trains nothing" in capsys.readouterr().err
    words += ["--set", f"train.init={runs['cenet']}", "--set", "train.steps=1"]
    words += ["--set", "train.batch_size=2", "--set", "train.precise_batch_norm=0"]
    words += ["--set", "range_image.crop_width=16", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert "train.init: took 248 of 248 tensors" in capsys.readouterr().err


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


def aspp(state: State) -> State:
    return without(state, "backend.conv4.weight") | {"backend.conv_Aspp_1.weight": torch.ones(1)}


def infinite(state: State) -> State:
    return state | {"backend.bn.bias": torch.full((128,), torch.inf)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (aspp, "no published FIDNet, but a network without backend.conv4.weight and with "
         "backend.conv_Aspp_1.weight"),
        (lambda state: {}, "holds no state_dict"),
        (lambda state: {"step": 3, "weights": 4}, "holds no state_dict of a network, but step, we"),
        (lambda state: torch.ones(3), "holds no state_dict"),
        (lambda state: cenet_state(), "FIDNet, but a network without backend.conv1.weight, "),
        (lambda state: fidnet_state(channels=4), "this FIDNet reads 4 channels: only one of 5 (x, "
         "y, z, intensity, range) or 8 (with normals) can be imported"),
        (lambda state: fidnet_state(outputs=14), "has 14 outputs: only one of 20, unlabelled and"),
        (lambda state: state | conv("semantic_head.conv_2", (64, 512), 1, bias=True),
         "it has semantic_head.conv_2.weight 64x512x1x1, semantic_head.conv_2.bias 64"),
        (infinite, "backend.bn.bias holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_another_network_is_named(
    change: Callable[[State], Any], message: str, official: dict[str, State], tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    file, out = tmp_path / "net.pth", tmp_path / "run"
    torch.save(change(official["fidnet"]), file)
    assert main(["import-weights", "fidnet", str(file), "--out", str(out)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}")
    assert message in line
    assert not out.exists()


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: Capture) -> None:
    file, out, made = tmp_path / "net.pth", tmp_path / "run", tmp_path / "made"
    words = ["import-weights", "fidnet", str(file), "--out", str(out)]
    torch.save({"state_dict": Bomb(made)}, file)
    assert main(words) == 3
    said = capsys.readouterr().err
    assert "(it holds more than tensors; none of it was run): if you trust it, load it" in said
    file.write_bytes(pickle.dumps(Bomb(made)))
    assert main(words) == 3
    assert "net.pth is damaged, no checkpoint, or older than PyTorch 1.6" in capsys.readouterr().err
    assert not made.exists()


def test_files_and_folders_that_cannot_be(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    words = ["import-weights", "cenet", str(tmp_path / "gone"), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "was published for images of 512, 1024 or 2048 columns: give" in capsys.readouterr().err
    assert main([*words, "--width", "512"]) == 3
    assert f"{tmp_path / 'gone'} does not exist: give the checkpoint" in capsys.readouterr().err
    assert main([*words, "--width", "500"]) == 2
    assert "--width 500: " in capsys.readouterr().err
    before = (runs["cenet"] / "config.yaml").read_bytes()
    assert main([*words[:-1], str(runs["cenet"]), "--width", "512"]) == 2
    assert "exists: choose another --out, or move it away" in capsys.readouterr().err
    assert (runs["cenet"] / "config.yaml").read_bytes() == before
