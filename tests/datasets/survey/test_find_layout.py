"""Folders as people have them: where the scans and their labels lie, told by what is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets.custom import Custom
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.survey.describe import survey_folder
from rangeseg.datasets.survey.draft import Draft, draft_description
from rangeseg.errors import DataError
from tests.datasets.formats.files import FORMATS, table
from tests.datasets.own_scans import BEAMS, raw_labels, turn

POINTS, BEAM = turn()
RAW = raw_labels(POINTS)


def write(root: Path, *files: str, values: np.ndarray | None = None) -> Path:
    """Points, or labels where a name says so, in files below ``root``."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if "label" in file or "annotation" in file or "gt" in path.parent.name:
            raw = RAW if values is None else values
            np.save(path, raw) if path.suffix == ".npy" else raw.tofile(path)
        else:
            write_points = dict(FORMATS.values())[path.suffix]
            write_points(path, POINTS, (BEAMS - 1 - BEAM).astype(np.uint16))
    return root


def draft(root: Path, **stated: Any) -> Draft:
    return draft_description(root, Layout(**stated), most=9)


def stated(found: Draft) -> dict[str, Any]:
    """Where things lie, but for what is as in KITTI's layout."""
    layout = found.description.layout.model_dump(exclude_defaults=True)
    return {k: v for k, v in layout.items() if "folder" in k or "suffix" in k}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("d 1/0.pcd", "d 2/0.pcd"),
         {"sequences_folder": ".", "points_folder": ".", "points_suffix": ".pcd"}),
        (("d1/lidar/0.ply", "d1/lidar/1.ply", "d2/lidar/0.ply", "d1/images/0.bin"),
         {"sequences_folder": ".", "points_folder": "lidar", "points_suffix": ".ply"}),
        (("d1/0.bin", "d1/0.label", "d2/0.bin"),
         {"sequences_folder": ".", "points_folder": ".", "labels_folder": "."}),
        (("d1/points/0.npz", "d1/gt/0.npy", "d2/points/0.npz"),
         {"sequences_folder": ".", "points_folder": "points", "points_suffix": ".npz",
          "labels_folder": "gt", "labels_suffix": ".npy"}),
        (("d1/points/0.bin", "d1/annotations/0.bin", "d2/points/0.bin"),
         {"sequences_folder": ".", "points_folder": "points", "labels_folder": "annotations",
          "labels_suffix": ".bin"}),
        (("sequences/a/ouster/0.pcd", "sequences/b/ouster/0.pcd", "sequences/b/label/0.label"),
         {"points_folder": "ouster", "points_suffix": ".pcd", "labels_folder": "label"}),
        (("sequences/a/velodyne/0.bin", "sequences/a/velodyne_motion/0.bin",
          "sequences/b/velodyne/0.bin", "sequences/a/labels/0.label",
          "sequences/a/labels_old/0.label"), {}),
        (("sequences/a/0.pcd", "sequences/b/0.pcd"),
         {"points_folder": ".", "points_suffix": ".pcd"}),
        (("d1/0.las", "d1/1.las", "d2/0.las", "d2/0.txt"),
         {"sequences_folder": ".", "points_folder": ".", "points_suffix": ".las"}),
    ],
)  # fmt: skip
def test_a_folder_of_sequences(
    files: tuple[str, ...], expected: dict[str, Any], tmp_path: Path
) -> None:
    dict_files = [f for f in files if not f.endswith(".txt")]
    found = draft(write(tmp_path, *dict_files))
    assert found.root == tmp_path
    assert stated(found) == expected
    assert len(found.sequences) == 2
    labelled = any("label" in f or "gt" in f or "annotation" in f for f in files)
    assert set(found.raw_ids) == ({7, 8, 9} if labelled else set())
    source = Custom(found.root, found.description)
    for scan_id in source.scan_ids("train") + source.scan_ids("val"):
        assert len(source.read_scan(scan_id, source.has_labels(scan_id)).points) == len(POINTS)


@pytest.mark.parametrize(
    ("files", "points_folder"),
    [
        (("my drive/0.pcd", "my drive/1.pcd", "other/0.pcd"), "."),
        (("my drive/velodyne/0.pcd", "other/velodyne/0.pcd"), "velodyne"),
        (("my drive/ouster/0.pcd", "my drive/labels/0.label", "other/0.pcd"), "ouster"),
    ],
)
def test_a_folder_that_is_one_sequence(
    files: tuple[str, ...], points_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *files)
    found = draft(tmp_path / "my drive")
    assert found.root == tmp_path
    assert found.description.layout.sequences_folder == "."
    assert found.description.layout.points_folder == points_folder
    assert list(found.sequences) == ["my drive"]
    assert found.description.sequences["train"] == ("my drive",)
    monkeypatch.chdir(tmp_path)
    assert draft(Path("my drive")).root == Path()
    monkeypatch.chdir(tmp_path / "my drive")
    assert draft(Path()).root == tmp_path


def test_a_sequence_of_kitti_is_named_with_its_root(tmp_path: Path) -> None:
    write(tmp_path, "sequences/00/velodyne/0.bin")
    with pytest.raises(DataError, match=f"inside the folder sequences/.*give {tmp_path} as the"):
        draft(tmp_path / "sequences" / "00")


def test_what_is_stated_is_not_looked_for(tmp_path: Path) -> None:
    write(tmp_path, "sequences/a/first/0.pcd", "sequences/a/second/0.pcd", "sequences/a/gt/0.label")
    found = draft(tmp_path, points_folder="second", labels_folder="marks")
    assert found.description.layout.points_folder == "second"
    assert found.description.layout.points_suffix == ".pcd"
    assert found.description.layout.labels_folder == "marks"
    assert found.raw_ids == {}


def test_the_ring_of_a_named_field(tmp_path: Path) -> None:
    write(tmp_path, "d1/0.pcd", "d2/0.pcd")
    found, _, description = survey_folder(tmp_path, Layout(), most=9)
    assert found.description.layout.fields == {"ring": "channel"}
    assert description.layout.ring_zero == "lowest"
    assert description.sensor.beams == BEAMS
    scan = Custom(tmp_path, description).read_scan("d1/0", with_labels=False)
    np.testing.assert_array_equal(scan.ring, BEAM)


def test_a_field_called_ring_that_is_none(tmp_path: Path) -> None:
    """It does not go with the inclination."""
    rng = np.random.default_rng(0)
    (tmp_path / "d1").mkdir()
    np.save(tmp_path / "d1/0.npy", table(POINTS, rng.integers(0, 99, len(BEAM))))
    assert draft(tmp_path).description.layout.fields == {}


def test_labels_in_a_field(tmp_path: Path) -> None:
    (tmp_path / "d1").mkdir()
    np.save(tmp_path / "d1/0.npy", table(POINTS, RAW, "x y z intensity semantic_id"))
    np.save(tmp_path / "d1/1.npy", table(POINTS, RAW, "x y z intensity semantic_id"))
    found = draft(tmp_path)
    assert found.description.layout.fields == {"label": "semantic_id"}
    assert found.raw_ids == {i: 2 * int((i == RAW).sum()) for i in (7, 8, 9)}
    # One that says the same of all points is none.
    np.save(tmp_path / "d1/0.npy", table(POINTS, 0 * RAW, "x y z intensity semantic_id"))
    assert draft(tmp_path).description.layout.fields == {}


@pytest.mark.parametrize(
    ("raw", "kind", "ignored"),
    [
        (np.where(RAW == 7, -1, RAW.astype(np.int64)), "int64", (-1,)),
        (np.where(RAW == 7, 255, RAW).astype(np.uint8), "uint8", (255,)),
        (np.where(RAW == 7, 0, RAW).astype(np.uint16), "uint16", (0,)),
        (RAW, "uint32", (0,)),
    ],
)
def test_ids_that_stand_for_no_class(
    raw: np.ndarray, kind: str, ignored: tuple[int, ...], tmp_path: Path
) -> None:
    write(tmp_path, "d1/0.bin")
    found = draft(write(tmp_path, "d1/0.label", values=raw))
    assert found.description.layout.label_type == kind
    assert found.description.ignored_ids == ignored


def test_colours_keep_their_colour(tmp_path: Path) -> None:
    write(tmp_path, "d1/0.bin")
    raw = np.where(RAW == 9, 0xFF8000, 0).astype(np.uint32)
    found = draft(write(tmp_path, "d1/0.label", values=raw), label_type="colour")
    (only,) = found.description.classes
    assert only.ids == (0xFF8000,)
    assert only.colour == (255, 128, 0)


def test_what_lies_beside_is_no_label_and_no_scan(tmp_path: Path) -> None:
    """Predictions of an earlier run; of two kinds with the same names the likelier is points."""
    write(tmp_path, "d1/0.ply", "d1/1.ply", "d1/predictions/0.label", "d2/0.bin")
    for frame in ("0", "1"):
        np.save(tmp_path / "d1" / f"{frame}.npy", RAW.astype(np.int64))
    layout = draft(tmp_path).description.layout
    assert layout.points_suffix == ".ply"
    assert (layout.labels_folder, layout.labels_suffix) == (".", ".npy")
    assert layout.label_type == "int64"


def test_bags_are_named(tmp_path: Path) -> None:
    (tmp_path / "drive.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(
        DataError, match=r"holds drive\.mcap: .*`rangeseg-data import .* --out ROOT"
    ):
        draft(tmp_path)


def test_a_file_of_another_format_among_others(tmp_path: Path) -> None:
    """A PCD that is called .bin is read as one; text is named."""
    write(tmp_path, "d1/0.pcd", "d2/0.pcd")
    for name in ("d1", "d2"):
        shutil.move(tmp_path / name / "0.pcd", tmp_path / name / "0.bin")
    found = draft(tmp_path)
    assert found.description.layout.fields == {"ring": "channel"}
    (tmp_path / "d1/0.bin").write_text("1 2 3 4\n5 6 7 8\n")
    with pytest.raises(DataError, match=r"0\.bin is text, not a file of points"):
        draft(tmp_path)
