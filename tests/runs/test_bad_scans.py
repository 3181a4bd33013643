"""``--on-bad-scan``: from the command to the result, the record and the export."""

import json
import shutil
from pathlib import Path

import pytest

from rangeseg.cli import main
from tests.engine.test_trainer import same_weights

Capture = pytest.CaptureFixture[str]
TRAIN = ["--method", "mean_teacher", "--labels", "20%"]


@pytest.fixture(scope="module")
def run(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run beside its data, of which a scan of each split is bad."""
    folder = tmp_path_factory.mktemp("bad")
    shutil.copytree(simulated_root, folder / "data")
    for sequence in ("00", "08", "11"):
        cut_short(folder / "data", sequence)
    assert train(folder / "data", folder / "run", "--on-bad-scan", "skip") == 0
    return folder / "run"


def cut_short(root: Path, sequence: str) -> Path:
    path = min((root / "sequences" / sequence / "velodyne").iterdir())
    path.write_bytes(path.read_bytes()[:-5])
    return path


def train(root: Path, out: Path, *words: str) -> int:
    settings = [
        f"dataset.root={root}", "range_image.width=256", "range_image.crop_width=64",
        "model.width=4", "train.steps=12", "train.batch_size=2", "train.save_every=6",
    ]  # fmt: skip
    config = Path(__file__).parents[2] / "configs" / "simulated.yaml"
    sets = [word for setting in settings for word in ("--set", setting)]
    return main(["train", str(config), *sets, *TRAIN, "--out", str(out), *words])


def error_of(capsys: Capture) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line


def result_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


def test_the_result_names_every_skipped_scan(run: Path) -> None:
    result = result_of(run)
    assert result["scans"] == 2
    assert list(result["skipped_scans"]) == ["08/000000"]
    assert "08/velodyne/000000.bin has" in result["skipped_scans"]["08/000000"]
    assert list(result["run"]["skipped_scans"]) == ["00/000000"]
    (line,) = [x for x in (run / "bad_scans.jsonl").read_text().splitlines() if x]
    assert json.loads(line)["scan"] == "00/000000"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_a_bad_scan_ended_goes_on_as_if_it_had_skipped_before(
    run: Path, tmp_path: Path, workers: int, capsys: Capture
) -> None:
    words = ["--set", f"train.workers={workers}"]
    root = run.parent / "data"
    assert train(root, tmp_path / "run", *words) == 3
    assert "00/velodyne/000000.bin" in error_of(capsys)
    resume = ["--resume"] if (tmp_path / "run").exists() else []
    assert train(root, tmp_path / "run", *words, *resume, "--on-bad-scan", "skip") == 0
    assert same_weights(run, tmp_path / "run")
    for key in ("miou", "skipped_scans"):
        assert result_of(tmp_path / "run")[key] == result_of(run)[key]
    warnings = capsys.readouterr().err.splitlines()
    assert sum("skipped scan 00/000000" in line for line in warnings) == 1


def test_evaluate_says_how_many_were_left_out(run: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(run)]) == 0  # the run's own setting
    assert "mIoU on val (2 scans, 1 skipped): point" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--on-bad-scan", "fail"]) == 3
    assert "08/velodyne/000000.bin" in error_of(capsys)


def test_more_than_the_limit_end_it(run: Path, tmp_path: Path, capsys: Capture) -> None:
    root = tmp_path / "data"
    shutil.copytree(run.parent / "data", root)
    for path in sorted((root / "sequences" / "08" / "velodyne").iterdir())[1:]:
        path.write_bytes(b"123")
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(run.parent / "data"), str(root)))
    assert main(["evaluate", str(tmp_path / "run"), "--on-bad-scan", "skip"]) == 3
    assert "2 of 3 scans cannot be read, but at most 1 may be skipped" in error_of(capsys)


def test_a_submission_never_lacks_a_scan_silently(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["predict", str(run), "--out", str(tmp_path / "out"), "--zip"]
    assert main([*words, "--on-bad-scan", "fail"]) == 3
    assert "11/velodyne/000000.bin" in error_of(capsys)
    assert main([*words, "--resume", "--on-bad-scan", "skip"]) == 3
    line = error_of(capsys)
    assert "lacks the predictions of 1 skipped scans (11/000000)" in line
    assert "repeat the command with --resume" in line
    assert not (tmp_path / "out.zip").exists()
    stamp = json.loads((tmp_path / "out" / "rangeseg_predictions.json").read_text())
    assert list(stamp["skipped_scans"]) == ["11/000000"]

    assert main([*words[:-1], "--resume", "--on-bad-scan", "skip"]) == 0
    out = capsys.readouterr().out
    assert "predictions of 3 scans" in out
    assert "1 skipped scans have none; rangeseg_predictions.json names them" in out

    path = run.parent / "data" / "sequences" / "11" / "velodyne" / "000000.bin"
    damaged = path.read_bytes()
    path.write_bytes(damaged + bytes(5))
    try:
        assert main([*words, "--resume", "--on-bad-scan", "skip"]) == 0
    finally:
        path.write_bytes(damaged)
    assert (tmp_path / "out.zip").is_file()
    stamp = json.loads((tmp_path / "out" / "rangeseg_predictions.json").read_text())
    assert "skipped_scans" not in stamp


def test_another_choice_is_a_usage_error(run: Path, capsys: Capture) -> None:
    root = run.parent / "data"
    assert train(root, run.parent / "x", "--set", "dataset.on_bad_scan=ignore") == 2
    assert "dataset.on_bad_scan" in capsys.readouterr().err
