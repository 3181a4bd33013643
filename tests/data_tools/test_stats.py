"""rangeseg-data stats: what it prints is YAML, and what it suggests works."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_tools.cli import main
from rangeseg.cli import main as rangeseg
from rangeseg.datasets.custom import Custom
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.runs.config import load_config
from tests.datasets.own_scans import (
    BEAMS,
    DESCRIPTION,
    turn,
    write_points,
    write_root,
)

REPOSITORY = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def stats(capsys: Capture, *words: object) -> str:
    """The output of a call that succeeds."""
    code = main(["stats", *map(str, words)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def error(capsys: Capture, *words: object) -> tuple[int, str]:
    code = main(["stats", *map(str, words)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    return code, captured.err


def table(out: str) -> dict[str, list[str]]:
    """Lines of the comments by their first word; a later line with the same word is dropped."""
    rows: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("# ") and (words := line[2:].split()):
            rows.setdefault(words[0], words[1:])
    return rows


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A configuration of made-up scans, the field of view wrong, statistics invented."""
    root = write_root(tmp_path / "mine")
    sensor = {"beams": BEAMS, "fov_up_deg": 3, "fov_down_deg": -25}
    values = {
        "dataset": {
            "name": "custom", "root": str(root), "description": {**DESCRIPTION, "sensor": sensor},
        },
        "range_image": {"height": 16, "width": 192},
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_description_is_measured(described: Path, capsys: Capture) -> None:
    assert main(["stats", str(described)]) == 0
    out, err = capsys.readouterr()
    rows = table(out)
    assert "8 of 8 scans of train" in out
    assert rows["labelled"] == ["8", "of", "8", "scans"]
    assert rows["points"][0] == "3,072"
    assert rows["file_order"] == ["100.0%", "0.0%", "0.0%"]
    assert "# described: 16 beams" not in out
    assert "points lie outside the described field of view" in out
    assert float(rows["floor"][0]) + float(rows["wall"][0]) == pytest.approx(100)
    block = yaml.safe_load(out)["dataset"]["description"]
    assert set(block) == {"sensor", "statistics"}
    assert block["sensor"] == {
        "beams": BEAMS, "fov_up_deg": 11.1, "fov_down_deg": -21.1, "rows": "file_order",
    }  # fmt: skip
    assert "measuring custom: 8/8 scans" in err

    # Pasted, and measured again, nothing is in doubt.
    values = json.loads(described.read_text())
    values["dataset"]["description"] |= block
    described.write_text(json.dumps(values))
    again = stats(capsys, described)
    assert "outside" not in again
    assert "rows by file_order" in again
    assert yaml.safe_load(again)["dataset"]["description"]["sensor"] == block["sensor"]


def test_fewer_scans_and_another_split(described: Path, capsys: Capture) -> None:
    out = stats(capsys, described, "--scans", 2, "--split", "val")
    assert "2 of 4 scans of val" in out
    assert table(out)["labelled"] == ["2", "of", "2", "scans"]


def test_a_wrong_description_is_doubted(described: Path, capsys: Capture) -> None:
    words = ("sensor", {"beams": 8, "fov_up_deg": 12, "fov_down_deg": -22, "rows": "scan_order"})
    values = json.loads(described.read_text())
    values["dataset"]["description"] |= dict([words])
    described.write_text(json.dumps(values))
    out = stats(capsys, described)
    assert "# described: 8 beams, rows by scan_order; found: not possible" in out
    assert yaml.safe_load(out)["dataset"]["description"]["sensor"]["beams"] == BEAMS


def test_no_description_yet(tmp_path: Path, capsys: Capture) -> None:
    """What is printed is a configuration: it loads, is sound, trains and evaluates."""
    root = write_root(tmp_path / "mine", order="beams")
    for path in root.glob("sequences/01/labels/*1.label"):
        path.unlink()
    out = stats(capsys, "custom", root)
    config = tmp_path / "mine.yaml"
    config.write_text(out)
    loaded = load_config(config)
    description = loaded.dataset.description
    assert description is not None
    assert description.sensor.rows == "scan_order"
    assert description.sensor.beams == loaded.range_image.height == BEAMS
    assert loaded.range_image.width == 192  # that many firings
    assert [c.name for c in description.classes] == ["class_7", "class_8", "class_9"]
    rows = table(out)
    assert rows["01"] == rows["02"] == rows["03"] == ["4"]
    raw = np.concatenate(
        [np.fromfile(path, np.uint32) for path in root.glob("sequences/*/labels/*")]
    )
    assert rows["8"] == [f"{(raw == 8).sum():,}"]

    assert rangeseg(["config", str(config)]) == 0
    assert main(["check", str(config), "--deep"]) == 0
    settings = ["model.width=4", "range_image.crop_width=64", "train.steps=2", "train.batch_size=2"]
    words = ["train", str(config), "--method", "cutmix_seg", "--labels", "50%"]
    words += [word for s in settings for word in ("--set", s)]
    assert rangeseg([*words, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["protocol"]["rows"] == "scan_order"
    assert set(result["iou"]) == {"class_7", "class_8", "class_9"}


def test_another_layout(tmp_path: Path, capsys: Capture) -> None:
    points, beam = turn()
    values = np.concatenate([points, beam[:, None]], axis=1)
    values = np.random.default_rng(0).permutation(values)  # no order but the ring
    for sequence in ("a", "b"):
        path = write_points(tmp_path, f"{sequence}/7", values, ".npy")
        path.parent.rename(path.parents[1] / "lidar")
    out = stats(capsys, "custom", tmp_path, "--layout", "points_folder=lidar", "points_suffix=.npy")
    assert "no label files labels/FRAME.label: the one class" in out
    dataset = yaml.safe_load(out)["dataset"]
    assert dataset["description"]["layout"] == {
        "points_folder": "lidar", "points_suffix": ".npy", "columns": 5, "ring_column": 4,
    }  # fmt: skip
    assert dataset["description"]["sensor"]["rows"] == "ring"
    assert dataset["description"]["sequences"] == {"train": ["a"], "val": ["b"]}


def test_a_known_data_set(simulated_root: Path, capsys: Capture) -> None:
    out = stats(capsys, "simulated", simulated_root, "--scans", 3)
    values = yaml.safe_load(out)
    assert set(values) == {"statistics"}
    assert set(values["statistics"]) == set(SemanticKitti.info.statistics)
    assert "rows: scan_order  32 beams: every scan lists 32 beams one after the other" in out
    assert "to fill 0 to 1" not in out
    assert table(out)["(ignored)"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["custom", "ROOT", "--layout", "columns"], 2, "--layout columns: write KEY=VALUE"),
        (["custom", "ROOT", "--layout", "colums=5"], 2, "did you mean 'columns'?"),
        (["custom", "ROOT", "--layout", "columns=2"], 2, "--layout columns=2: Input should be gre"),
        (["custom", "ROOT", "--layout", "columns=5"], 3, "not a multiple of 20"),
        (["custom", "ROOT", "--split", "train"], 2, "--split needs a description"),
        (["custom", "nowhere"], 3, "nowhere is not a folder"),
        (["custom"], 2, "missing ROOT: give the data's folder, e.g. `rangeseg-data check custom"),
        (["semantic_kitti", "ROOT", "--layout", "columns=5"], 2, "--layout is for `custom`"),
        (
            ["semantic_kitti", "nowhere"],
            3,
            "nowhere is not a folder: expected ROOT/sequences/00/velodyne",
        ),
        (["semantic_kitti", "ROOT", "--split", "tset"], 2, "unknown split 'tset'"),
        (["semantic_kitti", "ROOT", "--scans", "0"], 2, "--scans 0: read at least one"),
    ],
)
def test_mistakes(
    words: list[str], code: int, message: str, tmp_path: Path, capsys: Capture
) -> None:
    root = write_root(tmp_path / "mine", scans=1)
    if "columns=5" in words:
        write_points(root, "01/000000", turn()[0][:-1])
    found, text = error(capsys, *(root if word == "ROOT" else word for word in words))
    assert (found, text.count("\n")) == (code, 1)
    assert message in text


@pytest.mark.real_data
def test_pandaset_without_a_description(real_data: Path, tmp_path: Path, capsys: Capture) -> None:
    out = stats(
        capsys, "custom", real_data / "pandaset_semkitti", "--scans", 4,
        "--layout", "labels_folder=labels_pandaset", "labels_suffix=.uint8",
    )  # fmt: skip
    (tmp_path / "mine.yaml").write_text(out)
    config = load_config(tmp_path / "mine.yaml")
    description = config.dataset.description
    assert description is not None
    assert description.layout.label_type == "uint8"
    assert description.sensor.rows == "inclination"
    assert description.sensor.fov_up_deg == pytest.approx(15.4, abs=0.2)
    assert description.sensor.fov_down_deg == pytest.approx(-25.5, abs=0.6)
    scan = Custom(config.dataset.root, description).read_scan("01/000000")
    assert scan.labels is not None


@pytest.mark.real_data
def test_the_example_holds_what_is_measured(real_data: Path, capsys: Capture) -> None:
    example = REPOSITORY / "configs" / "custom_example.yaml"
    out = stats(capsys, example, real_data / "pandaset_semkitti")
    description = load_config(example).dataset.description
    assert description is not None
    block = yaml.safe_load(out)["dataset"]["description"]
    assert block["statistics"] == {c: list(v) for c, v in description.statistics.items()}
    described = description.sensor.model_dump(exclude_defaults=True) | {"rows": "inclination"}
    assert block["sensor"] == described


@pytest.mark.slow
@pytest.mark.real_data
def test_semantic_kitti(real_data: Path, capsys: Capture) -> None:
    out = stats(capsys, "semantic_kitti", real_data / "semantickitti_mini", "--scans", 6)
    assert "rows: scan_order  64 beams" in out
    rows = table(out)
    filled, lost, hidden = (float(word.rstrip("%")) for word in rows["scan_order"])
    assert filled > 80
    assert lost < 12
    assert hidden < 3
