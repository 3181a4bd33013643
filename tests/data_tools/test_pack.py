"""``rangeseg-data pack``, and every command on what it made."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from rangeseg.commands.doctor import GOOD, examine
from tests.data_tools.kitti_layout import write_root
from tests.datasets import own_scans
from tests.runs.test_saving import file_limit

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


@pytest.fixture(scope="module")
def street(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated street, packed."""
    path = tmp_path_factory.mktemp("packed") / "street.pack"
    assert main(["pack", "simulated", str(simulated_root), "--out", str(path)]) == 0
    return path


def pack(root: Path, out: Path, *more: object) -> int:
    return main([str(word) for word in ("pack", "semantic_kitti", root, "--out", out, *more)])


def error_of(capsys: Capture) -> str:
    """The one error line."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_what_is_said(root: Path, tmp_path: Path, capsys: Capture) -> None:
    (root / "sequences/03").rename(tmp_path / "03")
    out = tmp_path / "some" / "kitti.pack"
    assert pack(root, out) == 0
    captured = capsys.readouterr()
    assert "packing semantic_kitti: 20/20 scans" in captured.err
    first, *left_out, size, error, digest = captured.out.splitlines()
    assert first == f"{out}: 20 scans of 10 sequences (train, val), 20 with labels, 100 points"
    assert left_out[0].startswith("left out: 1 of 10 sequences of the split train: sequence 03 is")
    assert left_out[1].startswith("left out: 11 of 11 sequences of the split test: sequence 11 is")
    raw = sum(p.stat().st_size for p in root.rglob("*.*"))
    content = out.read_bytes()
    ratio = f"{raw / len(content):.2f} times smaller than the files"
    assert size == f"size: {len(content):,} bytes, {ratio} ({raw:,} bytes)"
    assert error == "error: coordinates at most 0.5 mm; intensities, labels and order are exact"
    assert digest == f"sha256: {hashlib.sha256(content).hexdigest()}"
    assert [p.name for p in out.parent.iterdir()] == ["kitti.pack"]
    assert pack(root, tmp_path / "again.pack") == 0
    assert (tmp_path / "again.pack").read_bytes() == content


def test_a_split_that_is_missing(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert pack(root, tmp_path / "kitti.pack", "--split", "test") == 3
    assert "no sequence of the split test is there: sequence 11 is missing" in error_of(capsys)
    assert not (tmp_path / "kitti.pack").exists()


def test_nothing_is_overwritten_or_made(root: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "kitti.pack").write_text("mine")
    assert pack(root, tmp_path / "kitti.pack") == 2
    assert "kitti.pack exists and is not overwritten: choose another --out" in error_of(capsys)
    assert (tmp_path / "kitti.pack").read_text() == "mine"
    assert main(["pack", "simulated", str(tmp_path / "no"), "--out", str(tmp_path / "a.pack")]) == 3
    assert "no does not exist: `rangeseg-data simulate" in error_of(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kitti", "kitti.pack"]


def test_a_pack_is_not_packed(street: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["pack", "simulated", str(street), "--out", str(tmp_path / "a.pack")]) == 2
    assert "street.pack is packed already" in error_of(capsys)
    out = ["--out", str(tmp_path / "drawn")]
    assert main(["scribble", "semantic_kitti", str(street), *out]) == 3
    assert "street.pack is not a folder" in error_of(capsys)


def test_a_bad_scan_ends_it(root: Path, tmp_path: Path, capsys: Capture) -> None:
    (root / "sequences/08/labels/000001.label").write_bytes(b"\x0a\x00\x00")
    assert pack(root, tmp_path / "kitti.pack") == 3
    assert "08/labels/000001.label has 3 bytes" in error_of(capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["kitti"]


def test_a_full_disk(simulated_root: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["pack", "simulated", str(simulated_root), "--out", str(tmp_path / "street.pack")]
    with file_limit(100_000):
        assert main(words) == 2
    assert "street.pack cannot be written (File too large): make room" in error_of(capsys)
    assert not list(tmp_path.iterdir())


class TestCheck:
    def test_a_sound_one(self, simulated_root: Path, street: Path, capsys: Capture) -> None:
        reports = []
        for path in (simulated_root, street):
            capsys.readouterr()
            assert main(["check", "simulated", str(path), "--deep"]) == 0
            reports.append(capsys.readouterr().out)
        assert reports[0] == reports[1]

    def test_a_damaged_one(self, street: Path, tmp_path: Path, capsys: Capture) -> None:
        content = bytearray(street.read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "street.pack").write_bytes(content)
        assert main(["check", "simulated", str(tmp_path / "street.pack")]) == 0  # sizes only
        capsys.readouterr()
        words = ["check", "simulated", str(tmp_path / "street.pack"), "--deep", "--json"]
        assert main(words) == 3
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert problem["kind"] == "truncated"
        assert f"scan {problem['scan']} is damaged (its checksum is wrong)" in problem["message"]

    def test_of_another_data_set(self, street: Path, capsys: Capture) -> None:
        assert main(["check", "semantic_kitti", str(street)]) == 3
        assert "street.pack was packed from 'simulated'" in error_of(capsys)


def test_from_a_configuration(tmp_path: Path, capsys: Capture) -> None:
    """What YAML describes is packed, and the same YAML with the pack as root reads it."""
    own_scans.write_root(tmp_path / "mine")
    dataset = {"name": "custom", "root": "mine", "description": own_scans.DESCRIPTION}
    config = {"dataset": dataset, "range_image": {"height": 16, "width": 64}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    out = str(tmp_path / "mine.pack")
    assert main(["pack", str(path), str(tmp_path / "mine"), "--out", out]) == 0
    shutil.rmtree(tmp_path / "mine")
    capsys.readouterr()
    assert main(["check", str(path), out, "--deep"]) == 0
    assert "problems: none" in capsys.readouterr().out
    assert main(["stats", str(path), out]) == 0
    measured = yaml.safe_load(capsys.readouterr().out)
    assert set(measured["dataset"]["description"]) == {"sensor", "statistics"}
    lists = str(tmp_path / "lists")
    assert main(["split", str(path), out, "--labels", "50%", "--out", lists]) == 0


def test_the_road(
    simulated_root: Path, tiny_config: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """Pack, delete the folder, train, evaluate, predict, ask the doctor."""
    folder = shutil.copytree(simulated_root, tmp_path / "street")
    path, run, out = tmp_path / "street.pack", tmp_path / "run", tmp_path / "files"
    assert main(["pack", "simulated", str(folder), "--out", str(path)]) == 0
    shutil.rmtree(folder)
    config = [*tiny_config, "--set", f"dataset.root={path}"]
    words = ["--set", "train.workers=2", "--method", "cutmix_seg", "--labels", "10%"]
    assert rangeseg(["train", *config, *words, "--out", str(run)]) == 0
    assert rangeseg(["evaluate", str(run), "--split", "test"]) == 0
    result = json.loads((run / "result_test.json").read_text())
    assert result["miou"]["point"] > 0
    assert rangeseg(["predict", str(run), "--out", str(out), "--split", "test", "--zip"]) == 0
    assert (tmp_path / "files.zip").is_file()
    for label in out.rglob("*.label"):
        sequence, _, frame = label.relative_to(out / "sequences").parts
        points = simulated_root / "sequences" / sequence / "velodyne" / frame
        assert label.stat().st_size * 4 == points.with_suffix(".bin").stat().st_size
    text = Path(config[0]).read_text().replace("root: data/simulated", f"root: {path}")
    (tmp_path / "packed.yaml").write_text(text)
    line = list(examine(tmp_path / "packed.yaml"))[-1]
    assert line == f"{GOOD}packed.yaml: {path} (train 20, val 3 scans)"
    capsys.readouterr()
    path.unlink()
    assert rangeseg(["evaluate", str(run)]) == 3
    assert "street.pack does not exist" in error_of(capsys)
