"""Label files in another place or of another name: every command that misses them says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_tools.cli import main as rangeseg_data
from rangeseg.cli import main
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.datasets.survey.misnamed_labels import misnamed_label_lines, misnamed_labels
from tests.data_tools.kitti_layout import write_root as write_kitti
from tests.datasets.own_scans import DESCRIPTION, write_root

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "own")


def custom(root: Path, **layout: Any) -> Custom:
    return Custom(root, Description.model_validate(DESCRIPTION | {"layout": layout}))


def rename(root: Path, folder: str, suffix: str) -> None:
    """Move every label file into another folder of its sequence, with another ending."""
    for path in sorted(root.glob("sequences/*/labels/*")):
        target = path.parents[1] / folder / f"{path.stem}{suffix}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


@pytest.mark.parametrize(
    ("folder", "suffix", "settings"),
    [
        ("labels", ".labels", "labels_suffix=.labels"),
        ("label", ".label", "labels_folder=label"),
        ("labels", ".label.txt", "labels_suffix=.label.txt"),
        ("annotation", ".bin", "labels_folder=annotation labels_suffix=.bin"),
        ("velodyne", ".label", "labels_folder=velodyne"),
        (".", ".label", "labels_folder=."),
    ],
)
def test_the_setting_is_named_and_mends_it(
    folder: str, suffix: str, settings: str, root: Path
) -> None:
    assert misnamed_label_lines(custom(root), ["01", "02", "03"]) == []
    rename(root, folder, suffix)
    place = "" if folder == "." else f"{folder}/"
    assert misnamed_labels(custom(root), "01") == (
        "sequence 01: 4 of 4 scans have no labels, e.g. no labels/000000.label, but there are 4 "
        f"files like {place}000000{suffix}: if these are the labels, state them in the layout "
        f"({settings})"
    )
    stated = dict(word.split("=") for word in settings.split())
    mended = custom(root, **stated)
    assert misnamed_label_lines(mended, ["01", "02", "03"]) == []
    assert mended.read_scan("01/000000").labels is not None


def test_some_scans_only(root: Path) -> None:
    labels = root / "sequences/01/labels"
    (labels / "000002.label").rename(labels / "000002.lbl")
    line = misnamed_labels(custom(root), "01")
    assert line is not None
    assert "1 of 4 scans have no labels, e.g. no labels/000002.label, but there are 1" in line


def test_unlabelled_scans_are_not_suspected(root: Path) -> None:
    sequence = root / "sequences/01"
    (sequence / "labels/000002.label").unlink()
    for name in ("predictions/000002.label", "voxels/000002.label", "ring/000002.bin"):
        path = sequence / name
        path.parent.mkdir()
        path.write_bytes((sequence / "labels/000001.label").read_bytes())
    assert misnamed_labels(custom(root), "01") is None
    assert misnamed_labels(custom(root), "77") is None  # listing it says that it is missing
    assert misnamed_labels(NuScenes(root), "01") is None


def test_no_integers(root: Path) -> None:
    rename(root, "labels", ".label.txt")
    (root / "sequences/01/labels/000000.label.txt").write_text("7\n8\n9\n")
    assert "write them as raw integers, one for each of the 3072 points" in str(
        misnamed_labels(custom(root), "01")
    )


def test_names_of_no_scan(root: Path) -> None:
    for path in sorted(root.glob("sequences/*/labels/*")):
        path.rename(path.with_name(path.name.removeprefix("000")))
    line = str(misnamed_labels(custom(root), "02"))
    assert line.endswith(
        "but 4 label files have names of no scan, e.g. 000.label where scans are named "
        "000000.bin: give labels the names of their scans"
    )


def test_public_sets(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti")
    line = str(misnamed_labels(ScribbleKitti(root), "00"))
    assert line == "None"  # full labels are no scribbles
    rename(root, "label", ".label")
    line = str(misnamed_labels(SemanticKitti(root), "00"))
    assert line.endswith("files like label/000000.label: if these are the labels, rename them")
    lines = misnamed_label_lines(SemanticKitti(root), SemanticKitti.SPLITS["train"])
    assert lines[3:] == ["7 more sequences have such label files"]


def test_every_command_says_it(root: Path, tmp_path: Path, capsys: Capture) -> None:
    rename(root, "labels", ".labels")
    config = tmp_path / "mine.yaml"
    values = {
        "dataset": {"name": "custom", "root": str(root), "description": DESCRIPTION},
        "range_image": {"height": 16, "width": 192, "channels": ["range"]},
        "model": {"name": "fidnet", "width": 4},
    }
    config.write_text(yaml.safe_dump(values))
    listed = tmp_path / "list.txt"
    listed.write_text("01/000000\n")
    said = "sequence 01: 4 of 4 scans have no labels, e.g. no labels/000000.label, but there are"
    out = ["--out", str(tmp_path / "out")]

    assert rangeseg_data(["check", str(config)]) == 3
    assert f"note: {said}" in capsys.readouterr().out
    assert rangeseg_data(["stats", str(config)]) == 0
    assert f"# {said}" in capsys.readouterr().out
    for words in (
        ["split", str(config), "--labels", "50%", *out],
        ["split", str(config), "--check", str(listed)],
    ):
        assert rangeseg_data(words) == 3
        assert f"warning: {said}" in capsys.readouterr().err
    for labels in ("50%", str(listed)):
        words = ["train", str(config), "--method", "supervised", "--labels", labels, *out]
        assert main(words) == 3  # it looks for the scans to evaluate first
        assert f"warning: {said.replace('01', '03')}" in capsys.readouterr().err
    (root / "sequences/03/labels/000000.labels").rename(root / "sequences/03/labels/000000.label")
    words[words.index("--labels") + 1] = "50%"
    assert main(words) == 3
    assert f"warning: {said}" in capsys.readouterr().err


@pytest.mark.real_data
def test_no_false_alarm_on_real_scans(real_data: Path) -> None:
    kitti = SemanticKitti(real_data / "semantickitti_mini")
    assert misnamed_label_lines(kitti, [*kitti.SPLITS["train"], "08"]) == []
    pandaset = custom(real_data / "pandaset_semkitti")
    assert misnamed_label_lines(pandaset, ["01", "02"]) == []
    other = custom(real_data / "pandaset_semkitti", labels_folder="labelled")
    assert "4 files like labels/000000.label" in str(misnamed_labels(other, "01"))
