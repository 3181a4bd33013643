"""How published lists name scans; that the lists themselves are known, test_splits.py checks."""

from __future__ import annotations

import pytest

from rangeseg.datasets.split_files import is_token, scan_id_of

TOKEN = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "text",
    [
        "00/000123",
        "00/000123.bin",
        "00\\000123",
        "sequences/00/velodyne/000123.bin",
        "/sequences/00/labels/000123.label",
        "./sequences/00/velodyne/000123.bin",
        "/data/kitti/dataset/sequences/00/velodyne/000123.bin",
        "../data/sequences/00/velodyne/000123.bin",  # only the names are kept
        "dataset/sequences/00/scribbles/000123.label",
        "D:\\kitti\\sequences\\00\\velodyne\\000123.bin",
        "\\\\server\\share\\sequences\\00\\labels\\000123.label",
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
        ("sequences/A/velodyne/2020-01-01T10:00:00.5.bin", "A/2020-01-01T10:00:00.5"),
        ("A/@(1),~é.npy", "A/@(1),~é"),
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
        "../x",
        "00/..",
        "../000123",
        "./000123",
        "00/.hidden",
        "..\\..\\x",
        "sequences/../velodyne/000123.bin",
        "sequences/00/../000123.bin",
        "sequences/00/velodyne/...bin",
        "/etc/passwd",
        "/00/000123",
        "00/",
        "000123",
        "00/velodyne/000123.bin",
        "00/000123 01/000123",
        "/sequences/00/velodyne/000123.bin /sequences/00/labels/000123.label",
        "sequences/00/velodyne/000123.txt",
        TOKEN[:-1],
        TOKEN + "0",
        TOKEN.upper(),
        "00/000123\x00",
        "00/x#1",
        "00/frame 1",
        "00/a\u2028b",
        "00/caf\udce9",  # what UTF-8 cannot write
        "",
    ],
)
def test_no_scan(text: str) -> None:
    assert scan_id_of(text) is None
