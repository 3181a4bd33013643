"""What is on the disk at any moment can be gone on from."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import yaml

from rangeseg.cli import main
from rangeseg.engine.finite import FiniteCheck
from rangeseg.engine.metrics_log import MetricsLog
from rangeseg.errors import RangesegError
from rangeseg.runs.trained import load_run
from rangeseg.system.files import sole_user, write_file, writing

from ..benchmarks.kills import Kills, difference, fingerprint

Capture = pytest.CaptureFixture[str]


def words(tiny_config: list[str], out: Path, *more: str) -> list[str]:
    method = ["--method", "cutmix_seg", "--labels", "10%", "--out", str(out)]
    return ["train", *tiny_config, *method, *more]


@pytest.fixture(scope="module")
def whole(tiny_config: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "whole"
    assert main(words(tiny_config, run)) == 0
    return run


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond a size: what a full disk does, without root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def stopped_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the training as SIGTERM does, in the step after some checkpoints."""
    from rangeseg.engine import trainer

    save, done = trainer.save_checkpoint, []

    def count(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        done.append(1)
        if len(done) == saves:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_checkpoint", count)
        yield


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_file(path, "first")
    with suppress(ZeroDivisionError), writing(path) as file:
        file.write(b"sec")
        assert path.read_text() == "first"
        raise ZeroDivisionError
    with file_limit(1000), pytest.raises(OSError, match="File too large"):
        write_file(path, b"x" * 2000)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_between_two_checkpoints_changes_nothing(
    whole: Path, tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture, workers: int,
) -> None:  # fmt: skip
    run, more = tmp_path / "stopped", ["--set", f"train.workers={workers}"]
    with stopped_after(1, monkeypatch):
        assert main(words(tiny_config, run, *more)) == 143
    said = f"stopped; what was done is saved in {run}: the same command with --resume goes on"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 3
    assert main(words(tiny_config, run, *more, "--resume")) == 0
    expected, found = fingerprint(whole), fingerprint(run)
    assert expected["last.pt"] == found["last.pt"]
    assert expected["metrics.jsonl"] == found["metrics.jsonl"]
    assert workers > 0 or difference(expected, found) == ""


def test_what_changes_no_weight_may_change(
    whole: Path, simulated_root: Path, tiny_config: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    run, moved = tmp_path / "run", tmp_path / "moved"
    with stopped_after(1, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    before = (run / "config.yaml").read_bytes()
    assert main(words(tiny_config, run, "--resume", "--set", "evaluate.split=test")) == 2
    assert "was begun with evaluate.split=val, now it is test" in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before
    shutil.copytree(simulated_root, moved)
    settings = [
        "train.workers=1", "train.save_every=4", "train.save_minutes=5.0", "train.log_every=2",
        "train.validate_every=0", "train.validate_scans=3", "evaluate.threads=1",
        f"dataset.root={moved}",
    ]  # fmt: skip
    more = [word for setting in settings for word in ("--set", setting)]
    assert main(words(tiny_config, run, "--resume", *more)) == 0
    assert fingerprint(whole)["last.pt"] == fingerprint(run)["last.pt"]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    for setting in settings:
        key, value = setting.split("=")
        group, name = key.split(".")
        assert str(kept[group][name]) == value


def test_what_is_logged_does_not_depend_on_when_it_was_saved(
    tiny_config: list[str], tmp_path: Path
) -> None:
    config = [*tiny_config, "--set", "train.log_every=4"]
    assert main(words(config, tmp_path / "a")) == 0
    assert main(words(config, tmp_path / "b", "--set", "train.save_minutes=1e-9")) == 0
    a, b = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab")
    assert [json.loads(line)["step"] for line in a] == [4, 6]
    assert [json.loads(line)["loss"] for line in a] == [json.loads(line)["loss"] for line in b]


def test_minutes_save_between_the_steps(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = [*tiny_config, "--set", "train.save_every=1000", "--set", "train.save_minutes=1e-9"]
    with stopped_after(3, monkeypatch):
        assert main(words(config, tmp_path / "run")) == 143
    assert (tmp_path / "run" / "previous.pt").is_file()


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_a_checkpoint_cut_short_is_skipped(
    whole: Path, tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture, kept: int,
) -> None:  # fmt: skip
    run = tmp_path / "stopped"
    with stopped_after(2, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    content = (run / "last.pt").read_bytes()
    (run / "last.pt").unlink()  # previous.pt may be the same file
    (run / "last.pt").write_bytes(content[:kept])
    assert torch.load(run / "previous.pt", weights_only=True)["step"] == 4
    capsys.readouterr()
    assert main(words(tiny_config, run, "--resume")) == 0
    said = capsys.readouterr().err
    assert "warning: " in said
    assert "last.pt is skipped: it is cut short or damaged" in said
    assert difference(fingerprint(whole), fingerprint(run)) == ""
    assert not (run / "previous.pt").exists()


def test_a_full_disk_after_a_checkpoint_cut_short(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before, which the run goes on from, outlives a save that fails."""
    run = tmp_path / "run"
    with stopped_after(2, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    content = (run / "last.pt").read_bytes()
    (run / "last.pt").unlink()
    (run / "last.pt").write_bytes(content[:1000])
    with file_limit(len(content) // 2):
        assert main(words(tiny_config, run, "--resume")) == 3
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4
    assert main(words(tiny_config, run, "--resume")) == 0


def test_a_newer_checkpoint_that_was_cut_short_is_told_of(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = tmp_path / "run"
    with stopped_after(1, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    (run / "last.pt.partial").write_bytes(b"PK")
    capsys.readouterr()
    assert main(words(tiny_config, run, "--resume")) == 0
    said = f"warning: a newer checkpoint was cut short; going on from {run / 'last.pt'}"
    assert said in capsys.readouterr().err
    assert not (run / "last.pt.partial").exists()


def test_no_whole_checkpoint_is_an_error(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = tmp_path / "run"
    with stopped_after(1, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    for name in ("last.pt", "previous.pt"):
        (run / name).unlink()
        (run / name).write_bytes(b"PK")
    assert main(words(tiny_config, run, "--resume")) == 3
    assert f"error: no checkpoint in {run} is whole" in capsys.readouterr().err


def test_a_full_disk_ends_with_one_line(
    whole: Path, tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    with stopped_after(1, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    capsys.readouterr()
    size = (run / "last.pt").stat().st_size
    with file_limit(size // 2):
        assert main(words(tiny_config, run, "--resume")) == 3
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(errors) == 1
    assert "last.pt of step 4 cannot be written (File too large); last.pt is that of" in errors[0]
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 3
    assert main(words(tiny_config, run, "--resume")) == 0
    assert difference(fingerprint(whole), fingerprint(run)) == ""


def test_metrics_on_a_full_disk(tmp_path: Path) -> None:
    losses = {"supervised": torch.tensor(1.0)}
    with MetricsLog(tmp_path, 0, False) as log, file_limit(150):
        log.record(1, losses, {}, 0.1)
        said = r"metrics\.jsonl cannot be written \(File too large\): make room"
        with pytest.raises(RangesegError, match=said):
            log.record(2, losses, {}, 0.1)


def test_the_first_step_that_is_not_finite_is_named() -> None:
    watch = FiniteCheck()
    watch.raise_if_not_finite()
    fine, bad = torch.tensor(1.0), torch.tensor(float("nan"))
    values = [(fine, fine, fine), (fine, bad, fine), (bad, fine, bad), (fine, fine, fine)]
    for step, (supervised, consistency, norm) in enumerate(values, start=1):
        watch.look(step, {"supervised": supervised, "consistency": consistency, "norm": norm})
    with pytest.raises(RangesegError, match="consistency was no longer finite in step 2, and"):
        watch.raise_if_not_finite()


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_nothing_is_saved_after_a_step_that_is_not_finite(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str,
    capsys: Capture,
) -> None:  # fmt: skip
    """In one step between two checkpoints that are both fine, or just after the optimiser."""
    from rangeseg.methods.cutmix_seg import CutMixSeg

    forward, after_step = CutMixSeg.forward, CutMixSeg.after_step

    def spoil_loss(self, batch, context):  # type: ignore[no-untyped-def]
        losses = forward(self, batch, context)
        gain = float("inf") if context.step == 2 else 1.0
        return {**losses, "consistency": losses["consistency"].detach() * 0.0 * gain}

    def spoil_weights(self, context):  # type: ignore[no-untyped-def]
        after_step(self, context)
        if context.step == 3:
            next(self.teacher.parameters()).data.fill_(float("inf"))

    if what == "loss":
        monkeypatch.setattr(CutMixSeg, "forward", spoil_loss)
        said = "consistency was no longer finite in step 3"
    else:
        monkeypatch.setattr(CutMixSeg, "after_step", spoil_weights)
        said = "teacher.stem.0.0.weight was no longer finite in step 4"
    config = [*tiny_config, "--set", "train.log_every=1000"]
    assert main(words(config, tmp_path / "run")) == 1
    assert said in capsys.readouterr().err
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 2


def test_a_signal_to_every_process_of_a_job_saves(tiny_config: list[str], tmp_path: Path) -> None:
    """As batch systems send it; the processes that load scans must not die of it first."""
    run = tmp_path / "run"
    more = ["--set", "train.steps=100000", "--set", "train.workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rangeseg", *words(tiny_config, run, *more)],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (run / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    for child in children:  # sooner than the training, which then has to live on what is loaded
        os.kill(int(child), signal.SIGTERM)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr.splitlines()[-1].startswith("stopped; what was done is saved in")
    assert "Traceback" not in stderr


def test_a_run_is_trained_by_one_process_at_a_time(tiny_config: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["--set", "train.steps=100000", "--set", "train.workers=2"]
    command = [sys.executable, "-m", "rangeseg", *words(tiny_config, run, *more)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        deadline = time.monotonic() + 60
        while not (run / "last.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        # Without the lock it would train until the time is up.
        second = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=60)
        assert second.returncode == 2
        assert f"another process trains in {run}: wait for its end" in second.stderr
    finally:
        process.kill()
        process.communicate()
    with sole_user(
        run, "trains"
    ):  # at once, even if the processes that loaded its scans are still there
        pass


def test_the_same_seed_gives_the_same_result(
    whole: Path, tiny_config: list[str], tmp_path: Path
) -> None:
    assert main(words(tiny_config, tmp_path / "again", "--set", "train.workers=2")) == 0
    assert main(words(tiny_config, tmp_path / "other", "--seed", "1")) == 0
    a, b, c = (fingerprint(path) for path in (whole, tmp_path / "again", tmp_path / "other"))
    assert a["last.pt"] == b["last.pt"]
    assert a["metrics.jsonl"] == b["metrics.jsonl"]
    lists = [(path / "labelled.txt").read_text() for path in (whole, tmp_path / "other")]
    assert lists[0].splitlines()[1:] != lists[1].splitlines()[1:]
    assert "last.pt" in difference(a, c)


def test_killed_in_the_first_moment(
    whole: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    for left in (run / "labelled.txt.partial", run / "config.yaml.partial"):
        write_file(left, "cut sh")
    write_file(out / "rangeseg_export.json.partial", "{")
    assert main(words(tiny_config, run, "--resume")) == 0
    assert difference(fingerprint(whole), fingerprint(run)) == ""
    assert main(["predict", str(whole), "--out", str(out), "--resume"]) == 0
    assert not list(out.rglob("*.partial"))


def test_an_export_that_a_full_disk_stopped_is_completed(
    whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "predictions"
    with file_limit(5000):
        assert main(["predict", str(whole), "--out", str(out)]) == 2
    assert "cannot be written (File too large): make room" in capsys.readouterr().err
    assert main(["predict", str(whole), "--out", str(out), "--resume"]) == 0
    assert main(["predict", str(whole), "--out", str(tmp_path / "at_once")]) == 0
    files = [p.relative_to(out) for p in out.rglob("*.label")]
    assert len(files) == 4
    for file in files:
        assert (out / file).read_bytes() == (tmp_path / "at_once" / file).read_bytes()
    assert not list(out.rglob("*.partial"))


def test_a_finished_run_that_is_damaged_says_so(
    whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    path = tmp_path / "copy" / "last.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["evaluate", str(tmp_path / "copy")]) == 3
    assert "last.pt is damaged or not a checkpoint" in capsys.readouterr().err
    load_run(whole, torch.device("cpu"))


def test_where_no_result_can_be_written_nothing_is_evaluated(
    whole: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(whole, run)
    before = fingerprint(run)
    blocked = run / "result.json.partial"
    blocked.mkdir()
    assert main(["evaluate", str(run)]) == 2
    said = capsys.readouterr().err
    assert "result.json cannot be written (Is a directory): make room, or evaluate a copy" in said
    assert "evaluate val" not in said
    blocked.rmdir()
    assert main(["evaluate", str(run)]) == 0
    assert "evaluate val" in capsys.readouterr().err
    assert difference(before, fingerprint(run)) == ""


def test_five_kills_lose_nothing(simulated_root: Path, tmp_path: Path) -> None:
    """SIGKILL, see tests/benchmarks/kills.py: training, checkpoint, evaluation, export, archive."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed ones have: sums are rounded in the same order
    try:
        outcomes = Kills(tmp_path, simulated_root, ["ael, no worker"]).run(5)
    finally:
        torch.set_num_threads(threads)
    assert [kill.where for kill in outcomes] == [
        "training", "checkpoint", "evaluation", "export", "archive",
    ]  # fmt: skip
    assert [kill for kill in outcomes if kill.differs] == []
