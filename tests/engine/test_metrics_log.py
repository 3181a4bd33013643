"""What a training writes of its steps: fields, note, throughput, TensorBoard."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.engine.finite import FiniteCheck
from rangeseg.engine.metrics_log import (
    MetricsLog,
    Throughput,
    loss_terms,
    read_metrics,
    training_seconds,
)
from rangeseg.engine.validation import Validated
from rangeseg.errors import RangesegError
from rangeseg.methods.mixing import Fields
from tests.runs.test_saving import file_limit

CPU = torch.device("cpu")
LOSSES = {"supervised": torch.tensor(1.1), "pseudo": torch.tensor(0.25)}
NORMS = {"gradient_norm_0": torch.tensor(2.0)}
FOUND = Validated(31.25, {"car": 50.0, "bus": None}, None)


class Clock:
    """Moves when it is told to, in the place of the module ``time``: a busy machine is no fault."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("rangeseg.engine.metrics_log.time", clock)
    return clock


def steps(clock: Clock, count: int, seconds: float) -> Iterator[list[Fields]]:
    """Two labelled and two unlabelled scans a step, each loaded for so long."""
    for _ in range(count):
        clock.sleep(seconds)
        yield [{"image": torch.zeros(2, 1)}, {"image": torch.zeros(2, 1)}]


def test_a_training_that_waits_and_computes(clock: Clock) -> None:
    throughput = Throughput()
    for _ in throughput.fetch(steps(clock, 5, 0.02), CPU):
        clock.sleep(0.03)
    assert throughput.read() == {"data_wait": 0.4, "scans_per_second": 80.0}
    for _ in throughput.fetch(steps(clock, 5, 0.0), CPU):
        clock.sleep(0.05)
    # Of the time since it was last read.
    assert throughput.read() == {"data_wait": 0.0, "scans_per_second": 80.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_that_is_busy_does_not_wait() -> None:
    """Although its host does; and one that is idle while the host waits does."""

    def slow_loading() -> Iterator[list[Fields]]:
        for _ in range(5):
            time.sleep(0.02)
            yield [{"image": torch.zeros(2, 1)}]

    device = torch.device("cuda")
    matrix = torch.rand(4096, 4096, device=device)
    for busy in (True, False):
        throughput = Throughput()
        for _ in throughput.fetch(slow_loading(), device):
            for _ in range(100 if busy else 0):
                matrix = matrix @ matrix.softmax(dim=0)
        assert float(matrix.sum()) > 0  # as reading the losses does
        figures = throughput.read()
        assert figures["gpu_memory_gib"] > 0.06
        assert (figures["data_wait"] < 0.5) == busy


def test_a_line_has_every_field_and_the_bar_what_matters(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, False) as log:
        first = log.record(1, LOSSES, NORMS, 0.1)
        second = log.record(2, LOSSES, NORMS, 0.1, FOUND)
        third = log.record(3, {"supervised": LOSSES["supervised"]}, NORMS, 0.1)
    terms = "(supervised 1.100, pseudo 0.250)"
    assert first == f"loss 1.350, 0.0 scans/s, wait 0 % {terms}"
    assert second == f"loss 1.350, mIoU 31.2, 0.0 scans/s, wait 0 % {terms}"
    assert third == "loss 1.100, mIoU 31.2, 0.0 scans/s, wait 0 %"
    lines = read_metrics(tmp_path)
    assert list(lines[0]) == [
        "step", "seconds", "rate", "loss", "supervised", "pseudo", "gradient_norm_0", "data_wait",
        "scans_per_second",
    ]  # fmt: skip
    assert lines[1].items() >= {"val_miou": 31.25, "val_iou": {"car": 50.0, "bus": None}}.items()
    assert "val_miou" not in lines[2]
    assert [list(loss_terms(line)) for line in lines[1:]] == [
        ["supervised", "pseudo"], ["supervised"],
    ]  # fmt: skip


def test_on_a_gpu_the_bar_has_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"data_wait": 0.01, "scans_per_second": 321.0, "gpu_memory_gib": 1.54}
    monkeypatch.setattr(Throughput, "read", lambda self: figures)
    with MetricsLog(tmp_path, 0, False) as log:
        note = log.record(1, {"supervised": LOSSES["supervised"]}, NORMS, 0.1)
    assert note == "loss 1.100, 321 scans/s, wait 1 %, 1.5 GiB"
    assert read_metrics(tmp_path)[0].items() >= figures.items()


@pytest.mark.parametrize(
    "damaged", [b"[]", b"{}", b"\xff\xfe", b'{"step": 2, "sec', b'{"step": "2", "seconds": 2.5}']
)
def test_what_stands_behind_a_damaged_line_is_lost(tmp_path: Path, damaged: bytes) -> None:
    line = b'{"step": 1, "seconds": 2.5, "rate": 0.1, "loss": 1.0}'
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n" + damaged + b"\n" + line + b"\n")
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    with MetricsLog(tmp_path, 1, False):
        pass
    assert (tmp_path / "metrics.jsonl").read_bytes() == line + b"\n"


def test_a_resumed_training_knows_what_was(tmp_path: Path, clock: Clock) -> None:
    with MetricsLog(tmp_path, 0, False) as log:
        for step in (1, 2, 3):
            clock.sleep(0.02)
            log.record(step, LOSSES, NORMS, 0.1, FOUND if step == 1 else None)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "sec']))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    with MetricsLog(tmp_path, 2, False) as log:
        assert "mIoU 31.2" in log.record(3, LOSSES, NORMS, 0.1)
    again = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert again[:2] == lines[:2]
    assert len(again) == 3
    seconds = training_seconds(tmp_path)
    assert seconds is not None
    assert seconds >= json.loads(lines[1])["seconds"] >= 0.04


def test_seconds_do_not_count_validations(tmp_path: Path, clock: Clock) -> None:
    with MetricsLog(tmp_path, 0, False) as log:
        clock.sleep(0.2)
        with log.throughput.paused():
            clock.sleep(0.3)
        log.record(1, LOSSES, NORMS, 0.1)
    assert training_seconds(tmp_path) == 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_tensorboard_shows_validations_and_a_picture(
    tiny_config: list[str], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["--method", "supervised", "--labels", "10%", "--out", str(tmp_path / "run")]
    settings = ["train.tensorboard=true", "train.validate_every=2"]
    sets = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", *tiny_config, *words, *sets]) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    scalars = {
        "loss", "rate", "supervised", "gradient_norm_0", "data_wait", "scans_per_second",
        "val_miou", "val_iou/car", "val_iou/road",
    }  # fmt: skip
    assert scalars <= set(events.Tags()["scalars"])
    found = [(event.step, event.value) for event in events.Scalars("val_miou")]
    lines = [line for line in read_metrics(tmp_path / "run") if "val_miou" in line]
    assert found == [(line["step"], np.float32(line["val_miou"])) for line in lines]
    assert [event.step for event in events.Images("validation")] == [2, 4]
    assert events.Images("validation")[0].width > 1000


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("full", [False, True])
def test_a_training_goes_on_without_curves(
    tmp_path: Path, full: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a disk that is full for TensorBoard alone, which takes more; or where no folder can be."""
    pytest.importorskip("tensorboard")
    if not full:
        (tmp_path / "tensorboard").touch()
    with (
        caplog.at_level(logging.WARNING),
        file_limit(1500 if full else 1 << 20),
        MetricsLog(tmp_path, 0, True) as log,
    ):
        for step in range(1, 6):
            log.record(step, LOSSES, NORMS, 0.1, FOUND if step == 5 else None)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    reason = "File too large" if full else "File exists"
    said = f"{tmp_path / 'tensorboard'} cannot be written ({reason}); the run goes on without"
    assert caplog.messages == [said]
    assert "Traceback" not in capsys.readouterr().err


def test_a_training_that_begins_anew_says_what_it_drops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with MetricsLog(tmp_path, 0, False) as log:
        log.record(20, LOSSES, NORMS, 0.1)
    assert caplog.text == ""
    with MetricsLog(tmp_path, 20, False):
        assert caplog.text == ""
    with MetricsLog(tmp_path, 0, False):
        assert "no checkpoint" in caplog.text
        assert "the 20 steps" in caplog.text
    assert read_metrics(tmp_path) == []


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0, False) as log, file_limit(300):
        log.record(1, LOSSES, NORMS, 0.1)
        said = r"metrics\.jsonl cannot be written \(File too large\): make room"
        with pytest.raises(RangesegError, match=said):
            log.record(2, LOSSES, NORMS, 0.1)


def test_the_first_step_that_is_not_finite_is_named() -> None:
    watch = FiniteCheck()
    watch.raise_if_not_finite()
    fine, bad = torch.tensor(1.0), torch.tensor(float("nan"))
    values = [(fine, fine, fine), (fine, bad, fine), (bad, fine, bad), (fine, fine, fine)]
    for step, (supervised, consistency, norm) in enumerate(values, start=1):
        watch.look(step, {"supervised": supervised, "consistency": consistency, "norm": norm})
    with pytest.raises(RangesegError, match="consistency was no longer finite in step 2, and"):
        watch.raise_if_not_finite()
