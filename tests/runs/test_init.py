"""Trainings that begin from another network: what is taken, what is said of it, resuming."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from rangeseg.cli import main
from rangeseg.datasets.splits import parse_labels
from rangeseg.engine.initial_weights import InitialWeights
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, StepContext
from rangeseg.methods.cps import Cps
from rangeseg.methods.cutmix_seg import CutMixSeg
from rangeseg.methods.teacher import TeacherMethod
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import run_folder
from rangeseg.runs.plan import plan_comparison, plan_run
from tests.datasets.own_scans import DESCRIPTION, write_root
from tests.runs.fingerprint import difference
from tests.runs.pair import Pair

Capture = pytest.CaptureFixture[str]
HEADS = {"classifier.weight", "classifier.bias"}


def error_of(capsys: Capture) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def network_in(run: Path, prefix: str = "teacher.") -> dict[str, Tensor]:
    """The network that a run's method evaluates; of CutMix-Seg the teacher."""
    state = torch.load(run / "last.pt", weights_only=True)["method"]
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def words_of(config: list[str], init: Path, out: Path, method: str, *more: str) -> list[str]:
    words = ["train", *config, "--method", method, "--labels", "50%", "--out", str(out)]
    return [*words, "--set", f"train.init={init}", *more]


@pytest.fixture(scope="module")
def own_config(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two classes and 16 rows, where the simulated street has 19 and 32."""
    folder = tmp_path_factory.mktemp("own")
    dataset = {
        "name": "custom",
        "root": str(write_root(folder / "data")),
        "description": DESCRIPTION,
    }
    values: dict[str, Any] = {
        "dataset": dataset,
        "range_image": {"height": 16, "width": 192, "crop_width": 64},
        "model": {"width": 4},
        "train": {"steps": 3, "batch_size": 2, "save_every": 1, "log_every": 1},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return [str(path)]


def begun(
    config: list[str], init: Path, method: str, *overrides: str
) -> tuple[Method[Any], InitialWeights]:
    """A method before its first step."""
    values = load_config(Path(config[0]), [*config[2::2], f"train.init={init}", *overrides])
    experiment = Experiment(plan_run(values, method, parse_labels("50%"), 0))
    initial = experiment.initial_weights()
    assert initial is not None
    return experiment.method(None, initial), initial


def test_own_classes_and_rows_begin_from_a_network_of_others(
    trained_run: Path, own_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    method, initial = begun(own_config, trained_run, "supervised")
    source, random = network_in(trained_run), METHODS["supervised"]
    found = method.student.state_dict()
    assert {n for n, t in found.items() if not torch.equal(t, source[n])} == HEADS
    assert initial.record["taken"] == len(source) - 2
    assert initial.record["new"] == dict.fromkeys(sorted(HEADS, reverse=True), "other classes")
    assert random is type(method)

    run = tmp_path / "run"
    assert main(words_of(own_config, trained_run, run, "supervised")) == 0
    said = capsys.readouterr()
    took = (
        f"took {len(source) - 2} of {len(source)} tensors of {trained_run} (simulated cutmix_seg)"
    )
    assert (
        f"train.init: {took}; new: classifier.weight, classifier.bias (other classes)" in said.err
    )
    text = f"simulated cutmix_seg ({initial.record['weights']})"
    assert f"begun from: {text}, {len(source) - 2} of {len(source)} tensors" in said.out
    protocol = json.loads((run / "result.json").read_text())["protocol"]
    assert protocol["init"] == initial.record
    assert main(["evaluate", str(run), "--split", "train"]) == 0
    protocol = json.loads((run / "result_train.json").read_text())["protocol"]
    assert protocol["init"] == initial.record


def test_the_same_classes_keep_their_head(trained_run: Path, tiny_config: list[str]) -> None:
    method, initial = begun(tiny_config, trained_run / "last.pt", "supervised")
    source = network_in(trained_run)
    assert all(torch.equal(t, source[n]) for n, t in method.student.state_dict().items())
    assert (initial.record["taken"], initial.record["new"]) == (len(source), {})


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if issubclass(m, TeacherMethod)])
def test_teachers_begin_as_their_students(
    trained_run: Path, own_config: list[str], name: str
) -> None:
    method, _ = begun(own_config, trained_run, name)
    assert isinstance(method, TeacherMethod)
    teacher, student = method.teacher.state_dict(), method.student.state_dict()
    assert all(torch.equal(tensor, student[n]) for n, tensor in teacher.items())
    assert torch.equal(teacher["stem.0.0.weight"], network_in(trained_run)["stem.0.0.weight"])


def test_a_pair_differs_in_its_heads(trained_run: Path, tiny_config: list[str]) -> None:
    method, _ = begun(tiny_config, trained_run, "cps")
    assert isinstance(method, Cps)
    source, second = network_in(trained_run), method.second.state_dict()
    assert all(torch.equal(t, source[n]) for n, t in method.student.state_dict().items())
    differing = {n for n, t in second.items() if not torch.equal(t, source[n])}
    assert differing == {"classifier.weight"} or differing == HEADS


@pytest.mark.parametrize(
    "channels",
    [
        "[range, x, y, z, intensity]",
        "[x, range, y, z, intensity, valid, range_step, height_step]",
    ],
)
def test_other_channels_need_a_new_first_layer(
    trained_run: Path, own_config: list[str], channels: str
) -> None:
    """Also where there are as many, but in another order."""
    method, initial = begun(
        own_config, trained_run, "supervised", f"range_image.channels={channels}"
    )
    first = {n for n in method.student.state_dict() if n.startswith("stem.0.")}
    assert {n for n, why in initial.record["new"].items() if why == "other channels"} == first
    assert initial.record["new"].keys() == first | HEADS


def test_cenet_has_more_heads(
    tiny_config: list[str], own_config: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ["train", *tiny_config, "--method", "supervised", "--labels", "10%", "--out", str(run)]
    assert main([*words, "--set", "model.name=cenet", "--set", "train.steps=1"]) == 0
    _, initial = begun(own_config, run, "supervised", "model.name=cenet")
    heads = {n for n in initial.record["new"] if n.startswith("auxiliary_classifiers.")}
    assert len(heads) == 6
    assert initial.record["new"].keys() == heads | HEADS


def test_a_state_dict_alone(trained_run: Path, own_config: list[str], tmp_path: Path) -> None:
    source = network_in(trained_run)
    torch.save({n: t.double() if t.is_floating_point() else t for n, t in source.items()},
               tmp_path / "net.pt")  # fmt: skip
    method, initial = begun(own_config, tmp_path / "net.pt", "supervised")
    found = method.student.state_dict()
    assert {n for n, t in found.items() if not torch.equal(t, source[n])} == HEADS
    assert initial.record["origin"] == "net.pt"


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit_without_the_file(
    trained_run: Path, own_config: list[str], tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole, stopped, init = tmp_path / "whole", tmp_path / "stopped", tmp_path / "init.pt"
    shutil.copy(trained_run / "last.pt", init)
    assert main(words_of(own_config, init, whole, "cutmix_seg")) == 0
    after_step = CutMixSeg.after_step

    def stop(self: CutMixSeg, context: StepContext) -> None:
        after_step(self, context)
        if context.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CutMixSeg, "after_step", stop)
        assert main(words_of(own_config, init, stopped, "cutmix_seg")) == 143
    init.unlink()
    assert main(words_of(own_config, init, stopped, "cutmix_seg", "--resume")) == 0
    assert not difference(whole, stopped)

    capsys.readouterr()
    words = ["train", *own_config, "--method", "cutmix_seg", "--labels", "50%"]
    assert main([*words, "--out", str(whole), "--resume"]) == 2
    assert f"was begun with train.init={init}, now it is None" in error_of(capsys)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_with_the_same_weights(
    trained_run: Path, own_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run, init = tmp_path / "run", tmp_path / "init.pt"
    shutil.copy(trained_run / "last.pt", init)
    words = words_of(own_config, init, run, "supervised")
    assert main(words) == 0
    for name in ("last.pt", "metrics.jsonl", "result.json"):
        (run / name).unlink()
    torch.save({n: t + 1 for n, t in network_in(trained_run).items()}, init)
    capsys.readouterr()
    assert main([*words, "--resume"]) == 3
    assert "was begun with the weights" in (said := error_of(capsys))
    assert "restore it, or choose another --out" in said
    shutil.copy(trained_run / "last.pt", init)
    assert main([*words, "--resume"]) == 0
    (run / "init.json").unlink()
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 3
    assert "init.json does not name the run's initial weights" in error_of(capsys)


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def not_finite(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["method"]["teacher.stem.1.0.weight"][0] = torch.nan
    torch.save(state, path)


def no_network(path: Path) -> None:
    torch.save({"a": torch.zeros(3), "b": torch.zeros(2, 2)}, path)


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (Path.unlink, [], "init.pt does not exist"),
        (damaged, [], "init.pt is damaged or not a checkpoint"),
        (lambda path: path.write_text("hello"), [], "init.pt is damaged or not a checkpoint"),
        (lambda path: torch.save([1, 2], path), [], "init.pt is not a rangeseg checkpoint"),
        (not_finite, [], "holds numbers that are not finite in stem.1.0.weight"),
        (no_network, [], "holds another network than fidnet of width 4"),
        (None, ["model.width=8"], "holds another network (fidnet) than fidnet of width 8"),
        (None, ["model.name=cenet"], "holds another network (fidnet) than cenet of width 4"),
    ],
)
def test_what_cannot_be_begun_from_is_one_line(
    damage: Any, more: list[str], message: str, trained_run: Path, own_config: list[str],
    tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    init = tmp_path / "init.pt"
    shutil.copy(trained_run / "last.pt", init)
    if damage is not None:
        damage(init)
    settings = [word for s in more for word in ("--set", s)]
    assert main(words_of(own_config, init, tmp_path / "run", "supervised", *settings)) == 3
    assert message in error_of(capsys)
    assert not (tmp_path / "run").exists()


def test_folders_and_comparisons_keep_such_runs_apart(
    trained_run: Path, tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_run.parent)  # a run must find it from any folder
    config, overrides = Path(tiny_config[0]), tiny_config[2::2]
    values = load_config(config, [*overrides, f"train.init={trained_run.name}"])
    planned = plan_run(values, "cps", parse_labels("10%"), 0)
    assert planned.train.init == trained_run.resolve()
    assert run_folder(planned) == Path("runs/simulated/cps_init/10pct/seed0")
    usual = plan_run(load_config(config, overrides), "cps", parse_labels("10%"), 0)
    assert planned.of_the_figures() == usual.of_the_figures()
    assert planned.besides_the_method() == usual.besides_the_method()
    assert planned.of_the_weights() != usual.of_the_weights()

    def plan(init: str) -> list[Path]:
        more = [*overrides, f"train.init={init}"]
        found = plan_comparison(config, more, ["supervised"], ["10%"], [1], None, tmp_path)
        return [run.folder for run in found]

    folders = plan(str(trained_run))
    assert [f.relative_to(tmp_path).parts[1] for f in folders] == [
        "supervised_plain_init", "supervised_init",
    ]  # fmt: skip
    words = ["--method", "supervised", "--labels", "10%", "--set", f"train.init={trained_run}"]
    assert main(["train", *tiny_config, *words, "--out", str(folders[1])]) == 0
    assert plan(str(trained_run)) == folders
    with pytest.raises(Exception, match=r"has train.init=.* where this comparison has"):
        plan(str(trained_run / "last.pt"))


@pytest.mark.slow
def test_several_processes_begin_alike(
    pair: Pair, trained_run: Path, tiny_config: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = words_of(tiny_config, trained_run, run, "cutmix_seg", "--set", "train.batch_size=4")
    first, second = pair.command(*words)
    assert (first.code, second.code) == (0, 0), first.stderr
    assert first.stderr.count("train.init: took") == 1
    assert second.stdout + second.stderr == ""
    assert json.loads((run / "result.json").read_text())["protocol"]["init"]["new"] == {}
