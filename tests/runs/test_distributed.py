"""Several processes do what one would, only sooner."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rangeseg.cli import main
from rangeseg.datasets.sampler import SampleKey, StepSampler, batch_seed
from rangeseg.engine.batch_norm import synchronise_batch_norms
from rangeseg.engine.metrics_log import read_metrics
from rangeseg.engine.optimiser import Optimiser
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.models.frnet import FRNet
from rangeseg.runs.trained import load_run
from rangeseg.system.device import to_device
from rangeseg.system.distributed import all_reduce_max, gather, on_rank_zero, rank, shard, wrap_ddp
from tests.runs.pair import Pair

from ..methods.conftest import (
    CHANNELS,
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_task,
    small_cenet,
    small_fidnet,
)

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="PyTorch without distributed"
)
CPU = torch.device("cpu")
STEPS = 4
# Without random draws, so that it does not matter which process draws: method and settings.
DRAWLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "supervised": ("supervised", {}),
    "points of layers": ("supervised", {"layers": 2}),
    "squared error": ("mean_teacher", {"weight": 50.0, "confidence": 0.3}),
    "pseudo-labels": (
        "mean_teacher",
        {"loss": "cross_entropy", "confidence": 0.3, "confidence_mode": "per_pixel"},
    ),
    "soft pseudo-labels": ("pseudoseg", {"confidence": 0.3}),
}


def make(name: str, drawless: bool, layers: int = 1, **settings: Any) -> Method[Any]:
    """The same method in every process."""
    torch.manual_seed(0)
    task = make_task()
    if drawless:
        task = make_task(labelled="plain", perturbation=NO_PERTURBATION, lovasz_weight=0.0)
    network = small_cenet if name == "supervised" else small_fidnet
    if layers > 1:
        network = partial(FRNet, len(CHANNELS), CLASSES, width=4, layers=layers)
    method = METHODS[name](network, task, METHODS[name].Settings(**settings))
    for module in method.modules():  # else the teacher says the same everywhere
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return method.train()


def part_of(batch: TrainingBatch, number: int, parts: int) -> TrainingBatch:
    def cut(fields: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: field.chunk(parts)[number].contiguous() for name, field in fields.items()}

    assert batch.unlabelled is not None
    return TrainingBatch(cut(batch.labelled), cut(batch.unlabelled))


def uneven_batch(layers: int) -> TrainingBatch:
    """Four scans of each kind; the first two have far fewer valid pixels."""
    batch = make_batch(scans=4, layers=layers)
    assert batch.unlabelled is not None
    for fields in (batch.labelled, batch.unlabelled):
        fields["valid"][:2, ..., 5:, :] = False
        fields["image"] = fields["image"] * fields["valid"][:, None]
    batch.labelled["labels"][~batch.labelled["valid"]] = 255
    return batch


def one_step(case: str) -> dict[str, Tensor]:
    """Gradients and running statistics after a backward on this process's part of the batch."""
    name, settings = DRAWLESS[case]
    method = make(name, drawless=True, **settings)
    if torch.distributed.is_initialized():
        number, parts = torch.distributed.get_rank(), torch.distributed.get_world_size()
    else:
        number, parts = 0, 1
    synchronise_batch_norms(method, CPU)
    batch = part_of(uneven_batch(settings.get("layers", 1)), number, parts)
    assert batch.unlabelled is not None
    if name != "pseudoseg":  # which computes in float32 inside, as all losses do
        method.double()
        for fields in (batch.labelled, batch.unlabelled):
            fields["image"] = fields["image"].double()
    context = StepContext(90, 100, torch.Generator().manual_seed(number))
    model = wrap_ddp(method)  # it must outlive the backward
    losses = model(batch, context)
    torch.stack(list(losses.values())).sum().backward()
    found = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    found |= {n: b for n, b in method.named_buffers() if "running" in n}
    return {n: value.clone() for n, value in found.items()}


def few_steps(name: str) -> dict[str, Tensor]:
    """The state of a method that was trained for some steps."""
    method = make(name, drawless=False, **({} if name == "supervised" else {"ramp_start": 0.3}))
    synchronise_batch_norms(method, CPU)
    to_device(method, CPU)
    descent = Optimiser(method, STEPS, 1e-2, 1e-2, 0.3, 1.0)
    model = wrap_ddp(method)
    number, parts = rank(), torch.distributed.get_world_size()
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(batch_seed(0, step))
        context = StepContext(step, STEPS, generator)
        losses = model(part_of(make_batch(step, scans=4), number, parts), context)
        torch.stack(list(losses.values())).sum().backward()
        descent.step()
        method.after_batch()
        method.after_step(context)
    return method.state_dict()


def look_around() -> dict[str, Any]:
    """Gradients of each case, and what a process draws, agrees on and shares."""
    torch.distributed.init_process_group("gloo")
    number = rank()
    found = {
        "gradients": {case: one_step(case) for case in DRAWLESS},
        "draws": [batch_seed(0, step) % (1 << 32) for step in range(10)],
        "agreed": all_reduce_max(number, 5 - number),
        "first": on_rank_zero(lambda: number),
        "gathered": gather({number}),
        "share": shard(list(range(7))),
    }
    torch.distributed.destroy_process_group()
    return found


def train_all() -> dict[str, dict[str, Tensor]]:
    """The state of each method after some steps."""
    torch.distributed.init_process_group("gloo")
    found = {name: few_steps(name) for name in METHODS}
    torch.distributed.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def two(pair: Pair) -> list[dict[str, Any]]:
    """What two processes found."""
    return pair.call(look_around)


@pytest.fixture(scope="module")
def trained(pair: Pair) -> list[dict[str, dict[str, Tensor]]]:
    """The states of all methods in two processes."""
    return pair.call(train_all)


@pytest.mark.slow
@pytest.mark.parametrize("case", DRAWLESS)
def test_gradients_are_those_of_one_process(two: list[dict[str, Any]], case: str) -> None:
    """Losses are float32 whatever the network is; its own sums are float64 here."""
    alone = one_step(case)
    for found in (each["gradients"][case] for each in two):
        assert found.keys() == alone.keys()
        gradients = [n for n in alone if "running" not in n]
        a, b = (torch.cat([x[n].flatten() for n in gradients]) for x in (alone, found))
        relative = float((a - b).norm() / a.norm())
        print(f"{case}: gradients differ by {relative:.1e}, relative to their norm")
        assert relative < 1e-5
        for name in alone.keys() - set(gradients):
            torch.testing.assert_close(found[name], alone[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_all_processes_end_with_the_same_state(
    trained: list[dict[str, dict[str, Tensor]]], name: str
) -> None:
    first, second = (each[name] for each in trained)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    assert not torch.equal(first["student.classifier.weight"], few_initial(name))


def few_initial(name: str) -> Tensor:
    weight = make(name, drawless=False).state_dict()["student.classifier.weight"]
    assert isinstance(weight, Tensor)
    return weight


@pytest.mark.slow
def test_processes_draw_apart_and_agree(two: list[dict[str, Any]]) -> None:
    assert not set(two[0]["draws"]) & set(two[1]["draws"])
    assert two[0]["draws"] == [batch_seed(0, step) for step in range(10)]  # as one process alone
    for found in two:
        assert found["agreed"] == [1, 5]
        assert found["first"] == 0
        assert found["gathered"] == [{0}, {1}]
    assert sorted(two[0]["share"] + two[1]["share"]) == list(range(7))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_gradients_are_exchanged_once_a_step(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged: list[int] = []

    def exchange(
        state: None, bucket: torch.distributed.GradBucket
    ) -> torch.futures.Future[torch.Tensor]:
        exchanged.append(bucket.index())
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def wrap(method: nn.Module) -> nn.Module:
        model = nn.parallel.DistributedDataParallel(method)
        model.register_comm_hook(None, exchange)
        return model

    words = ["train", *tiny_config, "--method", "supervised", "--labels", "10%"]
    words += ["--set", "train.steps=3", "--set", "train.accumulate=2"]
    assert main([*words, "--out", str(tmp_path / "alone")]) == 0
    monkeypatch.setattr("rangeseg.engine.trainer.wrap_ddp", wrap)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        assert main([*words, "--out", str(tmp_path / "wrapped")]) == 0
    finally:
        torch.distributed.destroy_process_group()
    assert exchanged.count(0) == 3
    alone, together = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["method"]
        for name in ("alone", "wrapped")
    )
    assert all(torch.equal(value, together[name]) for name, value in alone.items())


def test_one_process_needs_no_other() -> None:
    method = make("supervised", drawless=True)
    before = copy.deepcopy(method)
    synchronise_batch_norms(method, CPU)
    assert wrap_ddp(method) is method
    assert [type(m) for m in method.modules()] == [type(m) for m in before.modules()]
    assert (all_reduce_max(3, 4), gather(5), shard([1, 2]), rank()) == ([3, 4], [5], [1, 2], 0)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_processes_share_the_scans_of_a_step(parts: int) -> None:
    def keys(part: tuple[int, int]) -> list[list[SampleKey]]:
        lists = ([f"l{i}" for i in range(5)], [f"u{i}" for i in range(50)])
        return list(StepSampler(*lists, 6, 1, range(3, 40), part))

    for step, *shares in zip(keys((0, 1)), *(keys((i, parts)) for i in range(parts)), strict=True):
        labelled = [key for each in shares for key in each if key.labelled]
        unlabelled = [key for each in shares for key in each if not key.labelled]
        assert labelled + unlabelled == step
        assert {len(each) for each in shares} == {12 // parts}


def torchrun(*words: str) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return [*launch, "-m", "rangeseg", *words]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def launch(words: list[str], until: Callable[[], object]) -> subprocess.Popen[str]:
    """Start two processes and return when a condition holds."""
    launcher = subprocess.Popen(
        torchrun(*words), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 90
    while not until():
        assert launcher.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return launcher


def pid_of_rank(rank: int, launcher: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    variable = f"RANK={rank}".encode()
    (pid,) = [
        p for p in children if variable in Path(f"/proc/{p}/environ").read_bytes().split(b"\0")
    ]
    return int(pid)


def last_words(launcher: subprocess.Popen[str]) -> str:
    """The one line on stderr that says how it ended."""
    _, stderr = launcher.communicate(timeout=90)
    said = [x for x in stderr.splitlines() if x.startswith(("error:", "stopped", "interrupted"))]
    assert len(said) == 1, stderr
    return said[0]


@pytest.mark.slow
def test_several_processes_train_evaluate_and_predict(
    pair: Pair, tiny_config: list[str], tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "predictions"
    words = ["train", *tiny_config, "--set", "train.batch_size=4", "--set", "train.workers=1"]
    words += ["--method", "ael", "--labels", "20%", "--out", str(run)]
    done = subprocess.run(torchrun(*words), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mIoU on val (3 scans)") == 1
    assert done.stderr.count("evaluate val: 2/2 scan") == 1
    assert {p.name for p in run.iterdir()} == {
        "config.yaml", "curves.png", "labelled.txt", "last.pt", "metrics.jsonl", "result.json",
    }  # fmt: skip
    shared = json.loads((run / "result.json").read_text())
    assert main(["evaluate", str(run)]) == 0
    alone = json.loads((run / "result.json").read_text())
    for key in ("protocol", "miou", "iou", "distance", "calibration", "scans"):
        assert shared[key] == alone[key]

    first, second = pair.command(
        "predict", str(run), "--split", "train", "--out", str(out), "--backend", "torch"
    )
    assert (first.code, second.code) == (0, 0), first.stderr
    assert first.stdout.count("predictions of 20 scans") == 1
    assert second.stdout + second.stderr == ""
    experiment, predictor = load_run(run, CPU)
    source = experiment.source
    scan_ids = source.scan_ids("train")
    assert len(list(out.rglob("*.label"))) == len(scan_ids) == 20
    for prediction in predictor.predict(source, scan_ids[:3], with_labels=False):
        written = np.fromfile(
            out / source.prediction_file(prediction.scan.scan_id, "train"), np.uint32
        )
        np.testing.assert_array_equal(source.info.label_map.to_train(written), prediction.points)


@pytest.mark.slow
def test_processes_skip_bad_scans_together(
    pair: Pair, tiny_config: list[str], simulated_root: Path, tmp_path: Path
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(simulated_root, root)
    unlabelled = [root / "sequences" / s / "velodyne" / "000000.bin" for s in ("05", "08")]
    for path in unlabelled:
        path.write_bytes(path.read_bytes()[:-5])
    split = tmp_path / "mine.txt"
    split.write_text("00/000000\n03/000001\n")
    words = ["train", *tiny_config, "--set", f"dataset.root={root}", "--set", "train.batch_size=4"]
    words += ["--set", "train.steps=12", "--method", "mean_teacher", "--labels", str(split)]
    words += ["--on-bad-scan", "skip", "--out", str(run)]
    first, second = pair.command(*words)
    assert (first.code, second.code) == (0, 0), first.stderr
    assert "mIoU on val (2 scans, 1 skipped)" in first.stdout
    result = json.loads((run / "result.json").read_text())
    assert list(result["skipped_scans"]) == ["08/000000"]
    assert list(result["run"]["skipped_scans"]) == ["05/000000"]
    assert main(["evaluate", str(run)]) == 0
    alone = json.loads((run / "result.json").read_text())
    assert (alone["miou"], alone["run"]) == (result["miou"], result["run"])


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_dying_process_ends_all_with_one_line_and_fewer_go_on(
    tiny_config: list[str], tmp_path: Path, dead: int
) -> None:
    run = tmp_path / "run"
    words = ["train", *tiny_config, "--set", "train.batch_size=4", "--set", "train.steps=60"]
    words += ["--method", "pcr", "--labels", "20%", "--out", str(run)]
    launcher = launch(words, (run / "last.pt").exists)
    os.kill(pid_of_rank(dead, launcher.pid), signal.SIGKILL)
    line = last_words(launcher)
    assert launcher.returncode != 0
    assert line.startswith("error: another process of this run has ended")
    assert "--resume goes on" in line
    before = torch.load(run / "last.pt", weights_only=True)["step"]
    assert 0 < before < 60
    assert main([*words, "--resume"]) == 0
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 60


@pytest.mark.slow
def test_torchrun_told_to_end_saves_and_goes_on(tiny_config: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", *tiny_config, "--set", "train.batch_size=4", "--set", "train.steps=40"]
    words += ["--set", "train.save_every=1000"]
    words += ["--method", "supervised", "--labels", "20%", "--out", str(run)]
    metrics = run / "metrics.jsonl"
    launcher = launch(words, lambda: metrics.exists() and read_metrics(run))
    launcher.terminate()
    line = last_words(launcher)
    # How the launcher itself ends is PyTorch's: it was seen to abort, once, for an unknown reason.
    assert launcher.returncode in (1, -signal.SIGABRT)
    assert line == (
        f"stopped; what was done is saved in {run}: the same command with --resume goes on"
    )
    assert 0 < torch.load(run / "last.pt", weights_only=True)["step"] < 40
    assert main([*words, "--resume"]) == 0
    assert [line["step"] for line in read_metrics(run)] == list(range(1, 41))


def test_words_that_cannot_be_parsed_are_said_once_on_each_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for number in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", number)
        with pytest.raises(SystemExit, match="2"):
            main(["train", "--no-such-word"])
        said.append(capsys.readouterr().err)
    assert "the following arguments are required" in said[0]
    assert said[1] == ""


@pytest.mark.parametrize(
    ("method", "device", "fault"),
    [
        ("supervised", "cpu", "train.batch_size=2 is the total of 2 processes: make it a multiple"),
        ("superwised", "cpu", "unknown method 'superwised' (did you mean 'supervised'?)"),
        ("supervised", "cpux", "'cpux'"),
    ],
)
def test_a_fault_of_all_is_said_once_and_nothing_is_written(
    pair: Pair, tiny_config: list[str], tmp_path: Path, method: str, device: str, fault: str
) -> None:
    words = ["train", *tiny_config, "--method", method, "--labels", "20%", "--device", device]
    done = pair.command(*words, "--out", str(tmp_path / "run"))
    assert all(each.code != 0 for each in done)
    errors = [x for each in done for x in each.stderr.splitlines() if x.startswith("error:")]
    assert len(errors) == 1
    assert fault in errors[0]
    assert not (tmp_path / "run").exists()
