"""Lists on the disk: forms of ids, files, what a bad list leads to, published lists."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from rangeseg.datasets.split_files import (
    check_split,
    fingerprint,
    is_token,
    published_name,
    read_split,
    scan_id_of,
    write_split,
)
from rangeseg.errors import ConfigError, DataError
from tests.datasets.listed import TRAIN, VAL, Listed

# Without the time, which would name the tests otherwise in each process that runs them.
PACKED = gzip.compress(b"x" * 99, mtime=0)
TOKEN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "text",
    [
        "00/000123",
        "00/000123.bin",
        "00\\000123",
        "sequences/00/velodyne/000123.bin",
        "/data/kitti/dataset/sequences/00/velodyne/000123.bin",
        "dataset/sequences/00/scribbles/000123.label",
        "D:\\kitti\\sequences\\00\\velodyne\\000123.bin",
    ],
)
def test_a_scan_of_a_sequence(text: str) -> None:
    assert scan_id_of(text) == "00/000123"
    assert not is_token("00/000123")


@pytest.mark.parametrize(
    ("text", "scan_id"),
    [
        ("town-3/1532402927.647951", "town-3/1532402927.647951"),
        ("sequences/town-3/points/1532402927.647951.npy", "town-3/1532402927.647951"),
        ("a/sequences/b/sequences/c/velodyne/d.bin", "c/d"),
        ("A/n015-2018-07-24+0800__LIDAR_TOP__1532", "A/n015-2018-07-24+0800__LIDAR_TOP__1532"),
        ("drive 1/frame 2", "drive 1/frame 2"),
        ("drive (1)/a b.bin", "drive (1)/a b"),
        ("my data/sequences/drive 1/velodyne/frame 2.bin", "drive 1/frame 2"),
    ],
)
def test_names_of_custom_data_sets(text: str, scan_id: str) -> None:
    assert scan_id_of(text) == scan_id


def test_a_sample_token() -> None:
    assert scan_id_of(TOKEN) == TOKEN
    assert is_token(TOKEN)


@pytest.mark.parametrize(
    "text",
    [
        "../../x",
        "00/..",
        "00/.hidden",
        "sequences/../velodyne/000123.bin",
        "sequences/00/../000123.bin",
        "/etc/passwd",
        "00/",
        "000123",
        "00/velodyne/000123.bin",
        "/sequences/00/velodyne/000123.bin /sequences/00/labels/000123.label",
        "sequences/00/velodyne/000123.txt",
        TOKEN[:-1],
        TOKEN.upper(),
        "00/x#1",
        "00/frame 1 ",
        " 00/frame 1",
        "00 /frame 1",
        "00/a\u2028b",
        "00/a\tb",
        "",
    ],
)
def test_no_scan(text: str) -> None:
    assert scan_id_of(text) is None


class TestFiles:
    @pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
    def test_written_and_read_back(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "new" / name
        write_split(path, TRAIN[:3], "three scans\nby hand")
        assert read_split(path) == TRAIN[:3]
        content = path.read_bytes()
        text = gzip.decompress(content) if name.endswith(".gz") else content
        assert text.startswith(b"# three scans\n# by hand\n00/000000\n")
        with pytest.raises(ConfigError, match=rf"{name} exists and is not overwritten"):
            write_split(path, TRAIN[:3], "")
        assert path.read_bytes() == content
        with pytest.raises(ConfigError, match=r"list\.txt cannot be written .*another folder"):
            write_split(path / "list.txt", TRAIN[:3], "")

    @pytest.mark.parametrize("name", ["list.txt", "list.gz"])
    def test_every_form_packed_or_not_whatever_the_name(self, tmp_path: Path, name: str) -> None:
        content = (
            b"\xef\xbb\xbf00/000001\r\n\r\n# no\r\n  01/000002  # yes\r\n"
            b"/data/kitti/sequences/01/velodyne/000003.bin\n"
            b"D:\\kitti\\sequences\\02\\labels\\000003.label\n"
        )
        for written in (content, gzip.compress(content)):
            (tmp_path / name).write_bytes(written)
            expected = ["00/000001", "01/000002", "01/000003", "02/000003"]
            assert read_split(tmp_path / name) == expected

    @pytest.mark.parametrize("line", ["000123", "../../x"])
    def test_bad_line(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "list.txt"
        path.write_text(f"# mine\n00/000001\n{line}\n")
        with pytest.raises(
            DataError, match=rf"list\.txt:3: '{re.escape(line)}' is not a scan id: write one"
        ):
            read_split(path)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.txt", b"\xff\xfe\x00"),
            ("a.gz", PACKED[:-9]),
        ],
    )
    def test_unreadable(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as a list of scans .*copy this one"):
            read_split(tmp_path / name)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"list\.txt does not exist"):
            read_split(tmp_path / "list.txt")
        with pytest.raises(DataError, match="cannot be read as a list of scans"):
            read_split(tmp_path)


class TestCheck:
    source = Listed({"train": TRAIN, "val": VAL})
    path = Path("mine.txt")

    def test_sound(self) -> None:
        check_split(TRAIN[:3], self.source, self.path)

    @pytest.mark.parametrize(
        ("labelled", "message"),
        [
            ([], "lists no scan: write one"),
            ([*TRAIN[:3], TRAIN[0]], "lists 00/000000 more than once"),
            (
                [*TRAIN[:3], VAL[0]],
                r": 1 of 4 scans are not in the train split \(19130 scans\) of data/listed: "
                r"08/000000 \(a scan of val\): use a list made for this data set",
            ),
            (
                [f"77/{i:06d}" for i in range(9)],
                ": 9 of 9 .*: 77/000000, 77/000001, 77/000002 and 6 more: use",
            ),
            (
                ["a" * 32, "b" * 32],
                r" lists nuScenes sample tokens \(first: a{32}\), but scans of listed are named "
                "like 00/000000: the list seems to be for nuScenes: use a list of",
            ),
        ],
    )
    def test_unsound(self, labelled: list[str], message: str) -> None:
        with pytest.raises(DataError, match=rf"mine\.txt ?{message}"):
            check_split(labelled, self.source, self.path)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (
                {"train": ["a" * 32], "val": ["b" * 32]},
                r"lists SEQ/FRAME \(first: 00/000000\), but scans of listed are named like a{32}: "
                "the list seems to be for SemanticKITTI or a data set in its layout: use",
            ),
            ({"train": [], "val": VAL}, r"3 of 3 scans are not in the train split \(0 scans"),
            ({}, "train is missing"),
        ],
    )
    def test_another_data_set(self, source: dict[str, list[str]], message: str) -> None:
        with pytest.raises(DataError, match=message):
            check_split(TRAIN[:3], Listed(source), self.path)


# The published lists, from the protocol: file, number of scans, start of their sha256, name.
PUBLISHED = [
    ("semantickitti_1pct.txt", 191, "d30a4fe07ab15ac8896a9ec80c4c2845", "SemanticKITTI 1 %"),
    ("semantickitti_10pct.txt", 1_913, "77aa6086b008e24968c13fae0d889945", "SemanticKITTI 10 %"),
    ("semantickitti_20pct.txt", 3_826, "0b90944f9d5be42c1269438feca17f44", "SemanticKITTI 20 %"),
    ("semantickitti_50pct.txt", 9_565, "f23ad431339051f2b379a49bc6feb43a", "SemanticKITTI 50 %"),
    ("nuscenes_1pct.txt.gz", 281, "33ccc457e08f157d4464ad0fbd43a900", "nuScenes 1 %"),
    ("nuscenes_10pct.txt.gz", 2_813, "c86bcde189530528a9e25e876869812f", "nuScenes 10 %"),
    ("nuscenes_20pct.txt.gz", 5_626, "cdb9e5ad5554fa7ca30326c2aff44461", "nuScenes 20 %"),
    ("nuscenes_50pct.txt.gz", 14_065, "5c701d1fd57d63527641e322f296639d", "nuScenes 50 %"),
]


@pytest.mark.real_data
class TestPublishedLists:
    @pytest.mark.parametrize(("name", "count", "sha256", "published"), PUBLISHED)
    def test_recognised(
        self, real_data: Path, name: str, count: int, sha256: str, published: str
    ) -> None:
        path = real_data / "splits" / "lasermix_uniform" / name
        labelled = read_split(path)
        assert (len(labelled), fingerprint(labelled)[:32]) == (count, sha256)
        assert published_name(labelled) == f"LaserMix (Kong et al. 2023) uniform, {published}"
        assert published_name(labelled[1:]) is None
        source = Listed({"train": TRAIN, "val": VAL})
        if name.startswith("semantickitti"):
            check_split(labelled, source, path)
            with pytest.raises(DataError, match=rf"{published}\): .* are not in the train split"):
                check_split(labelled, Listed({"train": TRAIN[:9], "val": VAL}), path)
        else:
            with pytest.raises(DataError, match=rf"the list is LaserMix .*, {published}: use a"):
                check_split(labelled, source, path)

    @pytest.mark.parametrize("ratio", [1, 2, 5, 10, 20, 40, 50])
    def test_of_another_protocol(self, real_data: Path, ratio: int) -> None:
        path = real_data / "splits" / "lim3d_strfd" / f"semantickitti_{ratio}pct.txt"
        labelled = read_split(path)
        check_split(labelled, Listed({"train": TRAIN, "val": VAL}), path)
        assert len(labelled) == pytest.approx(len(TRAIN) * ratio / 100, abs=1)
        assert published_name(labelled) is None


def test_fingerprint_is_that_of_sorted_unique_lines() -> None:
    # printf '00/000000\n00/000001' | sha256sum
    expected = "e1370d9ac4fc5dd1af8c7e8c2d48ab4379caf6bb4f54b16448abd6106a7d41b8"
    assert fingerprint(["00/000001", "00/000000", "00/000001"]) == expected
