"""A packed data set that is damaged, or made by somebody who means harm."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Description
from rangeseg.datasets.packed.index import FOOTER, MAGIC
from rangeseg.errors import DataError
from tests.datasets import own_scans
from tests.datasets.packed.test_source import check_same, pack
from tests.fuzz.inputs import sealed


def read_all(source: ScanSource) -> None:
    for scan_id in source.scan_ids("train"):
        source.read_scan(scan_id)


def index_of(content: bytes) -> tuple[int, dict[str, Any]]:
    """Where the index begins, and the index."""
    start, length, _, _ = FOOTER.unpack(content[-FOOTER.size :])
    return start, json.loads(content[start : start + length])


class TestDamage:
    """The whole file, and then again with the index put right: somebody means harm."""

    def refused(self, path: Path, content: bytes, message: str) -> DataError:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            read_all(open_dataset("semantic_kitti", path))
        assert str(path) in str(error.value)
        return error.value

    def test_every_byte_counts(self, kitti: Path, tmp_path: Path) -> None:
        content = kitti.read_bytes()
        _, index = index_of(content)
        first = index["sequences"]["00"][0]
        for place in [
            *range(0, len(MAGIC), 5),
            *range(16, 300, 7),
            *range(len(content) - 90, len(content), 3),
        ]:
            damaged = bytearray(content)
            damaged[place] ^= 4
            error = self.refused(tmp_path / "a.pack", bytes(damaged), "damaged|not a folder")
            if first[2] <= place < first[2] + first[3]:
                assert "scan 00/000000 is damaged (its checksum is wrong)" in str(error)
                assert error.kind == "truncated"

    @pytest.mark.parametrize("kept", [0, 5, 16, 40, 0.5, -1, -FOOTER.size, -200])
    def test_cut_off(self, kept: float, kitti: Path, tmp_path: Path) -> None:
        content = kitti.read_bytes()
        cut = content[: int(len(content) * kept) if kept == 0.5 else int(kept)]
        self.refused(tmp_path / "a.pack", cut, "its end is missing|not a folder")

    def test_it_shrinks_while_it_is_read(self, kitti: Path, tmp_path: Path) -> None:
        (tmp_path / "a.pack").write_bytes(kitti.read_bytes())
        source = open_dataset("semantic_kitti", tmp_path / "a.pack")
        scan_ids = source.scan_ids("train")
        (tmp_path / "a.pack").write_bytes(kitti.read_bytes()[:1000])
        with pytest.raises(DataError, match=r"10/000001 is damaged \(the file became shorter"):
            source.read_scan(scan_ids[-1])
        (tmp_path / "a.pack").unlink()
        with pytest.raises(DataError, match=r"a\.pack does not exist"):
            source.read_scan(scan_ids[0])

    def test_another_file(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "a.pack", b"PK" + bytes(5000), "not a folder, nor a file that")

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (1, "../../escaped", "below the data's folder"),
            (1, "/etc/passwd", "below the data's folder"),
            (2, 1 << 40, "a scan ends behind the last one"),
            (2, -1, "its index: "), (3, 1 << 60, "its index: "),
            (4, 1 << 24, "16777216 points"), (4, 1 << 30, "its index: "), (4, 0, "its index: "),
            (4, 4, "00/000000 is damaged .its parts have"),
            (0, "00/000001", "different names"),
        ],
    )  # fmt: skip
    def test_an_index_that_lies(
        self, place: int, value: object, message: str, kitti: Path, tmp_path: Path
    ) -> None:
        content = kitti.read_bytes()
        start, index = index_of(content)
        index["sequences"]["00"][0][place] = value
        tracemalloc.start()
        self.refused(tmp_path / "a.pack", sealed(content[:start], index), message)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
        tracemalloc.stop()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda index: index.update(name="../../x"), "its index: "),
            (lambda index: index.update(more=1), "its index: "),
            (lambda index: index.pop("splits"), "its index: "),
            (lambda index: index["splits"]["train"]["submission"].update({"../x": "a"}), "below"),
            (lambda index: index.update(sensor=sensor(beams=1 << 30)), "sensor of 1073741824"),
            (lambda index: index.update(sensor=sensor(beams=0)), "its index: .*at least 1"),
            (lambda index: index["meaning"].update({"raw id 10": "road"}), "raw id 10': road"),
        ],
    )  # fmt: skip
    def test_an_index_of_another_kind(
        self, change: Callable[[dict[str, Any]], None], message: str, kitti: Path, tmp_path: Path
    ) -> None:
        content = kitti.read_bytes()
        start, index = index_of(content)
        change(index)
        self.refused(tmp_path / "a.pack", sealed(content[:start], index), message)

    @pytest.mark.parametrize(("byte", "what"), [(254, "label is 254"), (19, "label is 19")])
    def test_labels_that_are_none(self, byte: int, what: str, kitti: Path, tmp_path: Path) -> None:
        content = bytearray(kitti.read_bytes())
        start, index = index_of(bytes(content))
        entry = index["sequences"]["00"][0]
        end = entry[2] + entry[3]
        content[end - 5] = byte  # of five labels, each by itself
        entry[5] = zlib.crc32(content[entry[2] : end])
        message = rf"scan 00/000000 is damaged \(a {what}\)"
        self.refused(tmp_path / "a.pack", sealed(bytes(content[:start]), index), message)

    def test_beams_that_the_sensor_does_not_have(self, tmp_path: Path) -> None:
        """Rows come from them, and a kernel writes there."""
        layout = {"columns": 5, "ring_column": 4}
        description = Description.model_validate(own_scans.DESCRIPTION | {"layout": layout})
        points, beams = own_scans.turn()
        for sequence in ("01", "02", "03"):
            own_scans.write_points(tmp_path, f"{sequence}/0", np.column_stack([points, beams]))
        source = open_dataset("custom", tmp_path, description)
        packed = pack(source, tmp_path / "mine.pack", description)
        check_same(packed, source)
        content = (tmp_path / "mine.pack").read_bytes()
        start, index = index_of(content)
        index["meaning"]["sensor.beams"] = "8"
        (tmp_path / "mine.pack").write_bytes(sealed(content[:start], index))
        sensor = description.sensor.model_copy(update={"beams": 8})
        fewer = description.model_copy(update={"sensor": sensor})
        with pytest.raises(DataError, match=r"01/0 is damaged \(a beam is 15, of 8\)"):
            open_dataset("custom", tmp_path / "mine.pack", fewer).read_scan("01/0", False)


def sensor(**change: Any) -> dict[str, Any]:
    known = {"name": "a", "beams": 64, "height": 64, "width": 512}
    return known | {"fov_up_deg": 3.0, "fov_down_deg": -25.0} | change
