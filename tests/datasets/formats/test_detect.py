"""What is no file of points is named, with the way on; any plausible numbers are raw."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.formats import file_format, read_fields
from rangeseg.datasets.layout import Layout
from rangeseg.errors import DataError

POINTS = np.random.default_rng(0).uniform(-80, 80, (64, 4)).astype("<f4")
BAG = "import its scans with `rangeseg-data import`"


def archive(kind: str) -> bytes:
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as file:
            file.writestr("0.bin", POINTS.tobytes())
    else:
        with tarfile.open(fileobj=content, mode="w") as file:
            info = tarfile.TarInfo("0.bin")
            info.size = POINTS.nbytes
            file.addfile(info, io.BytesIO(POINTS.tobytes()))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#ROSBAG V2.0\n" + bytes(99), f"a ROS 1 bag, .*{BAG}"),
        (b"\x89MCAP0\r\n" + bytes(99), f"an MCAP recording, .*{BAG}"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "`git lfs pull`"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page.*download it"),
        (b"\xef\xbb\xbf<html>\n<body>Sign in to go on</body></html>", "text|web page"),
        (gzip.compress(POINTS.tobytes()), "packed by gzip, .*unpack it"),
        (bz2.compress(POINTS.tobytes()), "packed by bzip2, .*unpack it"),
        (lzma.compress(POINTS.tobytes()), "packed by xz, .*unpack it"),
        (archive("zip"), "is a ZIP archive, .*unpack it"),
        (archive("zip")[:50], "damaged ZIP archive or .npz file"),
        (archive("tar"), "is a TAR archive, .*unpack it"),
        (b"1.0 2.0 3.0 0.5\n4.0 5.0 6.0 0.25\n", r"is text, .*numpy\.save\("),
        ("# Höhe über dem Grund\n1 2 3 0\n".encode(), "is text"),
        (b"timestamp,x,y,z\n1,2,3,4\n", "is text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG picture"),
        (b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(99), r"packets \(\.pcap\).*the sensor's driver"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,  # archives hold the time
)  # fmt: skip
@pytest.mark.parametrize("name", ["0.bin", "0.pcd"])
def test_no_points(content: bytes, message: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} .*({message})") as error:
        read_fields(tmp_path / name, Layout())
    assert "\n" not in str(error.value)


def test_a_ros_2_bag(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "0.db3") as database:
        database.execute("CREATE TABLE topics (id INTEGER)")
    database.close()
    with pytest.raises(DataError, match=rf"0\.db3 is an SQLite file, such as a ROS 2 bag.*{BAG}"):
        file_format(tmp_path / "0.db3")


@pytest.mark.parametrize("name", ["0.npy", "0.npz", "0.pcd", "0.ply", "0.las", "0.LAZ"])
def test_a_name_that_promises_more(name: str, tmp_path: Path) -> None:
    POINTS.tofile(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} does not begin as a \w+ file"):
        file_format(tmp_path / name)


def test_raw_values_are_taken_for_nothing_else(tmp_path: Path) -> None:
    """Real numbers of any first bytes, among them the shortest signatures of other formats."""
    rng = np.random.default_rng(1)
    path = tmp_path / "0.bin"
    for first in [b"ply", b"PK", b"\x1f\x8b", b"#R", b"BZ", b"\x89P", b"LAS", b"VER", b"<", b"1"]:
        values = rng.uniform(-80, 80, (8, 4)).astype("<f4").tobytes()
        path.write_bytes(first + values[len(first) :])
        assert file_format(path) == "raw", first
    path.write_bytes(bytes(64))
    assert file_format(path) == "raw"
    path.write_bytes(b"")
    assert file_format(path) == "raw"
