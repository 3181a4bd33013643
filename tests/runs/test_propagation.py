"""Trainings that learn propagated labels."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from rangeseg.cli import main
from rangeseg.datasets.batches import read_training_scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.sampler import StepSampler
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import DataError
from rangeseg.methods import METHODS
from rangeseg.methods.base import StepContext
from rangeseg.methods.cutmix_seg import CutMixSeg
from rangeseg.motion.store import PROPAGATED, PropagatedLabels
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import LABELLED, read_run_config
from tests.runs.fingerprint import difference
from tests.runs.pair import Pair

Capture = pytest.CaptureFixture[str]
ON = ["--set", "train.propagation.reach=2"]


def words(tiny_config: list[str], out: Path, method: str, *more: str) -> list[str]:
    chosen = ["--method", method, "--labels", "10%", "--out", str(out)]
    return ["train", *tiny_config, *ON, *chosen, *more]


def labels_of(run: Path) -> PropagatedLabels:
    experiment = Experiment(read_run_config(run))
    labels = experiment.propagated(experiment.scans()[0], run)
    assert labels is not None
    return labels


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_learns_them(tiny_config: list[str], tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    assert main(words(tiny_config, run, method, "--set", "train.steps=2")) == 0
    given = labels_of(run)
    assert list(given)
    assert sorted(given) == sorted(p.relative_to(given.folder).with_suffix("").as_posix()
                                   for p in given.folder.rglob("*.npz"))  # fmt: skip
    assert not set((run / LABELLED).read_text().split()) & set(given)


def test_labels_of_propagated_scans_are_not_read(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(simulated_root, root)
    data = ["--set", f"dataset.root={root}"]
    assert main(words(tiny_config, run, "cutmix_seg", *data, "--set", "train.steps=1")) == 0
    labelled = [i for i in (run / LABELLED).read_text().split() if "/" in i]
    for path in root.glob("sequences/*/labels/*.label"):
        scan_id = f"{path.parts[-3]}/{path.stem}"
        if path.parts[-3] != "08" and scan_id not in labelled:
            path.write_bytes(b"damaged")
    again = tmp_path / "again"
    assert main(words(tiny_config, again, "cutmix_seg", *data)) == 0


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(words(tiny_config, whole, "cutmix_seg")) == 0
    after_step = CutMixSeg.after_step

    def stop(self: CutMixSeg, context: StepContext) -> None:
        after_step(self, context)
        if context.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CutMixSeg, "after_step", stop)
        assert main(words(tiny_config, stopped, "cutmix_seg")) == 143
    shutil.rmtree(stopped / PROPAGATED)  # what is missing is made again
    assert main(words(tiny_config, stopped, "cutmix_seg", "--resume")) == 0
    assert not difference(whole, stopped)


def test_other_poses_are_refused_at_a_resume(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path, capsys: Capture
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(simulated_root, root)
    data = ["--set", f"dataset.root={root}"]
    assert main(words(tiny_config, run, "supervised", *data)) == 0
    for path in root.glob("sequences/*/poses.txt"):
        poses = np.loadtxt(path)
        poses[:, 11] *= 1.01
        np.savetxt(path, poses)
    assert main(words(tiny_config, run, "supervised", *data, "--resume")) == 3
    assert "learnt from other propagated labels: restore the poses" in capsys.readouterr().err


def test_settings_of_propagation_are_the_run_s(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    assert main(words(tiny_config, run, "supervised")) == 0
    other = ["--set", "train.propagation.min_confidence=.5", "--resume"]
    assert main(words(tiny_config, run, "supervised", *other)) == 2
    assert "was begun with train.propagation.min_confidence=0.8" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_may_share_a_folder_of_labels(tiny_config: list[str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    more = ["--set", f"train.propagation.folder={shared}"]
    assert main(words(tiny_config, tmp_path / "one", "supervised", *more)) == 0
    (folder,) = shared.iterdir()
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    assert main(words(tiny_config, tmp_path / "two", "cps", *more)) == 0
    assert made == {path: path.stat().st_mtime_ns for path in shared.rglob("*.npz")}
    assert not (tmp_path / "one" / PROPAGATED).exists()


@pytest.mark.slow
def test_several_processes(pair: Pair, tiny_config: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["--set", "train.batch_size=4"]
    first, second = pair.command(*words(tiny_config, run, "unimatch", *more))
    assert (first.code, second.code) == (0, 0), first.stderr
    assert first.stderr.count("propagate labels") > 0
    assert second.stdout + second.stderr == ""
    assert json.loads((run / "result.json").read_text())["scans"] == 3


def test_a_scan_takes_the_labels_it_was_given(simulated_root: Path) -> None:
    source = Simulated(simulated_root)
    points = len(source.read_scan("00/000001").points)
    given = {"00/000001": np.full(points, 7, dtype=np.uint8), "00/000000": np.zeros(3)}
    scan = read_training_scan(source, given, "00/000001", labelled=True)
    assert scan.labels is given["00/000001"]
    assert read_training_scan(source, given, "00/000001", labelled=False).labels is None
    own = read_training_scan(source, given, "01/000001", labelled=True).labels
    assert own is not None
    assert (own != IGNORE).any()
    with pytest.raises(DataError, match=r"points but 3 propagated labels: the scan was replaced"):
        read_training_scan(source, given, "00/000000", labelled=True)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.8, 0.5])
@pytest.mark.parametrize("batch_size", [2, 3])
def test_the_share_of_propagated_scans(share: float, batch_size: int) -> None:
    labelled, unlabelled = ["a", "b", "c"], [f"u{i}" for i in range(7)]
    given = ["u1", "u2", "u5", "u6"]

    def batches(steps: range, part: tuple[int, int] = (0, 1)) -> list[list[str]]:
        sampler = StepSampler(labelled, unlabelled, batch_size, 3, steps, part, given, share)
        return [[k.scan_id for k in batch if k.labelled] for batch in sampler]

    drawn = batches(range(40))
    flat = [scan_id for batch in drawn for scan_id in batch]
    assert len(flat) == 40 * batch_size
    assert sum(i in given for i in flat) == int(40 * batch_size * share)
    counts = [flat.count(i) for i in given]
    assert max(counts) - min(counts) <= 1  # they cycle evenly
    assert drawn[17:] == batches(range(17, 40))  # a resumed run goes on
    if batch_size == 2:
        halves = [batches(range(40), (n, 2)) for n in range(2)]
        assert drawn == [one + other for one, other in zip(*halves, strict=True)]
