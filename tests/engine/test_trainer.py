"""The loop: what it learns, and that an interruption changes nothing."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rangeseg.cli import main
from rangeseg.methods.ael import Ael


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.pt", weights_only=True)["method"]


def train(words: list[str], out: Path, *more: str, method: str = "cutmix_seg") -> int:
    words = ["train", *words, "--method", method, "--labels", "10%", "--out", str(out), *more]
    return main(words)


def metrics_of(run: Path, name: str) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[name] for line in lines]


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights_of(a), weights_of(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.slow
def test_the_weights_depend_on_the_seed_alone(
    trained_run: Path, tiny_config: list[str], tmp_path: Path
) -> None:
    """Neither on the number of processes that load scans, nor on checkpointed activations."""
    same, other = tmp_path / "same", tmp_path / "other"
    more = ["--set", "train.workers=2", "--set", "train.activation_checkpointing=true"]
    assert train(tiny_config, same, *more) == 0
    assert train(tiny_config, other, "--seed", "1") == 0
    assert same_weights(trained_run, same)
    assert not same_weights(trained_run, other)
    a, b = (json.loads((run / "result.json").read_text()) for run in (trained_run, same))
    assert a["miou"] == b["miou"]
    a, b = ((run / "labelled.txt").read_text().splitlines()[1:] for run in (trained_run, other))
    assert a != b


def test_a_step_of_two_batches_descends_the_mean_of_their_losses(
    tiny_config: list[str], tmp_path: Path
) -> None:
    still = ["--set", "train.steps=2", "--set", "train.learning_rate=1e-30"]
    train(tiny_config, tmp_path / "apart", *still, method="supervised")
    together = ["--set", "train.steps=1", "--set", "train.accumulate=2"]
    train(tiny_config, tmp_path / "together", *together, method="supervised")
    first, second = metrics_of(tmp_path / "apart", "loss")
    assert metrics_of(tmp_path / "together", "loss") == [pytest.approx((first + second) / 2)]
    first, second = metrics_of(tmp_path / "apart", "gradient_norm_0")
    (norm,) = metrics_of(tmp_path / "together", "gradient_norm_0")
    assert abs(first - second) / 2 < norm < (first + second) / 2


def test_the_method_is_asked_after_each_batch_of_a_step(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("after_batch", "after_step"):
        done = getattr(Ael, name)

        def record(*words: object, n: str = name, done: Callable[..., None] = done) -> None:
            calls.append(n)
            done(*words)

        monkeypatch.setattr(Ael, name, record)
    settings = ["--set", "train.steps=2", "--set", "train.accumulate=2"]
    assert train(tiny_config, tmp_path / "run", *settings, method="ael") == 0
    assert calls == ["after_batch", "after_batch", "after_step"] * 2


def test_activation_checkpointing_is_not_for_compiled_networks(
    tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--set", "train.activation_checkpointing=true", "--set", "train.compile=default"]
    assert train(tiny_config, tmp_path / "run", *both) == 2
    assert "set compile: none" in capsys.readouterr().err


@pytest.mark.slow
def test_the_loss_falls(tiny_config: list[str], tmp_path: Path) -> None:
    train(tiny_config, tmp_path / "run", "--set", "train.steps=60", method="supervised")
    losses = metrics_of(tmp_path / "run", "loss")
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_labels_of_unlabelled_scans_do_not_matter(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path
) -> None:
    """The same weights without them as with them."""
    root = tmp_path / "data"
    shutil.copytree(simulated_root, root)
    split = tmp_path / "mine.txt"
    split.write_text("00/000000\n03/000001\n05/000001\n")
    words = ["train", *tiny_config, "--method", "cutmix_seg", "--labels", str(split)]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    listed = split.read_text().split()
    for path in root.glob("sequences/*/labels/*.label"):
        if f"{path.parts[-3]}/{path.stem}" not in listed and path.parts[-3] != "08":
            path.unlink()
    words += ["--set", f"dataset.root={root}"]
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_without_tensorboard_it_says_how_to_get_it(
    tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train(tiny_config, tmp_path / "run", "--set", "train.tensorboard=true") == 2
    assert "pip install 'rangeseg[tensorboard]'" in capsys.readouterr().err
