"""The loop: what it learns, and that an interruption changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rangeseg.cli import main
from rangeseg.engine.trainer import class_weights
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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_seed_gives_the_same_weights_with_any_number_of_workers(
    tiny_config: list[str], tmp_path: Path, workers: int
) -> None:
    assert train(tiny_config, tmp_path / "a") == 0
    assert train(tiny_config, tmp_path / "b", "--set", f"train.workers={workers}") == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")
    a, b = (json.loads((tmp_path / n / "result.json").read_text()) for n in "ab")
    assert a["miou"] == b["miou"]


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


def test_activation_checkpointing_ends_at_the_same_weights(
    tiny_config: list[str], tmp_path: Path
) -> None:
    assert train(tiny_config, tmp_path / "a") == 0
    assert train(tiny_config, tmp_path / "b", "--set", "train.activation_checkpointing=true") == 0
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_activation_checkpointing_is_not_for_compiled_networks(
    tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--set", "train.activation_checkpointing=true", "--set", "train.compile=default"]
    assert train(tiny_config, tmp_path / "run", *both) == 2
    assert "set compile: none" in capsys.readouterr().err


def test_another_seed_gives_others(tiny_config: list[str], tmp_path: Path) -> None:
    train(tiny_config, tmp_path / "a")
    train(tiny_config, tmp_path / "b", "--seed", "1")
    assert not same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(("method", "batches"), [("cutmix_seg", 1), ("cps", 1), ("cutmix_seg", 2)])
def test_a_stopped_run_ends_as_if_it_had_not_been(
    tiny_config: list[str], tmp_path: Path, method: str, batches: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tiny_config = [*tiny_config, "--set", f"train.accumulate={batches}"]
    train(tiny_config, tmp_path / "whole", method=method)

    from rangeseg.engine import trainer

    class Killed(BaseException):
        pass

    save, saved = trainer.save_checkpoint, []

    def save_twice(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        saved.append(arguments)
        if len(saved) == 2:  # after step 4 of 6
            raise Killed

    monkeypatch.setattr(trainer, "save_checkpoint", save_twice)
    with pytest.raises(Killed):
        train(tiny_config, tmp_path / "stopped", method=method)
    monkeypatch.undo()
    assert train(tiny_config, tmp_path / "stopped", "--resume", method=method) == 0

    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    assert metrics_of(tmp_path / "stopped", "step") == [1, 2, 3, 4, 5, 6]
    whole, stopped = (metrics_of(tmp_path / name, "loss") for name in ("whole", "stopped"))
    assert whole == stopped


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    tiny_config: list[str], tmp_path: Path, number: int, code: int
) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-m", "rangeseg", "train", *tiny_config, "--set", "train.steps=100000"]
    words += ["--method", "supervised", "--labels", "10%", "--out", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 60
    while not (run / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "--resume goes on" in stderr
    assert torch.load(run / "last.pt", weights_only=True)["step"] >= 2


def test_the_loss_falls(tiny_config: list[str], tmp_path: Path) -> None:
    train(tiny_config, tmp_path / "run", "--set", "train.steps=100", method="supervised")
    losses = metrics_of(tmp_path / "run", "loss")
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_loss_that_is_not_finite_stops_the_training(
    tiny_config: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = train(
        tiny_config, tmp_path / "run", "--set", "train.learning_rate=1e30",
        "--set", "train.steps=30", "--set", "train.clip_norm=1e30", method="supervised",
    )  # fmt: skip
    assert code == 1
    assert "was no longer finite in step" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.pt").exists()


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


def test_class_weights() -> None:
    weights = class_weights(torch.tensor([0.64, 0.35, 0.01, 0.0]))
    assert float(weights[2] / weights[0]) == pytest.approx(8.0)
    assert weights[3] == weights[2]
    assert float(weights[:3].mean()) == pytest.approx(1.0)
