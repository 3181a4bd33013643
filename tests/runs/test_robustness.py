"""A run on corrupted scans: files of their own, one table, and nothing evaluated twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rangeseg.cli import main
from rangeseg.datasets.corruption import SEVERITIES, Corruption
from rangeseg.runs.folder import result_path, result_words
from tests.runs.pair import Pair

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("split", "corruption", "name", "words"),
    [
        ("val", None, "result.json", ""),
        ("test", None, "result_test.json", "--split test"),
        ("my_test", None, "result_my_test.json", "--split my_test"),
        ("my_test", Corruption("beams", 4), "result_my_test_beams_4.json",
         "--split my_test --corrupt beams:4"),
        ("val", Corruption("beams", 2), "result_val_beams_2.json",
         "--split val --corrupt beams:2"),
        ("test", Corruption("points", 0.5), "result_test_points_0.5.json",
         "--split test --corrupt points:0.5"),
        ("val", Corruption("intensity"), "result_val_intensity.json",
         "--split val --corrupt intensity"),
    ],
)  # fmt: skip
def test_each_has_a_file_of_its_own(
    split: str, corruption: Corruption | None, name: str, words: str
) -> None:
    path = result_path(Path("run"), split, corruption)
    assert path == Path("run") / name
    assert result_words(path) == words


def test_a_corrupted_result_leaves_the_other_alone(run: Path, capsys: Capture) -> None:
    clean = read(run / "result.json")
    assert main(["evaluate", str(run), "--corrupt", "points:0.5"]) == 0
    said = capsys.readouterr().out
    assert "corruption: points:0.5; lost points are not judged" in said
    assert f"result: {run / 'result_val_points_0.5.json'}" in said
    assert read(run / "result.json") == clean
    result = read(run / "result_val_points_0.5.json")
    assert result["protocol"] == {**clean["protocol"], "corruption": "points:0.5"}
    assert sum(map(sum, result["confusion"])) == pytest.approx(
        0.5 * sum(map(sum, clean["confusion"])), rel=0.05
    )
    # A report shows the one that is asked for.
    for words, there in (([], False), (["--corrupt", "points:0.5"], True)):
        assert main(["report", str(run), *words]) == 0
        assert ("corruption: points:0.5" in capsys.readouterr().out) == there
    assert main(["report", str(run), "--corrupt", "noise:1"]) == 3
    assert "results of --split val, --split val --corrupt points:0.5: name one" in (
        capsys.readouterr().err
    )


def test_all_is_one_table_and_only_what_is_missing_is_evaluated(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rangeseg.runs.robustness.SEVERITIES", SEVERITIES[::3])
    names = ["beams:2", "points:0.9", "intensity"][: len(SEVERITIES[::3])]
    assert [str(c) for c in SEVERITIES[::3]] == names
    words = ["evaluate", str(run), "--corrupt", "all"]
    before = (run / "result.json").read_bytes()
    assert main(words) == 0
    said = capsys.readouterr()
    assert [name for name in names if f"evaluate val, {name}: 3/3 scan" in said.err] == names
    assert "evaluate val: " not in said.err
    first = [line.split("|")[1].strip() for line in said.out.splitlines() if line.startswith("| ")]
    assert first == ["corruption", "none", *names, "mean of these"]
    assert (run / "result.json").read_bytes() == before

    gone = run / "result_val_beams_2.json"
    content = read(gone)
    gone.unlink()
    (run / "result_val_intensity.json").write_text("{}")
    assert main(words) == 0
    again = capsys.readouterr()
    assert again.out == said.out
    assert again.err.count(": 3/3 scan") == 2
    for key in ("protocol", "miou", "confusion", "calibration"):
        assert read(gone)[key] == content[key]

    # One of fewer scans than there are now is no part of the table.
    gone.write_text(json.dumps({**content, "scans": 2}))
    assert main(words) == 0
    assert capsys.readouterr().err.count(": 3/3 scan") == 1
    # Under another protocol nothing is there yet.
    assert main([*words, "--tta", "2"]) == 0
    assert capsys.readouterr().err.count(": 3/3 scan") == len(names) + 1
    assert read(gone)["protocol"]["tta"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--corrupt", "fog"], "unknown corruption 'fog'; known: beams:N"),
        (["--corrupt", "points:2"], "write points:P (a share P"),
        (["--corrupt", "all", "--picture", "a.png"], "--picture a.png draws one result: name one"),
    ],
)
def test_wrong_words(words: list[str], said: str, run: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(run), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_processes_share_corrupted_scans(pair: Pair, run: Path) -> None:
    picture = run / "picture.png"
    words = ["evaluate", str(run), "--corrupt", "noise:0.1", "--picture", str(picture)]
    first, second = pair.command(*words)
    assert (first.code, second.code) == (0, 0), first.stderr
    assert picture.is_file()
    shared = read(run / "result_val_noise_0.1.json")
    assert main(words) == 0
    alone = read(run / "result_val_noise_0.1.json")
    keys = ("protocol", "miou", "iou", "fwiou", "accuracy", "distance", "confusion", "calibration")
    for key in keys:
        assert shared[key] == alone[key]
