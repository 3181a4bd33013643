"""A packed data set that is damaged, or whose index does not fit it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.packed.index import FOOTER, MAGIC
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError
from tests.data_tools.kitti_layout import write_root
from tests.fuzz.inputs import sealed


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of SemanticKITTI's layout."""
    folder = tmp_path_factory.mktemp("packed")
    source = SemanticKitti(write_root(folder / "kitti"))
    pack_dataset(source, "semantic_kitti", folder / "kitti.pack")
    return folder / "kitti.pack"


def read_all(source: ScanSource) -> None:
    for scan_id in source.scan_ids("train"):
        source.read_scan(scan_id)


def refused(path: Path, content: bytes, message: str) -> DataError:
    """Reading all scans of a file of this content is one error that names it."""
    path.write_bytes(content)
    source = open_dataset("semantic_kitti", path)
    with pytest.raises(DataError, match=message) as error:
        read_all(source)
    assert str(path) in str(error.value)
    return error.value


def test_every_byte_counts(kitti: Path, tmp_path: Path) -> None:
    content = kitti.read_bytes()
    first, _, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    index = json.loads(content[first : -FOOTER.size])
    scan = index["sequences"]["00"][0]
    for place in [
        *range(0, len(MAGIC), 5),
        *range(len(MAGIC), 300, 7),
        *range(first, len(content), 97),
        *range(len(content) - FOOTER.size, len(content), 5),
    ]:
        damaged = bytearray(content)
        damaged[place] ^= 4
        error = refused(tmp_path / "a.pack", bytes(damaged), "damaged|neither a folder")
        if scan[2] <= place < scan[2] + scan[3]:
            assert "scan 00/000000 is damaged (its checksum is wrong)" in str(error)
            assert error.kind == "truncated"


@pytest.mark.parametrize("kept", [0, 5, 16, 1000, -1, -FOOTER.size])
def test_cut_off(kept: int, kitti: Path, tmp_path: Path) -> None:
    cut = kitti.read_bytes()[:kept]
    refused(tmp_path / "a.pack", cut, "its end is missing|neither a folder")


def test_another_file(tmp_path: Path) -> None:
    refused(tmp_path / "a.pack", b"PK" + bytes(5000), "neither a folder nor a file from this")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, "../../escaped", "leads out of the data's folder"),
        (1, "/etc/passwd", "leads out of the data's folder"),
        (2, 1 << 40, "a scan ends after the last one"),
        (2, -1, "its index: "),
        (4, 1 << 30, "its index: "),
        (4, 4, "00/000000 is damaged .a part does not hold 48 bytes"),
    ],
)
def test_an_index_that_does_not_fit(
    place: int, value: object, message: str, kitti: Path, tmp_path: Path
) -> None:
    content = kitti.read_bytes()
    start, _, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    index = json.loads(content[start : -FOOTER.size])
    index["sequences"]["00"][0][place] = value
    refused(tmp_path / "a.pack", sealed(content[:start], index), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 254, 0, 0, 0], dtype=np.uint8)}, "a label is 254"),
        ({"labels": np.array([0, 255, 19, 0, 0], dtype=np.uint8)}, "a label is 19"),
        ({"ring": np.array([0, 64, 0, 0, 0], dtype=np.int32)}, "beams 0 to 64 of 64"),
        ({"ring": np.array([0, 9, -1, 0, 0], dtype=np.int32)}, "beams -1 to 9 of 64"),
    ],
)
def test_values_that_the_data_set_does_not_have(
    change: dict[str, np.ndarray], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels index arrays by them without a check."""
    source = SemanticKitti(write_root(tmp_path / "kitti"))
    read = source.read_scan

    def changed(scan_id: str, with_labels: bool = True) -> Scan:
        return replace(read(scan_id, with_labels), **change)

    monkeypatch.setattr(source, "read_scan", changed)
    pack_dataset(source, "semantic_kitti", tmp_path / "a.pack")
    content = (tmp_path / "a.pack").read_bytes()
    refused(tmp_path / "a.pack", content, rf"scan 00/000000 is damaged \({message}\)")
