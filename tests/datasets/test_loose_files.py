"""Files of scans without a data set: which they are, what they are called, how they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.loose_files import LooseFiles, find_files, layout_of_files
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.errors import ConfigError, DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return folder


def ids(*paths: Path) -> list[str]:
    return list(find_files(paths))


def test_a_folder_of_scans(tmp_path: Path) -> None:
    names = ["9.bin", "10.bin", "2.5.bin", ".9.bin", "9.label", "poses.txt", "odd.pcd"]
    touch(tmp_path, *names)
    assert ids(tmp_path) == ["2.5", "9", "10"]  # of the kind that most are
    assert ids(tmp_path / "10.bin", tmp_path / "odd.pcd") == ["10", "odd"]
    assert find_files([tmp_path / "10.bin"]) == {"10": tmp_path / "10.bin"}
    touch(tmp_path, "17.25")
    assert ids(tmp_path / "17.25") == ["17.25"]
    assert ids(touch(tmp_path / "nuscenes", "a.pcd.bin")) == ["a"]


def test_folders_of_folders(tmp_path: Path) -> None:
    drive = touch(tmp_path / "drive", "10/velodyne/0.bin", "9/velodyne/1.bin", "9/labels/1.bin")
    assert ids(drive) == ["9/velodyne/1", "10/velodyne/0"]
    # Several folders are told apart by as much as they differ in.
    assert ids(*(drive / n / "velodyne" for n in ("9", "10"))) == ["9/velodyne/1", "10/velodyne/0"]
    other = touch(tmp_path / "other", "1.pcd")
    assert ids(drive / "9" / "velodyne", other) == ["drive/9/velodyne/1", "other/1"]
    assert ids(drive, drive / "9") == ids(drive)  # once each
    (drive / "9" / "loop").symlink_to(drive)
    assert len(ids(drive)) == 2


def test_what_is_no_folder_of_scans(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: give files or folders of scans"):
        ids(tmp_path / "nowhere")
    touch(tmp_path / "texts", "a.txt", "labels/0.bin")
    with pytest.raises(DataError, match=r"no files of scans \(found: a.txt, labels\): give a fold"):
        ids(tmp_path / "texts")
    with pytest.raises(DataError, match=r"drive holds recordings \(a.bag\), not files of scans: `"):
        ids(touch(tmp_path / "drive", "a.bag"))
    touch(tmp_path, "a.bin", "a.pcd")
    with pytest.raises(ConfigError, match=r"a.pcd and .*a.bin would both be written as a: predict"):
        ids(tmp_path / "a.bin", tmp_path / "a.pcd")


@pytest.mark.real_data
def test_the_layout_is_that_of_the_data_set_as_far_as_it_fits(real_data: Path) -> None:
    named = real_data / "formats" / "vlp16_binary_ring.pcd"
    (raw,) = (real_data / "nuscenes_demo_sweep").glob("*.bin")
    own = NuScenes.layout.model_copy(update={"fields": {"intensity": "signal"}})
    assert layout_of_files(own, raw, Layout()) == own
    fitted = layout_of_files(own, named, Layout())
    assert (fitted.ring_column, fitted.fields, fitted.intensity_max) == (None, {}, 255)
    stated = Layout.model_validate({"intensity_max": 100, "fields": "ring:ring"})
    fitted = layout_of_files(own, named, stated)
    assert (fitted.fields, fitted.intensity_max) == ({"ring": "ring"}, 100)
    assert fitted.ring_zero == "lowest"
    info = NuScenes.info
    source = LooseFiles({"a": named}, info, layout_of_files(own, named, Layout()), "uint8")
    scan = source.read_scan("a", with_labels=False)
    assert scan.points[:, 3].max() == np.float32(119) / np.float32(255)
    assert scan.ring is not None  # of its own name; the file has 1 to 15, and 0 is the lowest
    assert (scan.ring.min(), scan.ring.max()) == (31 - 15, 31 - 1)
    world = own.model_copy(update={"frame": "world"})
    with pytest.raises(ConfigError, match="have no poses: give points in the sensor's frame"):
        layout_of_files(world, raw, Layout())
    assert layout_of_files(world, raw, Layout(frame="sensor")).frame == "sensor"


def test_predictions_are_called_as_the_files(tmp_path: Path) -> None:
    files = find_files([touch(tmp_path, "b/2.5.bin", "b/1.bin", "c/1.bin")])
    source = LooseFiles(files, NuScenes.info, Layout(), "uint8")
    assert source.scan_ids("files") == ["b/1", "b/2.5", "c/1"]
    assert source.sequences("files") == ("b", "c")
    assert source.sequence_ids("b") == ["b/1", "b/2.5"]
    assert source.prediction_file("b/2.5", "files") == "b/2.5.label"
    assert source.encode_labels(np.array([0, 10], np.uint8)).dtype == np.uint8
    assert not source.has_labels("b/1")
