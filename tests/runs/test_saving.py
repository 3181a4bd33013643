"""What is on the disk at any moment can be gone on from."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import yaml

from rangeseg.cli import main
from rangeseg.methods.base import StepContext
from rangeseg.methods.cutmix_seg import CutMixSeg
from rangeseg.system.files import write_file, writing

from .fingerprint import difference, fingerprint

Capture = pytest.CaptureFixture[str]


def words(tiny_config: list[str], out: Path, *more: str) -> list[str]:
    method = ["--method", "cutmix_seg", "--labels", "10%", "--out", str(out)]
    return ["train", *tiny_config, *method, *more]


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
def stopped_in(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End a training as SIGTERM does, in its step of this number; the first is 1."""
    after_step = CutMixSeg.after_step

    def stop(self: CutMixSeg, context: StepContext) -> None:
        after_step(self, context)
        if context.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CutMixSeg, "after_step", stop)
        yield


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Another process works in a folder."""
    script = (
        "import sys; from pathlib import Path; from rangeseg.system.files import sole_user\n"
        "with sole_user(Path(sys.argv[1]), 'works'): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        yield
        holder.kill()


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


@pytest.mark.parametrize(
    "settings",
    [
        ["train.workers=1", "train.accumulate=2"],
        pytest.param(
            ["train.save_every=99", "train.save_minutes=1e-9", "train.log_every=4"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stopped_training_goes_on(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    settings: list[str],
) -> None:  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "stopped"
    more = [word for setting in settings for word in ("--set", setting)]
    assert main(words(tiny_config, whole, *more)) == 0
    with stopped_in(3, monkeypatch):
        assert main(words(tiny_config, run, *more)) == 143
    said = f"stopped; what was done is saved in {run}: the same command with --resume goes on"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 3
    assert main(words(tiny_config, run, *more, "--resume")) == 0
    assert difference(whole, run) == ""


def test_a_run_is_trained_by_one_process_at_a_time(
    trained_run: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    with held(run):
        assert main(words(tiny_config, run, "--resume")) == 2
    assert f"another process trains in {run}: wait for its end" in capsys.readouterr().err


def cut_short(run: Path) -> int:
    """Leave half of the last checkpoint; returns its whole size."""
    content = (run / "last.pt").read_bytes()
    (run / "last.pt").unlink()  # previous.pt may be the same file
    (run / "last.pt").write_bytes(content[: len(content) // 2])
    return len(content)


def test_a_damaged_checkpoint_and_a_full_disk(
    trained_run: Path, tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:  # fmt: skip
    """The checkpoint before takes over, and outlives a save that fails."""
    run = tmp_path / "run"
    with stopped_in(5, monkeypatch):
        assert main(words(tiny_config, run)) == 143
    size = cut_short(run)
    capsys.readouterr()
    with file_limit(size // 2):
        assert main(words(tiny_config, run, "--resume")) == 3
    said = capsys.readouterr().err.splitlines()
    assert [x for x in said if "last.pt is skipped: it is cut short or damaged" in x]
    (error,) = [x for x in said if x.startswith("error:")]
    assert "last.pt cannot be written (File too large): make room for step 6" in error
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4
    (run / "last.pt.partial").write_bytes(b"PK")
    assert main(words(tiny_config, run, "--resume")) == 0
    said = f"warning: a newer checkpoint was cut short; going on from {run / 'last.pt'}"
    assert said in capsys.readouterr().err
    assert difference(trained_run, run) == ""


def test_no_whole_checkpoint_is_an_error(
    trained_run: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    cut_short(run)
    assert main(words(tiny_config, run, "--resume")) == 3
    assert f"error: no checkpoint in {run} is whole" in capsys.readouterr().err


@pytest.mark.slow
def test_what_changes_no_weight_may_change(
    trained_run: Path, simulated_root: Path, tiny_config: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Capture,
) -> None:  # fmt: skip
    run, moved = tmp_path / "run", tmp_path / "moved"
    with stopped_in(3, monkeypatch):
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
    assert fingerprint(trained_run)["last.pt"] == fingerprint(run)["last.pt"]
    kept = yaml.safe_load((run / "config.yaml").read_text())
    for setting in settings:
        key, value = setting.split("=")
        group, name = key.split(".")
        assert str(kept[group][name]) == value


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_nothing_is_saved_after_a_step_that_is_not_finite(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str,
    capsys: Capture,
) -> None:  # fmt: skip
    """In one step between two checkpoints that are both fine, or just after the optimiser."""
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


def test_killed_in_the_first_moment(
    trained_run: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    for left in (run / "labelled.txt.partial", run / "config.yaml.partial"):
        write_file(left, "cut sh")
    write_file(out / "rangeseg_predictions.json.partial", "{")
    assert main(words(tiny_config, run, "--resume")) == 0
    assert difference(trained_run, run) == ""
    assert main(["predict", str(trained_run), "--out", str(out), "--resume"]) == 0
    assert not list(out.rglob("*.partial"))


def test_where_no_result_can_be_written_nothing_is_evaluated(
    trained_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(trained_run, run)
    blocked = run / "result.json.partial"
    blocked.mkdir()
    assert main(["evaluate", str(run)]) == 2
    said = capsys.readouterr().err
    assert "result.json cannot be written (Is a directory): make room, or evaluate a copy" in said
    assert "evaluate val" not in said
    blocked.rmdir()
    assert main(["evaluate", str(run)]) == 0
    assert "evaluate val" in capsys.readouterr().err
    assert difference(trained_run, run) == ""
