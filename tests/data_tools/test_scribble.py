"""``rangeseg-data scribble``: the folder it makes, and a training on that folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from tests.data_tools.kitti_layout import write_root

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


@pytest.fixture(scope="module")
def drawn(simulated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scribbles of the simulated street, taken for SemanticKITTI."""
    out = tmp_path_factory.mktemp("scribbles") / "drawn"
    assert scribble(simulated_root, out) == 0
    return out


def scribble(root: Path, out: Path, *more: object) -> int:
    words = ["scribble", "semantic_kitti", root, "--out", out, *more]
    return main([str(word) for word in words])


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.glob("sequences/*/scribbles/*")}


def error_of(capsys: Capture) -> str:
    """The one error line."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_the_folder(root: Path, tmp_path: Path, capsys: Capture) -> None:
    (root / "sequences/11").mkdir()
    (root / "sequences/08/velodyne").rename(root / "sequences/11/velodyne")  # no label, no val
    out = tmp_path / "drawn"
    assert scribble(root, out) == 0
    captured = capsys.readouterr()
    assert (
        "scribbles of 20 training scans, drawn from full labels (not the published" in captured.out
    )
    assert "scribble: 20/20 scans" in captured.err
    assert json.loads((out / "scribbles.json").read_text()) == {
        "what": "scribbles drawn by rangeseg from the full labels of each scan; "
        "not the published annotation of ScribbleKITTI",
        "version": 1,
        "dataset": "semantic_kitti",
        "root": str(root.resolve()),
        "fraction": 0.08,
        "seed": 0,
    }
    assert sorted(p.name for p in (out / "sequences/00").iterdir()) == [
        "labels", "scribbles", "velodyne",
    ]  # fmt: skip
    for name in ("labels", "velodyne"):
        link = out / "sequences/00" / name
        assert link.readlink() == (root / "sequences/00" / name).resolve()
    assert [p.name for p in (out / "sequences/08").iterdir()] == ["labels"]
    assert [p.name for p in (out / "sequences/11").iterdir()] == ["velodyne"]
    assert len(files(out)) == 20
    assert not list(root.glob("sequences/*/scribbles"))


def test_a_relative_root_gives_links_that_hold(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert scribble(Path("kitti"), Path("deep/down/drawn")) == 0
    assert ScribbleKitti(tmp_path / "deep/down/drawn").scan_ids("val") == ["08/000000", "08/000001"]


def test_scribbles_depend_on_seed_and_scan_alone(drawn: Path, tmp_path: Path) -> None:
    """Not on the other scans, nor on who draws them."""
    simulated = json.loads((drawn / "scribbles.json").read_text())["root"]
    part = tmp_path / "part"
    shutil.copytree(simulated, part)
    (part / "sequences/00/velodyne/000000.bin").unlink()
    assert scribble(part, tmp_path / "a", "--workers", 1) == 0
    again = files(tmp_path / "a")
    assert len(again) == 19
    assert again.items() < files(drawn).items()

    assert scribble(part, tmp_path / "b", "--seed", 1) == 0
    other = files(tmp_path / "b")
    assert not [name for name in again if again[name] == other[name]]


def test_a_fraction(drawn: Path, tmp_path: Path) -> None:
    simulated = Path(json.loads((drawn / "scribbles.json").read_text())["root"])
    assert scribble(simulated, tmp_path / "half", "--fraction", 0.5) == 0
    for out, fraction in ((drawn, 0.08), (tmp_path / "half", 0.5)):
        full, kept = (
            np.concatenate([s.read_scan(i).labels for i in s.scan_ids("train")])
            for s in (SemanticKitti(simulated), ScribbleKitti(out))
        )
        share = (kept != 255).sum() / (full != 255).sum()
        assert share == pytest.approx(fraction, abs=0.02)  # sparse: small components
        np.testing.assert_array_equal(kept[kept != 255], full[kept != 255])
        np.testing.assert_array_equal(np.unique(kept[kept != 255]), np.unique(full[full != 255]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_scan_stops_it_and_the_same_call_goes_on(
    workers: int, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, path = tmp_path / "drawn", root / "sequences/05/labels/000001.label"
    sound = path.read_bytes()
    for damage, message in (
        (sound[:-4], "05/labels/000001.label has 4 labels but 000001.bin has 5 points"),
        (b"\x07" + sound[1:], "05/labels/000001.label: unknown raw id 7 (1 points)"),
    ):
        path.write_bytes(damage)
        assert scribble(root, out, "--workers", workers) == 3
        assert message in error_of(capsys)
    before = {p: p.stat().st_mtime_ns for p in out.glob("sequences/*/scribbles/*")}
    assert out / "sequences/05/scribbles/000000.label" in before
    assert out / "sequences/05/scribbles/000001.label" not in before

    path.write_bytes(sound)
    assert scribble(root, out) == 0
    assert len(files(out)) == 20
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert scribble(root, tmp_path / "at_once") == 0
    assert files(tmp_path / "at_once") == files(out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", 1], "was begun with seed=0, now it is 1"),
        (["--fraction", 0.1], "was begun with fraction=0.08, now it is 0.1"),
    ],
)
def test_other_settings_are_refused(
    more: list[object], message: str, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert scribble(root, tmp_path / "drawn") == 0
    before = files(tmp_path / "drawn")
    capsys.readouterr()
    assert scribble(root, tmp_path / "drawn", *more) == 2
    assert message in error_of(capsys)
    root.rename(tmp_path / "moved")  # nor another source
    assert scribble(tmp_path / "moved", tmp_path / "drawn") == 2
    assert "was begun with root=" in error_of(capsys)
    assert files(tmp_path / "drawn") == before


@pytest.mark.parametrize("stamp", [None, "no JSON", "[]"])
def test_a_folder_of_something_else_is_left_alone(
    stamp: str | None, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "drawn"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    if stamp is not None:
        (out / "scribbles.json").write_text(stamp)
    before = sorted(out.iterdir())
    assert scribble(root, out) == 2
    assert "holds no sound scribbles.json, so nothing was drawn there" in error_of(capsys)
    assert scribble(root, root) == 2  # never into the data themselves
    assert scribble(root, out / "thesis.txt") == 2
    assert "thesis.txt is a file: choose another --out" in capsys.readouterr().err
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--fraction", 0], "--fraction 0.0: Input should be greater than 0"),
        (["--fraction", 1.5], "--fraction 1.5: Input should be less than or equal to 1"),
        (["--fraction", "nan"], "--fraction nan: "),
        (["--seed", -1], "--seed -1: Input should be greater than or equal to 0"),
        (["--workers", -1], "--workers -1: give 0 or the number of processes"),
    ],
)
def test_wrong_values(
    more: list[object], message: str, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert scribble(root, tmp_path / "drawn", *more) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "drawn").exists()


def test_nothing_is_made_of_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert scribble(tmp_path / "typo", tmp_path / "drawn") == 3
    assert "typo is not a folder: expected ROOT/sequences/00/velodyne" in error_of(capsys)
    assert not list(tmp_path.iterdir())


def test_a_training_sequence_is_missing(root: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.rmtree(root / "sequences/03")
    assert scribble(root, tmp_path / "drawn") == 3
    assert "sequence 03 is missing" in error_of(capsys)
    assert not (tmp_path / "drawn").exists()


@pytest.mark.parametrize("dataset", ["scribble_kitti", "simulated"])
def test_scribbles_of_others_are_not_drawn(dataset: str, tmp_path: Path, capsys: Capture) -> None:
    """Neither of scribbles, nor of scans that scribble_kitti would take for an HDL-64E's."""
    with pytest.raises(SystemExit, match="2"):
        main(["scribble", dataset, str(tmp_path), "--out", str(tmp_path / "drawn")])
    assert "choose from" in capsys.readouterr().err


def train(drawn: Path, tiny_config: list[str], out: Path, method: str, labels: str) -> int:
    settings = ["dataset.name=scribble_kitti", f"dataset.root={drawn}"]
    # The links lead to scans of 32 beams, of which scribble_kitti's sensor knows nothing.
    settings += ["range_image.height=32", "range_image.rows=inclination"]
    words = [word for s in settings for word in ("--set", s)]
    run = ["--method", method, "--labels", labels, "--out", str(out)]
    return rangeseg(["train", *tiny_config, *words, *run])


def test_a_training_on_drawn_scribbles(
    drawn: Path, simulated_root: Path, tiny_config: list[str], tmp_path: Path
) -> None:
    assert train(drawn, tiny_config, tmp_path / "run", "cutmix_seg", "20%") == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["protocol"]["dataset"] == "scribble_kitti_drawn"
    assert (result["protocol"]["split"], result["scans"]) == ("val", 3)
    assert not (drawn / "sequences/08/scribbles").exists()
    for scan_id in ScribbleKitti(drawn).scan_ids("val"):
        labels_there, labels_here = (
            source.read_scan(scan_id).labels
            for source in (SemanticKitti(simulated_root), ScribbleKitti(drawn))
        )
        np.testing.assert_array_equal(labels_here, labels_there)


def test_check_names_them(drawn: Path, capsys: Capture) -> None:
    words = ["check", "scribble_kitti", str(drawn), "--deep", "--split", "train", "val"]
    assert main(words) == 0
    assert "checking scribble_kitti_drawn: 23/23 scans" in capsys.readouterr().err
