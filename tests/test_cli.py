"""The commands as a user types them: what they make, and one clear line for every mistake."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rangeseg.cli import main
from rangeseg.datasets.splits import parse_labels
from rangeseg.methods import METHODS
from rangeseg.runs.config import load_config
from rangeseg.runs.folder import run_folder
from rangeseg.runs.plan import plan_run
from rangeseg.runs.trained import read_result

Capture = pytest.CaptureFixture[str]
TRAIN = ["--method", "supervised", "--labels", "10%"]


def error_of(capsys: Capture) -> str:
    """The one error line."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture
def own_data(simulated_root: Path, tmp_path: Path) -> Path:
    """A copy of the simulated scans in SemanticKITTI's layout, to be damaged."""
    root = tmp_path / "data"
    shutil.copytree(simulated_root, root)
    return root


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=[] if name in ("supervised", "cutmix_seg") else pytest.mark.slow)
        for name in sorted(METHODS)
    ],
)
def test_train_evaluate_report(
    method: str, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "runs" / method
    words = ["train", *tiny_config, "--method", method, "--labels", "10%", "--out", str(run)]
    assert main(words) == 0
    assert "mIoU on val (3 scans): point" in capsys.readouterr().out
    assert {p.name for p in run.iterdir()} == {
        "config.yaml", "curves.png", "labelled.txt", "last.pt", "metrics.jsonl", "result.json",
    }  # fmt: skip
    result = json.loads((run / "result.json").read_text())
    assert result["protocol"]["split"] == "val"
    assert result["protocol"]["policy"] == "semantickitti"
    assert result["protocol"]["rows"] == "scan_order"
    assert set(result["miou"]) == {"point", "point_raw", "pixel"}
    assert len(result["iou"]) == 19
    assert result["run"]["labelled_scans"] == 2

    assert main(["evaluate", str(run), "--split", "test"]) == 0
    assert "mIoU on test (4 scans)" in capsys.readouterr().out
    assert json.loads((run / "result_test.json").read_text())["protocol"]["split"] == "test"

    assert main(["report", str(run), "--split", "tets"]) == 3
    assert "no result_tets.json" in (said := capsys.readouterr().err)
    assert "there are results of --split test, --split val: name one of these" in said
    older = tmp_path / "older" / "result_test.json"
    older.parent.mkdir()
    without = {k: v for k, v in result["run"].items() if k != "common"}
    older.write_text(json.dumps({**result, "run": without}))
    assert main(["report", str(older.parent), "--split", "test"]) == 3
    said = capsys.readouterr().err
    assert (
        f"{older} is not a result (KeyError('common')): `rangeseg evaluate {older.parent}" in said
    )
    assert "--split test` writes it again" in said

    again = json.loads((run / "result.json").read_text())
    assert main(["evaluate", str(run)]) == 0
    assert json.loads((run / "result.json").read_text())["miou"] == again["miou"]

    capsys.readouterr()
    assert main(["report", str(tmp_path / "runs"), "--split", "test"]) == 0
    assert f"| {method}" in capsys.readouterr().out


def test_the_run_folder_names_what_was_asked(
    tiny_config: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", *tiny_config, *TRAIN, "--seed", "3", "--set", "train.labelled=plain"]
    assert main(words) == 0
    assert (tmp_path / "runs/simulated/supervised_plain/10pct/seed3/result.json").is_file()


@pytest.mark.parametrize(
    ("labels", "name"),
    [("10%", "10pct"), ("0.1", "10pct"), ("12.5 %", "12.5pct"), ("/far/lists/mine.txt", "mine"),
     ("lists/mine", "mine")],
)  # fmt: skip
def test_run_folders_of_every_budget(labels: str, name: str) -> None:
    config = load_config(Path(__file__).parents[1] / "configs" / "simulated.yaml")
    folder = run_folder(plan_run(config, "cps", parse_labels(labels), 2))
    assert folder == Path("runs/simulated/cps") / name / "seed2"


def test_a_run_is_found_from_another_folder(
    tiny_config: list[str], simulated_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(simulated_root.parent)
    words = ["train", *tiny_config, *TRAIN, "--set", f"dataset.root={simulated_root.name}"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "run"]) == 0
    assert not (tmp_path / simulated_root.name).exists()


def test_data_that_moved_are_not_simulated_anew(
    tiny_config: list[str], own_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["train", *tiny_config, *TRAIN, "--set", f"dataset.root={own_data}"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    own_data.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run")]) == 3
    assert "if they lie elsewhere, change dataset.root in" in error_of(capsys)
    assert not own_data.exists()


def test_a_run_that_is_not_finished_is_not_evaluated(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run = tmp_path / "run"
    assert main(["train", *tiny_config, *TRAIN, "--out", str(run)]) == 0
    state = torch.load(run / "last.pt", weights_only=True)
    training = state["training"] | {"step": 4}
    torch.save(state | {"step": 4, "training": training}, run / "last.pt")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--split", "test"]) == 3
    assert "has 4 of 6 steps: train the run to its end" in error_of(capsys)
    assert not (run / "result_test.json").exists()


def test_a_list_says_which_scans_are_labelled(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    split, run = tmp_path / "mine.txt", tmp_path / "run"
    split.write_text("00/000000\n03/000001\n")
    words = ["train", *tiny_config, "--method", "supervised", "--labels", str(split)]
    words += ["--out", str(run)]
    assert main(words) == 0
    assert (run / "labelled.txt").read_text().split("\n")[1:3] == ["00/000000", "03/000001"]
    split.write_text("00/000001\n")
    capsys.readouterr()
    assert main([*words, "--resume"]) == 2
    assert "lists other scans than" in error_of(capsys)


def test_resuming_with_other_unlabelled_scans_is_refused(
    tiny_config: list[str], own_data: Path, tmp_path: Path, capsys: Capture
) -> None:
    split, run = tmp_path / "mine.txt", tmp_path / "run"
    split.write_text("00/000000\n03/000000\n")
    words = ["train", *tiny_config, "--method", "mean_teacher", "--labels", str(split)]
    words += ["--set", "dataset.name=semantic_kitti", "--set", f"dataset.root={own_data}"]
    assert main([*words, "--out", str(run)]) == 0
    fewer = tmp_path / "fewer"
    shutil.copytree(own_data, fewer)
    (fewer / "sequences/00/velodyne/000001.bin").unlink()
    capsys.readouterr()
    before = (run / "config.yaml").read_bytes()
    words = [*words, "--set", f"dataset.root={fewer}", "--out", str(run), "--resume"]
    assert main(words) == 3
    assert "last.pt learnt from other unlabelled scans than the train split" in error_of(capsys)
    assert (run / "config.yaml").read_bytes() == before  # a folder that cannot go on is left alone


def test_rows_that_a_scan_does_not_allow_are_named(tiny_config: list[str], tmp_path: Path) -> None:
    words = ["train", *tiny_config, *TRAIN, "--set", "range_image.rows=ring"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["protocol"]["rows"] == "inclination"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "cutmix", "--labels", "1%"], "unknown method 'cutmix' (did you mean"),
        (["--method", "cps", "--labels", "150%"], "ratio '150%'"),
        (["--method", "cps", "--labels", "nowhere.txt"], "neither a ratio"),
        ([*TRAIN, "--device", "tpu"], "unknown device 'tpu'"),
        ([*TRAIN, "--set", "train.setps=1"], "did you mean 'steps'"),
        ([*TRAIN, "--set", "dataset.name=kitti"], "unknown data set 'kitti'"),
        (["--method", "cps", "--labels", "100%"], "leaves none"),
        ([*TRAIN, "--set", "evaluate.split=tset"], "unknown split 'tset'"),
        ([*TRAIN, "--seed", "-1"], "--seed -1"),
        ([*TRAIN, "--seed", "99999999999999999999"], "give a whole number from 0 to"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(
    words: list[str], message: str, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert main(["train", *tiny_config, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    words = ["train", *tiny_config, *TRAIN, "--device", "cuda", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "sees 0 CUDA devices; use --device cpu" in error_of(capsys)


def train_on(root: Path, tiny_config: list[str], out: Path, *more: str) -> int:
    words = ["train", *tiny_config, "--set", "dataset.name=semantic_kitti"]
    words += ["--set", f"dataset.root={root}", "--set", "range_image.rows=inclination"]
    return main([*words, "--method", "supervised", "--out", str(out), "--labels", "100%", *more])


def unknown_id(root: Path) -> None:
    path = root / "sequences/00/labels/000001.label"
    raw = np.fromfile(path, np.uint32)
    raw[5] = 7777
    raw.tofile(path)


def shortened(name: str, by: int) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        path = root / "sequences/00" / name
        path.write_bytes(path.read_bytes()[:-by])

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shortened("velodyne/000001.bin", 3), "not a multiple of 16"),
        (shortened("labels/000001.label", 4), "re-extract the sequence"),
        (unknown_id, "unknown raw id 7777 (1 points)"),
        (lambda root: (root / "sequences/00/labels/000001.label").unlink(), "label does not exist"),
        (lambda root: shutil.rmtree(root / "sequences/05"), "sequence 05 is missing"),
        (shutil.rmtree, "is not a folder"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_one_line_and_exit_code_3(
    damage: Callable[[Path], object], message: str, workers: int, own_data: Path,
    tiny_config: list[str], tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    damage(own_data)
    run = tmp_path / "run"
    more = ["--set", "train.steps=20", "--set", f"train.workers={workers}"]
    more += ["--set", "train.class_weights=none"]
    assert train_on(own_data, tiny_config, run, *more) == 3
    assert message in error_of(capsys)


def test_a_damaged_unlabelled_scan_stops_a_worker_with_one_line(
    own_data: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    for path in (own_data / "sequences").glob("0[0-7]/velodyne/*.bin"):
        path.write_bytes(path.read_bytes()[:-3])
    split = tmp_path / "mine.txt"
    split.write_text("09/000000\n10/000000\n")
    words = ["train", *tiny_config, "--set", "dataset.name=semantic_kitti"]
    words += ["--set", f"dataset.root={own_data}", "--set", "train.workers=1"]
    words += ["--method", "cutmix_seg", "--labels", str(split), "--out", str(tmp_path / "run")]
    assert main(words) == 3
    assert "not a multiple of 16" in error_of(capsys)


@pytest.mark.parametrize(
    ("line", "message"), [("08/000000", "a scan of val"), ("00/999999", "not in the train split")]
)
def test_a_split_with_a_wrong_scan(
    line: str, message: str, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    split = tmp_path / "mine.txt"
    split.write_text(f"00/000000\n{line}\n")
    words = ["train", *tiny_config, "--method", "supervised", "--labels", str(split)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 3
    assert message in error_of(capsys)


def test_a_folder_that_is_not_empty_is_left_alone(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    words = ["train", *tiny_config, *TRAIN, "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "is not empty: add --resume" in error_of(capsys)
    assert main([*words, "--resume"]) == 2
    assert "is not a run folder" in error_of(capsys)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_list_of_the_user_is_no_leftover_of_ours(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    run, notes = tmp_path / "run", "# my notes of three weeks\n00/000000 # checked\n"
    run.mkdir()
    (run / "labelled.txt").write_text(notes)
    words = ["train", *tiny_config, *TRAIN, "--out", str(run)]
    assert main(words) == 2
    assert "is not empty" in error_of(capsys)
    assert main([*words, "--resume"]) == 2
    assert "is not a run folder" in error_of(capsys)
    assert (run / "labelled.txt").read_text() == notes
    (run / "labelled.txt").write_text("# labelled: 10%, seed 3\n00/0000")  # a run was killed
    assert main(words) == 0


def test_resuming_with_other_settings_is_refused(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    words = ["train", *tiny_config, *TRAIN, "--out", str(tmp_path / "run")]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--resume", "--set", "train.steps=8"]) == 2
    assert "was begun with train.steps=6, now it is 8" in error_of(capsys)
    assert main([*words, "--resume"]) == 0  # nothing left to train: it is evaluated again


def test_a_run_stays_in_the_precision_it_was_begun_with(
    tiny_config: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it was begun on a machine with bfloat16 and went on on another, or the reverse."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    words = ["train", *tiny_config, *TRAIN, "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert "precision: float32\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert read_result(tmp_path / "run" / "result.json")["run"]["precision"] == "float32"
    capsys.readouterr()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert main([*words, "--resume"]) == 2
    assert "was begun with train.precision=float32, now it is bfloat16" in error_of(capsys)
    assert main([*words, "--resume", "--set", "train.precision=float32"]) == 0
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    in_bfloat16 = ["--set", "train.precision=bfloat16", "--out", str(tmp_path / "other")]
    assert main([*words, *in_bfloat16]) == 2
    assert "train.precision=bfloat16, but this cpu has no bfloat16" in error_of(capsys)
    assert not (tmp_path / "other").exists()
    assert main(["evaluate", str(tmp_path / "run"), "--device", "cpu"]) == 0


def test_a_checkpoint_of_another_network_is_refused(
    tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    for name, width in (("a", 4), ("b", 8)):
        words = ["train", *tiny_config, *TRAIN, "--set", f"model.width={width}"]
        assert main([*words, "--out", str(tmp_path / name)]) == 0
    shutil.copy(tmp_path / "a/last.pt", tmp_path / "b/last.pt")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "b")]) == 3
    assert "belongs to model.width 4, but the configuration asks for 8" in error_of(capsys)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["evaluate", "nowhere"], 2, "nowhere is not a run folder"),
        (["report", "nowhere"], 3, "nowhere is not a folder: name those that hold runs"),
        (["report", "."], 3, "no result.json in .: train and evaluate runs first"),
        (["config", "nowhere.yaml"], 2, "nowhere.yaml does not exist"),
    ],
)
def test_places_without_a_run(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    assert message in error_of(capsys)


@pytest.mark.slow
def test_the_demo_does_its_work_once(simulated_root: Path, tmp_path: Path) -> None:
    """With a small data set and few steps; what it prints makes sense, and nothing is redone."""
    out = tmp_path / "demo"
    shutil.copytree(simulated_root, out / "data")
    words = [sys.executable, "-m", "rangeseg", "demo", "--out", str(out), "--steps", "3"]
    first = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert first.returncode == 0, first.stderr
    assert "| supervised " in first.stdout
    assert "| cutmix_seg + propagation " in first.stdout
    picture = out / "overview.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    second = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert second.stdout == first.stdout
    assert second.stderr.count("is already") == 4
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.real_data
def test_the_road_on_real_scans(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    """A few steps on SemanticKITTI: that it runs, not what it reaches."""
    config = Path(__file__).parents[1] / "configs" / "semantic_kitti.yaml"
    words = ["train", str(config), "--method", "cps", "--labels", "10%"]
    settings = [
        f"dataset.root={real_data / 'semantickitti_mini'}", "range_image.width=512",
        "range_image.crop_width=64", "model.width=4", "train.steps=3", "train.workers=1",
    ]  # fmt: skip
    words += [word for s in settings for word in ("--set", s)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "mIoU on val (5 scans)" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["run"]["labelled_scans"] == 3


@pytest.mark.parametrize(
    ("command", "parser", "typed", "offered"),
    [
        ("rangeseg", "rangeseg.cli", "tr", "train"),
        ("rangeseg", "rangeseg.cli", "compare --see", "--seeds"),
        ("rangeseg-data", "data_tools.cli", "st", "stats"),
    ],
)
def test_the_shell_completes(command: str, parser: str, typed: str, offered: str) -> None:
    """As the README says, with bash's own call of a completion function."""
    script = subprocess.check_output(
        [sys.executable, "-m", "shtab", "--shell", "bash", f"{parser}.build_parser"], text=True
    )
    script += f"""
        function=$(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=({command} {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $function {command} "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
        echo "${{COMPREPLY[@]}}"
    """
    assert subprocess.check_output(["bash", "-c", script], text=True).split() == [offered]
