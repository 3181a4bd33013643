"""A packed scan: the same to within the stated bound."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rangeseg.datasets.base import Scan
from rangeseg.datasets.packed.codec import COORDINATE_ERROR_M, decode_scan, encode_scan
from rangeseg.datasets.scan_files import measured
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_64E


def through(scan: Scan) -> Scan:
    """Packed and read again."""
    content = np.frombuffer(encode_scan(scan), dtype=np.uint8)
    return decode_scan(content, scan.scan_id, len(scan.points), True)


def check_same(found: Scan, expected: Scan) -> None:
    """Coordinates within the bound, NaN and (0, 0, 0) where they were, everything else exact."""
    assert found.scan_id == expected.scan_id
    assert found.points.dtype == np.float32
    was = expected.points
    np.testing.assert_array_equal(np.isnan(found.points), np.isnan(was))
    off = np.abs(found.points[:, :3].astype(np.float64) - was[:, :3])
    rounding = np.spacing(np.abs(was[:, :3])) / 2
    assert np.nanmax(off - rounding, initial=0) <= COORDINATE_ERROR_M * (1 + 1e-9)
    assert (found.points[was == 0] == 0).all()
    np.testing.assert_array_equal(found.points[:, 3], was[:, 3])
    for now, before in ((found.labels, expected.labels), (found.ring, expected.ring)):
        assert (now is None) == (before is None)
        if now is not None and before is not None:
            assert now.dtype == before.dtype
            np.testing.assert_array_equal(now, before)


odd = st.sampled_from([np.nan, np.inf, 3e38, -1e20, 1e6, -1e6, 999_999.9, 1e-45, -0.0, 5e-4, 1e4])
value = st.one_of(odd, st.floats(-100, 100, width=32), st.floats(width=32))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(value, value, value, value), min_size=1, max_size=40), st.data())
def test_any_scan(rows: list[tuple[float, ...]], data: st.DataObject) -> None:
    with np.errstate(over="ignore"):
        points = np.array(rows, dtype=np.float64).astype(np.float32)
    numbers = st.lists(st.integers(0, 255), min_size=len(points), max_size=len(points))
    labels = data.draw(st.none() | numbers.map(lambda n: np.array(n, dtype=np.uint8)))
    ring = data.draw(st.none() | numbers.map(lambda n: np.array(n, dtype=np.int32)))
    before = points.copy()
    found = through(Scan("a", points, labels, ring))
    np.testing.assert_array_equal(points, before)  # the caller's array is not changed
    check_same(found, Scan("a", measured(points, 1.0), labels, ring))


@pytest.mark.parametrize("different", [1, 256, 257, 5000])
def test_intensities_are_exact(different: int) -> None:
    """From a table, or as they are."""
    rng = np.random.default_rng(different)
    points = rng.normal(0, 9, (6000, 4)).astype(np.float32)
    points[:, 3] = np.resize(rng.normal(0, 300, different), len(points))
    check_same(through(Scan("a", points)), Scan("a", points))


class TestWrongBytes:
    points = np.random.default_rng(0).normal(0, 9, (400, 4)).astype(np.float32)

    def refused(self, content: bytes | bytearray, points: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            decode_scan(np.frombuffer(content, dtype=np.uint8), "a", points, True)

    def test_cut_off(self) -> None:
        content = encode_scan(Scan("a", self.points))
        self.refused(content[:9], 400, "it has 9 bytes")
        self.refused(content[:-1], 400, "its parts have")

    @pytest.mark.parametrize("points", [1, 399, 401, 1 << 24])
    def test_another_number_of_points(self, points: int) -> None:
        self.refused(encode_scan(Scan("a", self.points)), points, f"hold {12 * points} bytes")

    def test_a_part_that_promises_more_than_the_array_holds(self) -> None:
        content = bytearray(encode_scan(Scan("a", self.points)))
        content[24:28] = struct.pack("<I", 1 << 30)  # of the first chunk: bytes when unpacked
        self.refused(content, 400, "does not hold 4800 bytes")

    changes = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4)

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(changes)
    def test_any_others(self, changes: list[tuple[int, int]]) -> None:
        """Refused, or a scan of this size: never a crash."""
        labels = np.zeros(400, dtype=np.uint8)
        content = bytearray(encode_scan(Scan("a", self.points, labels, labels.astype(np.int32))))
        for place, byte in changes:
            content[place % len(content)] = byte
        with suppress(ValueError):
            scan = decode_scan(np.frombuffer(content, dtype=np.uint8), "a", 400, True)
            assert scan.points.shape == (400, 4)


@pytest.mark.real_data
class TestRealScans:
    def test_rows_stay(self, real_data: Path) -> None:
        source = SemanticKitti(real_data / "semantickitti_mini")
        for scan_id in ("00/000000", "04/000009", "08/000004"):
            scan = source.read_scan(scan_id)
            packed = through(scan)
            check_same(packed, scan)
            was, now = scan.points, packed.points
            assert was.nbytes > 4 * len(encode_scan(Scan("a", was)))
            beams = [beam_rows(points, HDL_64E) for points in (was, now)]
            assert beams[0] is not None
            assert beams[1] is not None  # the rule still holds: no scan falls back
            assert (beams[0] == beams[1]).mean() > 0.9999
            for rows in (beams, (None, None)):
                a, b = (
                    project_points(p, HDL_64E, r) for p, r in zip((was, now), rows, strict=True)
                )
                assert (a.row == b.row).mean() > 0.98
                assert (a.col == b.col).mean() > 0.98

    def test_scans_in_columns(self, real_data: Path) -> None:
        """PandaSet and nuScenes list the beams of a firing that saw something; RELLIS lists all."""
        pandaset = min((real_data / "pandaset_semkitti").glob("sequences/*/velodyne/*.bin"))
        (nuscenes,) = (real_data / "nuscenes_demo_sweep").glob("*.bin")
        rellis = real_data / "rellis3d_example" / "000104.bin"
        for path, columns in ((pandaset, 4), (nuscenes, 5), (rellis, 4)):
            values = np.fromfile(path, dtype="<f4").reshape(-1, columns)
            ring = values[:, 4].astype(np.int32) if columns == 5 else None
            scan = Scan("a", measured(values[:, :4].copy(), 1.0), None, ring)
            assert values.nbytes > 2.4 * len(encode_scan(scan))
            check_same(through(scan), scan)
