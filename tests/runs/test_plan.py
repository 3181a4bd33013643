"""``rangeseg compare`` with real processes: what it trains, skips, survives and leaves behind."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from rangeseg.cli import main
from rangeseg.datasets.splits import parse_labels
from rangeseg.errors import ConfigError, DataError
from rangeseg.methods import METHODS
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.folder import begin
from rangeseg.runs.jobs import PlannedRun, find_places, train_missing
from rangeseg.runs.plan import plan_comparison, plan_run

Capture = pytest.CaptureFixture[str]
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").is_file(), reason="looks for processes in /proc"
)
SUPERVISED = ("supervised_plain", "supervised")


def plan(tiny_config: list[str], out: Path, **changes) -> list[PlannedRun]:
    path, *words = tiny_config
    values = {
        "overrides": words[1::2], "methods": ["all"], "labels": ["10%"], "seeds": [1],
        "split": None,
    } | changes  # fmt: skip
    return plan_comparison(Path(path), out=out, **values)


def folders(runs: list[PlannedRun], out: Path) -> list[str]:
    return [str(run.folder.relative_to(out)) for run in runs]


def last_step(run: Path) -> int:
    """With a line of metrics each step."""
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def processes_of(out: Path) -> list[str]:
    """Command lines of all processes that name the folder, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if any(str(out) in word for word in words):
            found.append(" ".join(words))
    return found


def train_here(runs: list[PlannedRun]) -> None:
    """Train in this process, where PyTorch is imported already: a tenth of a process's time."""
    for run in runs:
        assert main([*run.train, "--device", "cpu"]) == 0


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_comparison_trains_what_is_missing_and_reports_it(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    out, table = tmp_path / "runs", tmp_path / "made" / "runs.csv"
    words = ["compare", *tiny_config, "--methods", "supervised", "cutmix_seg", "--labels", "10%"]
    words += ["20%", "--seeds", "2", "1", "--jobs", "2", "--device", "cpu", "--out", str(out)]
    files = ["--csv", str(table), "--html", str(tmp_path / "page.html")]
    planned = plan(
        tiny_config, out, methods=["cutmix_seg"], labels=["10%", "20%"], seeds=[2, 1], split="test"
    )
    train_here(planned[1:-1])
    capsys.readouterr()
    assert main([*words, "--split", "test", *files]) == 0
    said = capsys.readouterr()
    assert "9 runs, 7 of them finished before; 2 at a time on cpu" in said.err
    assert said.err.count("\nstarted ") == said.err.count("\nfinished ") == 2
    assert "(9 of 9)" in said.err
    for labels in ("10% labels (2 scans)", "20% labels (4 scans)"):
        assert labels in said.out
    assert "split: test (4 scans)" in said.out
    rows = [line.split("|")[1:3] for line in said.out.splitlines() if line.startswith("| ")]
    seeds = [(name.strip(), count.strip()) for name, count in rows if count.strip() in ("1", "2")]
    names = ["supervised, plain", "supervised, strong", "cutmix_seg"]
    assert seeds == [(n, "2") for n in names] + [(n, "1") for n in names]
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9
    assert {line["split"] for line in lines} == {"test"}
    assert "data:image/png" in (tmp_path / "page.html").read_text()

    # What is there stays; what has lost its result is evaluated again from its last step.
    lost = planned[-1].result
    assert lost == out / "simulated/cutmix_seg/10pct/seed1/result_test.json"
    text = json.loads(lost.read_text())
    lost.unlink()
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("result_test.json")}
    assert len(kept) == 8
    assert main([*words, "--split", "test"]) == 0
    again = capsys.readouterr()
    assert "9 runs, 8 of them finished before" in again.err
    assert again.err.count("\nstarted ") == 1
    assert json.loads(lost.read_text())["miou"] == text["miou"]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert again.out.split("train s")[0] == said.out.split("train s")[0]

    # Another split is evaluated without training.
    checkpoints = {p: p.stat().st_mtime_ns for p in out.rglob("last.pt")}
    strong = out / "simulated/supervised/10pct/seed0"
    assert main(["evaluate", str(strong), "--split", "val", "--device", "cpu"]) == 0
    few = ["compare", *tiny_config, "--methods", "supervised", "--labels", "10%", "--seeds", "1"]
    assert main([*few, "--device", "cpu", "--out", str(out), "--split", "val"]) == 0
    assert "split: val (3 scans)" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("last.pt")} == checkpoints
    assert len(list(out.rglob("result.json"))) == 2
    log = (out / "simulated/supervised_plain/10pct/seed0.log").read_text()
    assert [line.split()[2] for line in log.splitlines() if line.startswith("$")] == [
        "train", "evaluate",
    ]  # fmt: skip

    with pytest.raises(ConfigError, match=r"has train.steps=6 where this comparison has 8"):
        plan(tiny_config, out, overrides=[*tiny_config[2::2], "train.steps=8"])


@pytest.mark.slow
def test_one_run_that_fails_does_not_stop_the_others(
    simulated_root: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    data, out = tmp_path / "data", tmp_path / "runs"
    shutil.copytree(simulated_root, data)
    labels = data / "sequences/00/labels/000001.label"
    labels.write_bytes(labels.read_bytes()[:-4])
    lists = {tmp_path / "bad.txt": "00/000001\n", tmp_path / "good.txt": "00/000000\n"}
    for path, text in lists.items():
        path.write_text(text)
    words = ["compare", *tiny_config, "--set", f"dataset.root={data}", "--methods", "supervised"]
    words += ["--labels", *map(str, lists)]
    words += ["--seeds", "1", "--jobs", "2", "--device", "cpu", "--out", str(out)]
    settings = [*tiny_config[2::2], f"dataset.root={data}"]
    planned = plan(
        tiny_config, out, overrides=settings, methods=["supervised"], labels=[*map(str, lists)]
    )
    train_here(planned[2:3])
    assert main(words) == 3
    said = capsys.readouterr()
    assert "good.txt labels (1 scans)" in said.out
    assert "bad.txt" not in said.out
    assert "error: 2 of 4 runs failed; the same command tries them again:" in said.err
    for row in SUPERVISED:
        assert (out / "simulated" / row / "good/seed0/result.json").is_file()
        log = out / "simulated" / row / "bad/seed0.log"
        assert f"re-extract the sequence (see {log})" in said.err
        assert "re-extract the sequence" in log.read_text()


@pytest.mark.slow
@needs_proc
def test_a_stopped_comparison_leaves_no_process_and_ends_as_if_it_had_run_through(
    tiny_config: list[str], tmp_path: Path
) -> None:
    out, straight = tmp_path / "runs", tmp_path / "straight"
    settings = ["--set", "train.steps=30"]
    words = ["compare", *tiny_config, *settings, "--methods", "supervised", "--labels", "10%"]
    words += ["--seeds", "1", "--jobs", "2", "--device", "cpu", "--out", str(out)]
    runs = [out / "simulated" / row / "10pct/seed0" for row in SUPERVISED]
    process = subprocess.Popen(
        [sys.executable, "-m", "rangeseg", *words], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: any(last_step(run) > 0 for run in runs))
        assert len(processes_of(out)) == 3
        for _ in range(2):  # at once, as `timeout` does: this is one signal
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert not processes_of(out)
    assert "stopping 2 runs" in said
    assert f"stopped; {out} is saved: the same command goes on" in said
    begun = [run for run in runs if last_step(run)]
    assert any(last_step(run) < 30 for run in begun)
    assert all("is saved" in run.with_name("seed0.log").read_text() for run in begun)
    assert not list(out.rglob("result*.json"))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a child has: sums are rounded in the same order
    try:
        again = ["train", *tiny_config, *settings, "--method", "supervised", "--labels", "10%"]
        assert main([*again, "--out", str(straight)]) == 0
        plain = [*again, "--set", "train.labelled=plain", "--out", str(runs[0]), "--resume"]
        assert main(plain) == 0
    finally:
        torch.set_num_threads(threads)
    assert main(words) == 0
    results = [json.loads((run / "result.json").read_text()) for run in (runs[1], straight)]
    assert results[0]["iou"] == results[1]["iou"]
    assert results[0]["miou"] == results[1]["miou"]


@pytest.mark.slow
@needs_proc
def test_children_end_even_if_the_comparison_is_killed(tmp_path: Path) -> None:
    script, number = tmp_path / "sleeps", tmp_path / "number"
    script.write_text(f"#!/bin/sh\necho $$ > {number}\nexec sleep 60\n")
    script.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from rangeseg.runs.jobs import *\n"
        f"sys.executable, folder = {str(script)!r}, Path({str(tmp_path)!r}) / 'seed0'\n"
        "run = PlannedRun('cps, 1%, seed 0', folder, 'val', 'val', folder, ('train',))\n"
        "train_missing([run], find_places('cpu', 1))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: number.is_file() and number.read_text().endswith("\n"))
    words = Path("/proc") / number.read_text().strip() / "cmdline"
    wait_until(lambda: b"sleep" in words.read_bytes())
    process.kill()
    process.wait()
    wait_until(lambda: not words.is_file() or not words.read_bytes(), seconds=5)


def test_a_child_that_is_killed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "kills_itself"
    script.write_text("#!/bin/sh\nkill -KILL $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    run = PlannedRun("cps, 1%, seed 0", tmp_path / "seed0", "val", "val", tmp_path, ("train",))
    assert train_missing([run], find_places("cpu", 1)) == {run: "ended by SIGKILL"}


def test_a_log_that_cannot_be_written_ends_its_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk; those that are under way must not be killed for it."""
    script = tmp_path / "trains"
    script.write_text(f"#!/bin/sh\nsleep 1\ntouch {tmp_path}/saved\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (tmp_path / "file").touch()
    folders = tmp_path / "seed0", tmp_path / "file" / "seed1"
    one, two = (PlannedRun("cps", f, "val", "val", tmp_path, ("train",)) for f in folders)
    failed = train_missing([one, two], find_places("cpu", 2))
    assert "seed1.log cannot be written (" in failed[two]
    assert (tmp_path / "saved").is_file()


def test_runs_of_another_labelled_list_are_refused(tiny_config: list[str], tmp_path: Path) -> None:
    """They would stand beside runs of the list as it is now."""
    labelled = tmp_path / "list.txt"
    labelled.write_text("00/000000\n00/000001\n")
    (run, *_) = plan(tiny_config, tmp_path, methods=["supervised"], labels=[str(labelled)])
    run.folder.mkdir(parents=True)
    config = plan_run(
        load_config(Path(tiny_config[0]), [*tiny_config[2::2], "train.labelled=plain"]),
        "supervised", parse_labels(str(labelled)), 0,
    )  # fmt: skip
    (run.folder / "config.yaml").write_text(config.resolved())
    shutil.copy(labelled, run.folder / "labelled.txt")
    again = plan(tiny_config, tmp_path, methods=["supervised"], labels=[str(labelled)])
    assert again[0] == run
    for precision in ("float32", "bfloat16"):  # what auto has become is for the run to check
        begun = config.resolved().replace("precision: auto", f"precision: {precision}")
        (run.folder / "config.yaml").write_text(begun)
        assert plan(tiny_config, tmp_path, methods=["supervised"], labels=[str(labelled)]) == again
    labelled.write_text("00/000000\n01/000000\n")
    with pytest.raises(ConfigError, match=r"labelled.txt lists other scans than --labels .*list"):
        plan(tiny_config, tmp_path, methods=["supervised"], labels=[str(labelled)])


@pytest.mark.slow
def test_data_that_moved_are_found_by_the_evaluation_too(
    tiny_config: list[str], tmp_path: Path
) -> None:
    (run, *_) = plan(tiny_config, tmp_path, methods=["supervised"])
    train_here([run])
    place = next(w for w in tiny_config if w.startswith("dataset.root="))
    moved = tmp_path / "moved"
    shutil.copytree(place.partition("=")[2], moved)
    overrides = [*tiny_config[2::2], f"dataset.root={moved}"]
    later, *_ = plan(
        tiny_config, tmp_path, methods=["supervised"], split="test", overrides=overrides
    )
    assert later.next_words() == later.train
    train_here([later])
    assert later.next_words() == ("evaluate", str(later.folder), "--split", "test")


def test_the_plan_goes_seed_by_seed_and_always_has_the_controls(
    tiny_config: list[str], tmp_path: Path
) -> None:
    runs = plan(tiny_config, tmp_path, methods=["cps"], labels=["10%", "20%"], seeds=[2, 1])
    rows = ("supervised_plain", "supervised", "cps")
    expected = [f"simulated/{row}/10pct/seed0" for row in rows]
    expected += [f"simulated/{row}/20pct/seed0" for row in rows]
    expected += [f"simulated/{row}/10pct/seed1" for row in rows]
    assert folders(runs, tmp_path) == expected
    plain, strong = (" ".join(run.train) for run in runs[:2])
    assert "train.labelled=plain" in plain
    assert "train.labelled=strong" in strong
    assert len(plan(tiny_config, tmp_path)) == len(METHODS) + 1


@pytest.mark.parametrize(
    ("branch", "rows"),
    [("plain", (*SUPERVISED, "cps_plain")), ("coin", (*SUPERVISED, "supervised_coin", "cps_coin"))],
)
def test_methods_are_trained_on_the_branch_of_the_configuration(
    branch: str, rows: Sequence[str], tiny_config: list[str], tmp_path: Path
) -> None:
    overrides = [*tiny_config[2::2], f"train.labelled={branch}"]
    runs = plan(tiny_config, tmp_path, methods=["cps"], overrides=overrides)
    assert folders(runs, tmp_path) == [f"simulated/{row}/10pct/seed0" for row in rows]


def test_our_branch_in_a_published_file_is_warned_of(
    tiny_config: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "published" / "simulated.yaml"
    path.parent.mkdir()
    path.symlink_to(tiny_config[0])
    for branch, count in (("plain", 0), ("strong", 1), ("coin", 2)):
        overrides = [*tiny_config[2::2], f"train.labelled={branch}"]
        plan([str(path)], tmp_path / "out", methods=["cps"], overrides=overrides)
        assert caplog.text.count("our labelled branch was not published") == count


def test_with_propagation_the_controls_are_trained_with_it_and_without(
    tiny_config: list[str], tmp_path: Path
) -> None:
    words = [*tiny_config[2::2], "train.propagation.reach=1.5s", "train.propagation.distance=0.5"]
    runs = plan(tiny_config, tmp_path, methods=["cps"], overrides=words)
    with_it = [f"{row}_reach1.5s" for row in (*SUPERVISED, "cps")]
    names = [f"simulated/{row}/10pct/seed0" for row in (*SUPERVISED, *with_it)]
    assert folders(runs, tmp_path) == names
    assert runs[-1].title == "cps + propagation (reach 1.5s), 10%, seed 0"
    assert [word for word in runs[1].train if "reach" in word] == [
        "train.propagation.reach=1.5s", "train.propagation.reach=0",
    ]  # fmt: skip

    # Controls without it are those of any other comparison.
    (begun, *_) = plan(tiny_config, tmp_path, methods=["cps"])
    assert begun.folder == runs[0].folder
    settings = load_config(Path(tiny_config[0]), [*tiny_config[2::2], "train.labelled=plain"])
    config = plan_run(settings, "supervised", parse_labels("10%"), 0)
    begin(config, begun.folder, Experiment(config).scans()[0])
    assert plan(tiny_config, tmp_path, methods=["cps"], overrides=words) == runs


@pytest.mark.parametrize("reach", ["0", "2"])
def test_without_unlabelled_scans_only_the_controls_are_trained(
    reach: str, tiny_config: list[str], tmp_path: Path
) -> None:
    words = [*tiny_config[2::2], f"train.propagation.reach={reach}"]
    runs = plan(tiny_config, tmp_path, labels=["100%"], overrides=words)
    assert folders(runs, tmp_path) == [f"simulated/{row}/100pct/seed0" for row in SUPERVISED]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["cutmix"]}, r"unknown method 'cutmix' \(did you mean"),
        ({"labels": ["10%", "0.1"]}, "two of these are kept in .*10pct: name each ratio once"),
        ({"labels": ["10%"], "seeds": [1, 2]}, "--seeds 1 2 for 1 --labels: give one number"),
        ({"seeds": [0]}, "--seeds 0 for 1 --labels: .* from 1 on"),
        ({"split": "tset"}, "unknown split 'tset'"),
        ({"labels": ["nowhere.txt"]}, "neither a ratio"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_starts(
    changes: dict, message: str, tiny_config: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tiny_config, tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_the_split_is_no_setting_of_a_comparison(tiny_config: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set evaluate\.split=test: give the split with"):
        plan(tiny_config, tmp_path, overrides=["evaluate.split=test"])


def test_missing_data_are_said_before_anything_starts(
    tiny_config: list[str], tmp_path: Path
) -> None:
    settings = [*tiny_config[2::2], "dataset.name=semantic_kitti", "dataset.root=nowhere"]
    with pytest.raises(DataError, match="nowhere"):
        plan(tiny_config, tmp_path, overrides=settings)


def test_an_unwritable_page_is_said_before_anything_starts(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("")
    words = ["compare", *tiny_config, "--labels", "10%", "--out", str(tmp_path / "runs")]
    assert main([*words, "--html", str(tmp_path / "file" / "page.html")]) == 2
    assert "page.html cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_places_on_a_cpu_have_one_thread_each() -> None:
    places = find_places("cpu", 3)
    assert [(p.device, dict(p.environment)) for p in places] == [
        ("cpu", {"OMP_NUM_THREADS": "1"})
    ] * 3
    assert len(find_places("cpu", None)) >= 1
    with pytest.raises(ConfigError, match="--jobs 0"):
        find_places("cpu", 0)


@pytest.mark.parametrize(
    ("visible", "device", "jobs", "expected"),
    [
        (None, "auto", None, ["0", "1", "2"]),
        (None, "cuda", 5, ["0", "1", "2", "0", "1"]),
        (None, "cuda:1", None, ["1"]),
        ("4,5,7", "cuda", None, ["4", "5", "7"]),
        ("4,5,7", "cuda:2", 2, ["7", "7"]),
    ],
)
def test_places_on_gpus(
    visible: str | None, device: str, jobs: int | None, expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    places = find_places(device, jobs)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in places] == expected
    assert {place.device for place in places} == {"cuda"}
