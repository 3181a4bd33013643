"""SemanticKitti: its tables against the official file, and what bad files lead to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.sensor import HDL_64E
from tests.data_tools.kitti_layout import write_root, write_scan

# Typed from semantic-kitti.yaml: learning_map, in which 0 is ignored and classes start at 1.
LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9,
    44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19,
    99: 0, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip
LEARNING_MAP_INV = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]
NAMES = [
    "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist",
    "motorcyclist", "road", "parking", "sidewalk", "other-ground", "building", "fence",
    "vegetation", "trunk", "terrain", "pole", "traffic-sign",
]  # fmt: skip
# color_map of the raw ids in LEARNING_MAP_INV, in the file's own order: blue, green, red.
COLOURS_BGR = [
    [245, 150, 100], [245, 230, 100], [150, 60, 30], [180, 30, 80], [255, 0, 0], [30, 30, 255],
    [200, 40, 255], [90, 30, 150], [255, 0, 255], [255, 150, 255], [75, 0, 75], [75, 0, 175],
    [0, 200, 255], [50, 120, 255], [0, 175, 0], [0, 60, 135], [80, 240, 150], [150, 240, 255],
    [0, 0, 255],
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "kitti")


def bin_of(root: Path, scan_id: str) -> Path:
    return SemanticKitti(root).paths(scan_id)[0]


def label_of(root: Path, scan_id: str) -> Path:
    return SemanticKitti(root).paths(scan_id)[1]


class TestTables:
    label_map = SemanticKitti.info.label_map

    def test_raw_ids(self) -> None:
        official = {raw: IGNORE if c == 0 else c - 1 for raw, c in LEARNING_MAP.items()}
        assert len(official) == 34
        assert self.label_map.raw_to_train == official
        raw = np.array(list(official), dtype=np.uint32)
        assert self.label_map.to_train(raw).tolist() == list(official.values())

    def test_names_and_what_predictions_are_written_as(self) -> None:
        assert list(self.label_map.names) == NAMES
        assert self.label_map.to_raw(np.arange(19)).tolist() == LEARNING_MAP_INV

    def test_colours_are_red_green_blue(self) -> None:
        assert self.label_map.colours.tolist() == [bgr[::-1] for bgr in COLOURS_BGR]

    def test_what_is_known_without_reading(self) -> None:
        info = SemanticKitti.info
        assert (info.name, info.policy, info.sensor) == ("semantic_kitti", "semantickitti", HDL_64E)
        # RangeNet++, arch/*.yaml: img_means and img_stds of range, x, y, z, signal.
        published = [info.statistics[c] for c in ("range", "x", "y", "z", "intensity")]
        assert [mean for mean, _ in published] == [12.12, 10.88, 0.23, -1.04, 0.21]
        assert [std for _, std in published] == [12.32, 11.47, 6.91, 0.86, 0.16]

    def test_splits(self) -> None:
        assert SemanticKitti(Path("anywhere")).splits == ("train", "val", "test")
        numbers = {s: [int(n) for n in names] for s, names in SemanticKitti.SPLITS.items()}
        assert numbers == {
            "train": [0, 1, 2, 3, 4, 5, 6, 7, 9, 10],
            "val": [8],
            "test": list(range(11, 22)),
        }


class TestListing:
    def test_ids_are_sorted_and_only_scans(self, root: Path) -> None:
        (root / "sequences/08/velodyne/notes.txt").touch()
        (root / "sequences/08/velodyne/._000000.bin").touch()
        source = SemanticKitti(root)
        assert source.scan_ids("val") == ["08/000000", "08/000001"]
        train = source.scan_ids("train")
        assert len(train) == 20
        assert train == sorted(train)

    def test_unknown_split(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"unknown split 'vall'.*did you mean 'val'"):
            SemanticKitti(root).scan_ids("vall")

    def test_missing_sequence(self, root: Path) -> None:
        shutil.rmtree(root / "sequences/03")
        with pytest.raises(
            DataError, match=r"sequence 03 is missing: .*velodyne does not exist.*present: 00, 01"
        ):
            SemanticKitti(root).scan_ids("train")
        assert SemanticKitti(root).scan_ids("val")

    def test_empty_sequence(self, root: Path) -> None:
        for path in (root / "sequences/08/velodyne").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"sequence 08 is empty: no \.bin in .*copy it again"):
            SemanticKitti(root).scan_ids("val")

    @pytest.mark.parametrize("frame", ["frame ", "x#1"])
    def test_a_name_that_no_list_can_hold(self, frame: str, root: Path) -> None:
        (root / "sequences/08/velodyne" / f"{frame}.bin").touch()
        message = r"sequence 08: 1 of 3 files in .*velodyne have a name .* the first is "
        with pytest.raises(DataError, match=message + re.escape(repr(f"{frame}.bin"))) as error:
            SemanticKitti(root).scan_ids("val")
        assert error.value.kind == "other"
        str(error.value).encode()  # can be printed

    @pytest.mark.parametrize("inner", ["sequences", "sequences/00", "sequences/00/velodyne"])
    def test_root_too_deep(self, root: Path, inner: str) -> None:
        message = f"is inside the folder sequences/.*give {re.escape(str(root))} as the root"
        with pytest.raises(DataError, match=message):
            SemanticKitti(root / inner).scan_ids("train")

    def test_root_too_high(self, root: Path) -> None:
        with pytest.raises(DataError, match=f"give {re.escape(str(root))} as the root"):
            SemanticKitti(root.parent).scan_ids("train")

    def test_another_folder(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        with pytest.raises(DataError, match=r"no folder sequences/ \(found: photos\): expected"):
            SemanticKitti(tmp_path).scan_ids("train")
        with pytest.raises(DataError, match=r"\(found: nothing\)"):
            SemanticKitti(tmp_path / "photos").scan_ids("train")

    def test_no_folder(self, tmp_path: Path) -> None:
        source = SemanticKitti(tmp_path / "missing")  # making one needs no data
        with pytest.raises(DataError, match="missing is not a folder: expected ROOT/sequences"):
            source.scan_ids("train")
        with pytest.raises(DataError, match="missing is not a folder"):
            source.read_scan("00/000000")


class TestReading:
    def test_points_and_labels(self, root: Path) -> None:
        points = np.array([[1, 2, 3, 0.5], [1, np.nan, 3, 1], [1, 2, 3, 0]], dtype=np.float32)
        points.tofile(bin_of(root, "00/000000"))
        raw = np.array([252 | (7 << 16), 99, 40], dtype=np.uint32)
        raw.tofile(label_of(root, "00/000000"))
        scan = SemanticKitti(root).read_scan("00/000000")
        np.testing.assert_array_equal(scan.points, points)
        assert scan.points.dtype == np.float32
        assert scan.labels is not None
        assert scan.labels.tolist() == [0, IGNORE, 8]
        assert scan.labels.dtype == np.uint8
        assert (scan.scan_id, scan.ring) == ("00/000000", None)

    def test_points_without_a_position_have_no_label(self, root: Path) -> None:
        nowhere = [[0, 0, 0, 0.5], [np.nan, 1, 1, 0], [1, np.inf, 1, 0], [1, 1, 2e6, 0]]
        near = [[0, 0, 1e-3, 0], [0, -1e-3, 0, 0], [1e-3, 0, 0, 0]]
        np.array(nowhere + near, dtype=np.float32).tofile(bin_of(root, "00/000000"))
        np.full(7, 40, dtype=np.uint32).tofile(label_of(root, "00/000000"))
        scan = SemanticKitti(root).read_scan("00/000000")
        assert scan.labels is not None
        assert scan.labels.tolist() == [IGNORE] * 4 + [8] * 3

    def test_without_labels_the_label_file_is_left_alone(self, root: Path) -> None:
        label_of(root, "00/000000").write_bytes(b"nonsense!")
        assert SemanticKitti(root).read_scan("00/000000", with_labels=False).labels is None

    @pytest.mark.parametrize("scan_id", ["000123", "00/velodyne/000000"])
    def test_malformed_id(self, root: Path, scan_id: str) -> None:
        with pytest.raises(DataError, match="is not a scan id: write SEQ/FRAME"):
            SemanticKitti(root).read_scan(scan_id)


def truncate_points(root: Path) -> None:
    path = bin_of(root, "04/000001")
    path.write_bytes(path.read_bytes()[:-4])  # whole floats, but not whole points


def truncate_labels(root: Path) -> None:
    path = label_of(root, "04/000001")
    path.write_bytes(path.read_bytes()[:-3])


# What is done to a sound root, and what is said about it. All but the last show in file sizes.
FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (
        truncate_points,
        r"04/velodyne/000001\.bin has 76 bytes, not a multiple of 16 \(4 float32 per point\): "
        "the file is truncated; copy it again",
    ),
    (
        lambda root: bin_of(root, "04/000001").write_bytes(b""),
        r"04/velodyne/000001\.bin is empty: the scan has no point",
    ),
    (
        lambda root: label_of(root, "04/000001").unlink(),
        r"04/labels/000001\.label does not exist but 000001\.bin does: copy the labels",
    ),
    (
        lambda root: bin_of(root, "04/000001").unlink(),
        r"04/velodyne/000001\.bin does not exist: check",
    ),
    (
        truncate_labels,
        r"04/labels/000001\.label has 17 bytes, not a multiple of 4",
    ),
    (
        lambda root: write_scan(root, "04/000001", [40] * 4),
        r"04/labels/000001\.label has 4 labels but 000001\.bin has 5 points: "
        "re-extract the sequence",
    ),
    (
        lambda root: write_scan(root, "04/000001", [40, 40, 40, 40, 77]),
        r"04/labels/000001\.label: unknown raw id 77 \(1 points\)",
    ),
]


@pytest.mark.parametrize(("harm", "message"), FAULTS)
def test_bad_files(root: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(root)
    with pytest.raises(DataError, match=message):
        SemanticKitti(root).read_scan("04/000001")


@pytest.mark.real_data
class TestRealScans:
    def test_listing(self, real_data: Path) -> None:
        source = SemanticKitti(real_data / "semantickitti_mini")
        frames = ("000000", "000004", "000009")
        assert source.scan_ids("train") == [
            f"{s:02d}/{f}" for s in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10) for f in frames
        ]
        assert len(source.scan_ids("val")) == 5
        with pytest.raises(DataError, match="sequence 11 is missing"):
            source.scan_ids("test")

    def test_every_scan_is_read(self, real_data: Path) -> None:
        source = SemanticKitti(real_data / "semantickitti_mini")
        seen = np.zeros(256, dtype=np.int64)
        for scan_id in source.scan_ids("train") + source.scan_ids("val"):
            scan = source.read_scan(scan_id)
            assert scan.labels is not None
            assert len(scan.points) == len(scan.labels) > 100_000
            assert 0.0 <= scan.points[:, 3].min() <= scan.points[:, 3].max() <= 1.0
            seen += np.bincount(scan.labels, minlength=256)
        assert not seen[19:IGNORE].any()
        assert seen[NAMES.index("road")] > seen[NAMES.index("person")] > 0
