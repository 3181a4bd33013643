"""Detect a file's format by its first bytes, not by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from rangeseg.datasets.formats.files import unreadable
from rangeseg.errors import DataError

Format = Literal["raw", "npy", "npz", "pcd", "ply", "las"]

_HEAD = 512
_TEXT_FROM = 16  # bytes; fewer are no evidence
_FIRST_OF_PCD = (b"#", b"V", b"F", b"C", b"\n", b"\r", b" ")

_BAG = "import its scans with `rangeseg-data import`"
_UNPACK = "unpack it"
_NO_POINTS: dict[bytes, tuple[str, str]] = {
    b"#ROSBAG V": ("a ROS 1 bag", _BAG),
    b"SQLite format 3\0": ("an SQLite file, such as a ROS 2 bag (.db3)", _BAG),
    b"\x89MCAP0\r\n": ("an MCAP recording", _BAG),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file with `git lfs pull`"),
    b"\x1f\x8b\x08\x00": ("packed by gzip", _UNPACK),
    b"\x1f\x8b\x08\x08": ("packed by gzip", _UNPACK),
    b"\xfd7zXZ\0": ("packed by xz", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", _UNPACK),
    b"BZh91AY&SY": ("packed by bzip2", _UNPACK),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "write its points as .npy"),
    b"\x89PNG\r\n\x1a\n": ("a PNG picture", "give the files of points"),
    b"\xff\xd8\xff\xe0": ("a JPEG picture", "give the files of points"),
    b"\xd4\xc3\xb2\xa1\x02\0": (
        "a capture of packets (.pcap)", "write its scans with the sensor's driver, e.g. as .pcd",
    ),
    b"\x0a\x0d\x0d\x0a": (
        "a capture of packets (.pcapng)", "write its scans with the sensor's driver, e.g. as .pcd",
    ),
}  # fmt: skip
"""First bytes -> kind of file and remedy. No plausible float32 begins like one of them."""

_BY_NAME: dict[str, Format] = {
    ".npy": "npy", ".npz": "npz", ".pcd": "pcd", ".ply": "ply", ".las": "las", ".laz": "las",
}  # fmt: skip
"""Suffixes with a known beginning; a file that begins otherwise is damaged."""


def file_format(path: Path) -> Format:
    """The format of a point file, by its first bytes; ``raw`` if they match none.

    Raises:
        DataError: the file is missing, or surely holds no points: a bag, an archive, a text, a
            web page, a pointer of Git LFS, a picture.
    """
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from None
    found = _by_first_bytes(path, head)
    if found == "raw" and head and (promised := _BY_NAME.get(path.suffix.lower())):
        raise DataError(
            f"{path} does not begin as a {promised.upper()} file: it is damaged, or its suffix is "
            "wrong: copy it again, or rename it (raw: .bin)",
            kind="truncated",
        )
    return found


def _by_first_bytes(path: Path, head: bytes) -> Format:
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"LASF"):
        return "las"
    if head.startswith((b"ply\n", b"ply\r")):
        return "ply"
    if head.startswith(b"PK\x03\x04"):
        return _inside_zip(path)
    for first, (what, remedy) in _NO_POINTS.items():
        if head.startswith(first):
            raise DataError(f"{path} is {what}, not a file of points: {remedy}")
    if b"ustar" in head[257:263]:
        raise DataError(f"{path} is a TAR archive, not a file of points: {_UNPACK}")
    return _text(path, head)


def _inside_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        raise DataError(
            f"{path} is a damaged ZIP archive or .npz file: copy it again", kind="truncated"
        ) from None
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise DataError(f"{path} is a ZIP archive, not a file of points: {_UNPACK}")


def _text(path: Path, head: bytes) -> Format:
    """``pcd`` if a text begins with comments or a PCD header line; other texts are no points."""
    if head[:1] not in _FIRST_OF_PCD and not _is_text(head):
        return "raw"
    lines = [line.split() for line in head.splitlines()]
    words = [line[0] for line in lines if line and not line[0].startswith(b"#")]
    begins = head.lstrip()[:6]
    if begins == b"# .PCD" or (words and words[0] in (b"VERSION", b"FIELDS", b"COLUMNS")):
        return "pcd"
    if len(head) < _TEXT_FROM or not _is_text(head):
        return "raw"
    if begins.startswith(b"<"):
        raise DataError(
            f"{path} is a web page (HTML or XML), not a file of points: the download "
            "failed, perhaps for want of a login; download it again"
        )
    raise DataError(
        f"{path} is text, not a file of points: if it holds numbers, write them as .npy, with "
        "numpy.save(NAME, numpy.loadtxt(TEXT)), as floats x, y, z, intensity"
    )


def _is_text(head: bytes) -> bool:
    """Whether bytes are text; the last character may be cut."""
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        return False
    for end in range(len(head), len(head) - 4, -1):
        try:
            head[:end].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False
