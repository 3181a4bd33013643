"""`predict --zip` of a benchmark's split, and the rules of SemanticKITTI's validator.

The rules are those of the description of ``validate_submission.py`` of semantic-kitti-api, written
anew: the name ends with .zip; ``sequences/``, ``sequences/NN/`` and ``sequences/NN/predictions/``
are entries of their own for the sequences 11 to 21; each scan has a ``.label`` of its name, and it
holds one uint32 for each of the scan's points.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from rangeseg.cli import main
from rangeseg.datasets import semantic_kitti
from rangeseg.datasets.semantic_kitti import SemanticKitti
from tests.data_tools.kitti_layout import write_root, write_scan

Capture = pytest.CaptureFixture[str]
TEST = SemanticKitti.SPLITS["test"]
SCANS = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_root(tmp_path_factory.mktemp("submission") / "kitti")
    for sequence in TEST:
        for frame in range(SCANS):
            write_scan(folder, f"{sequence}/{frame:06d}", None, points=5 + frame)
    return folder


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    config = Path(__file__).parents[2] / "configs" / "semantic_kitti.yaml"
    settings = [
        f"dataset.root={root}", "range_image.height=16", "range_image.width=64", "model.width=4",
        "train.steps=2", "train.workers=0", "train.save_every=2",
        "train.class_weights=none",
    ]  # fmt: skip
    words = [str(config), *[word for s in settings for word in ("--set", s)]]
    words += ["--method", "supervised", "--labels", "50%", "--out", str(root.parent / "run")]
    assert main(["train", *words]) == 0
    return root.parent / "run"


@pytest.fixture(autouse=True)
def short_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every published test sequence have two scans: predicting 20,351 takes its time."""
    for sequence in TEST:
        monkeypatch.setitem(semantic_kitti._SCANS, sequence, SCANS)


def problems_of(archive: Path, dataset: Path) -> list[str]:
    """What the official validator would refuse of an archive."""
    problems = [] if archive.name.endswith(".zip") else ["the name"]
    with zipfile.ZipFile(archive) as zipped:
        sizes = {entry.filename: entry.file_size for entry in zipped.infolist()}
    folders = {"sequences/"}
    for sequence in range(11, 22):
        folders |= {f"sequences/{sequence}/", f"sequences/{sequence}/predictions/"}
        for scan in sorted((dataset / "sequences" / str(sequence) / "velodyne").iterdir()):
            points = scan.stat().st_size / (4 * 4)
            name = f"sequences/{sequence}/predictions/{scan.stem}.label"
            if name not in sizes:
                problems.append(f"{name} is missing")
            elif sizes[name] / 4 != points:
                problems.append(f"{name} has {sizes[name] / 4} labels of {points}")
    return problems + [f"{folder} is missing" for folder in sorted(folders - sizes.keys())]


def predict(run: Path, out: Path, *words: str) -> int:
    return main(["predict", str(run), "--out", str(out), "--zip", *words])


@pytest.mark.slow
def test_the_validator_takes_it(run: Path, root: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "submission"
    capsys.readouterr()
    assert predict(run, out) == 0
    err = capsys.readouterr().err
    assert "checking test: 22/22 scans" in err
    assert "warning" not in err
    archive = tmp_path / "submission.zip"
    assert problems_of(archive, root) == []
    with zipfile.ZipFile(archive) as zipped:
        names = zipped.namelist()
        assert len(names) == len(set(names)) == 1 + 2 * 11 + 22  # nothing else is in it
        assert zipped.testzip() is None
        raw = np.frombuffer(zipped.read("sequences/11/predictions/000001.label"), np.uint32)
    assert set(raw) <= {
        10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81
    }  # fmt: skip
    # Of an archive without entries for folders, as it was, the validator says so.
    bare = tmp_path / "bare.zip"
    with zipfile.ZipFile(archive) as zipped, zipfile.ZipFile(bare, "w") as copy:
        for name in names:
            if not name.endswith("/"):
                copy.writestr(name, zipped.read(name))
    assert len(problems_of(bare, root)) == 1 + 2 * 11


def test_what_is_missing_is_named_before_anything_is_predicted(
    run: Path, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    sequence, scan = root / "sequences/14", root / "sequences/19/velodyne/000000.bin"
    sequence.rename(root / "elsewhere")
    scan.rename(root / "000000.bin")
    try:
        assert predict(run, out) == 3
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: the split test of {root} is not complete, and the ben")
        assert "19 of 22 scans, 10 of 11 sequences; missing: sequence 14, 19/000000: " in error
        assert error.endswith("or predict and pack the others with --anyway")
        assert not out.exists()

        assert predict(run, out, "--anyway") == 0
        assert "predictions of 19 scans" in capsys.readouterr().out
        with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
            labels = [name for name in zipped.namelist() if name.endswith(".label")]
        assert len(labels) == 19
        assert not [name for name in labels if name.startswith("sequences/14/")]
    finally:
        (root / "elsewhere").rename(sequence)
        (root / "000000.bin").rename(scan)
    # Once all is there, the same folder is completed.
    assert predict(run, out, "--resume") == 0
    assert problems_of(tmp_path / "out.zip", root) == []


@pytest.mark.slow
def test_a_skipped_scan_is_left_out_only_if_asked(
    run: Path, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, path = tmp_path / "out", root / "sequences/11/velodyne/000000.bin"
    content = path.read_bytes()
    path.write_bytes(b"12345")
    try:
        assert predict(run, out, "--on-bad-scan", "skip") == 3
        error = capsys.readouterr().err.splitlines()[-1]
        assert "1 of 22 scans of the split test cannot be read, and the benchmark" in error
        assert "11/velodyne/000000.bin has 5 bytes" in error
        assert not out.exists()
        assert predict(run, out, "--on-bad-scan", "skip", "--anyway") == 0
        with zipfile.ZipFile(tmp_path / "out.zip") as zipped:
            assert len([name for name in zipped.namelist() if name.endswith(".label")]) == 21
    finally:
        path.write_bytes(content)


def test_no_server_takes_the_other_splits(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert predict(run, tmp_path / "val", "--split", "val") == 0
    said = "warning: no benchmark's server accepts the split val of semantic_kitti; it is packed"
    assert capsys.readouterr().err.count(said) == 1
    assert (tmp_path / "val.zip").is_file()


def test_anyway_needs_zip(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["predict", str(run), "--out", str(tmp_path / "out"), "--anyway"]) == 2
    assert "--anyway packs an incomplete split: add --zip" in capsys.readouterr().err
