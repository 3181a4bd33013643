"""A coded scan: the same to within the bound that is stated, and nothing believed of bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import Scan
from rangeseg.datasets.packed import codec as packed_codec
from rangeseg.datasets.packed.codec import (
    COORDINATE_ERROR_M,
    INTENSITY_ERROR,
    decode_scan,
    encode_scan,
)
from rangeseg.datasets.packed.kernels import decode_points
from rangeseg.datasets.packed.write import Packable, pack_dataset
from rangeseg.datasets.scan_files import FARTHEST, measured
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_32E, HDL_64E
from tests.datasets import own_scans

# As it is compiled, and as Python runs it, which is an error where a place is outside of an array.
LOOPS = (decode_points, decode_points.py_func)  # type: ignore[attr-defined]


def through(scan: Scan, with_labels: bool = True) -> Scan:
    """Coded and decoded."""
    content = np.frombuffer(encode_scan(scan), dtype=np.uint8).copy()
    return decode_scan(content, scan.scan_id, len(scan.points), with_labels)


def check_points(found: np.ndarray, expected: np.ndarray) -> None:
    """Within the bound that is stated; NaN and (0, 0, 0) where they were."""
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    with np.errstate(invalid="ignore"):
        rounding = np.spacing(np.abs(expected[:, :3])) / 2
        off = np.abs(found[:, :3].astype(np.float64) - expected[:, :3])
        assert np.nanmax(off - rounding, initial=0) <= COORDINATE_ERROR_M * (1 + 1e-9)
        outside = ~((expected[:, 3] >= 0) & (expected[:, 3] <= 1))
        few = len(np.unique(expected[:, 3].view(np.uint32))) <= 256
        exact = outside | few
        np.testing.assert_array_equal(found[exact, 3], expected[exact, 3])
        assert np.nanmax(np.abs(found - expected)[:, 3], initial=0) <= INTENSITY_ERROR + 1e-7
    nothing = (expected[:, :3] == 0).all(axis=1)
    assert (found[nothing, :3] == 0).all()


class TestCodec:
    odd = st.sampled_from(
        [np.nan, np.inf, -np.inf, 3e38, -1e20, 1e6, -1e6, 999_999.9, 1e-45, -0.0, 0.0, 5e-4, 1e4]
    )
    value = st.one_of(odd, st.floats(-100, 100, width=32), st.floats(width=32))

    @settings(max_examples=300, derandomize=True, deadline=None)
    @given(st.lists(st.tuples(value, value, value, value), min_size=1, max_size=40), st.data())
    @example([(np.nan,) * 4], None)
    def test_any_points(self, rows: list[tuple[float, ...]], data: Any) -> None:
        with np.errstate(over="ignore"):
            points = np.array(rows, dtype=np.float64).astype(np.float32)
        count, labels, ring = len(points), None, None
        if data is not None:
            byte = st.lists(st.integers(0, 255), min_size=count, max_size=count)
            labels = np.array(data.draw(byte), dtype=np.uint8)
            ring = data.draw(st.none() | byte.map(lambda beams: np.array(beams, dtype=np.int32)))
        before = points.copy()
        found = through(Scan("a", points, labels, ring))
        np.testing.assert_array_equal(points, before)  # the caller's stay as they are
        check_points(found.points, measured(points, 1.0))
        if labels is not None:
            np.testing.assert_array_equal(found.labels, labels)
        if ring is not None:
            np.testing.assert_array_equal(found.ring, ring)

    @pytest.mark.parametrize("step", [95, 96, -96, -97, 7775, 7776, -7776, -7777, 10**9, -(10**9)])
    def test_every_length_of_a_difference(self, step: int) -> None:
        points = np.zeros((4, 4), dtype=np.float32)
        points[1:3, 0] = np.float32(step / 1000)
        check_points(through(Scan("a", points)).points, points)

    def test_whole_millimetres_are_exact(self) -> None:
        places = np.arange(-300_000, 300_000).reshape(-1, 3)
        points = np.zeros((len(places), 4), dtype=np.float32)
        points[:, :3] = places / 1000
        np.testing.assert_array_equal(through(Scan("a", points)).points, points)

    @pytest.mark.parametrize("different", [1, 2, 255, 256, 257, 5000])
    def test_intensities(self, different: int) -> None:
        rng = np.random.default_rng(different)
        points = rng.normal(0, 9, (6000, 4)).astype(np.float32)
        levels = rng.permutation(np.linspace(0, 1, different, dtype=np.float32))
        points[:, 3] = np.resize(levels, len(points))
        found = through(Scan("a", points)).points
        check_points(found, points)
        assert (found[:, 3] == points[:, 3]).all() == (different <= 256)

    def test_intensities_beyond_one_are_kept(self) -> None:
        points = np.random.default_rng(0).normal(0, 300, (6000, 4)).astype(np.float32)
        points[7, 2] = np.nan
        check_points(through(Scan("a", points)).points, points)

    @pytest.mark.parametrize("runs", [[1], [255], [256], [3, 510, 1, 254, 700], [1] * 500])
    def test_labels(self, runs: list[int]) -> None:
        labels = np.repeat(np.arange(len(runs)) % 19, runs).astype(np.uint8)
        points = np.zeros((len(labels), 4), dtype=np.float32)
        np.testing.assert_array_equal(through(Scan("a", points, labels)).labels, labels)
        assert through(Scan("a", points, labels), with_labels=False).labels is None

    def test_beams_beyond_a_byte_are_refused(self) -> None:
        with pytest.raises(ValueError, match="beams from 0 to 256"):
            encode_scan(Scan("a", np.zeros((2, 4), np.float32), None, np.array([0, 256])))

    @settings(max_examples=400, derandomize=True, deadline=None)
    @given(st.data())
    def test_any_bytes(self, data: Any) -> None:
        points, beams = own_scans.turn(order="firings")
        ring = beams[:40] if data.draw(st.booleans()) else None
        labels = np.zeros(40, dtype=np.uint8)
        content = np.frombuffer(encode_scan(Scan("a", points[:40], labels, ring)), np.uint8).copy()
        where = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6))
        for place in where:
            content[place] = data.draw(st.sampled_from([0, 191, 192, 251, 252, 253, 254, 255]))
        content = content[: data.draw(st.sampled_from([len(content)] * 4 + [where[0]]))]
        outcomes = []
        for loop in LOOPS:
            with mock.patch.object(packed_codec, "decode_points", loop):
                try:
                    scan = decode_scan(content, "a", 40, True)
                except ValueError as error:
                    outcomes.append(str(error))
                else:
                    assert scan.points.shape == (40, 4)
                    assert not (np.abs(scan.points) > FARTHEST * 1.0001).any()
                    outcomes.append(scan.points.tobytes().hex())
        assert outcomes[0] == outcomes[1]

    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize(
        ("codes", "extra"),
        [([code, 96, 96, 0], b"") for code in (192, 221, 222, 251, 252, 254, 255)]
        + [([96, 96, 252, 0], b"abc"), ([96, 96, 96, 255], b"abc")],
    )
    def test_extra_bytes_that_are_missing(
        self, codes: list[int], extra: bytes, loop: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packed_codec, "decode_points", loop)
        content = struct.pack("<IIHH", len(extra), 0, 0, 0) + bytes(codes) + extra
        with pytest.raises(ValueError, match="not coded"):
            decode_scan(np.frombuffer(content, np.uint8).copy(), "a", 1, True)

    @pytest.mark.parametrize("intensity", [3e38, -1e7, np.inf])
    def test_intensities_that_no_source_gives(self, intensity: float) -> None:
        raw = np.float32(intensity).tobytes()
        content = struct.pack("<IIHH", 4, 0, 0, 0) + bytes([96, 96, 96, 255]) + raw
        with pytest.raises(ValueError, match="not coded"):
            decode_scan(np.frombuffer(content, np.uint8).copy(), "a", 1, True)

    def test_runs_that_promise_much(self) -> None:
        runs = bytes([0, 255]) * 1000
        content = struct.pack("<IIHH", 0, len(runs), 0, 12) + bytes([96, 96, 96, 0]) + runs
        with pytest.raises(ValueError, match="labels are not coded"):
            decode_scan(np.frombuffer(content, np.uint8).copy(), "a", 1, True)


@pytest.mark.real_data
class TestRealScans:
    def test_semantic_kitti(self, real_data: Path, tmp_path: Path) -> None:
        source = open_dataset("semantic_kitti", real_data / "semantickitti_mini")
        assert isinstance(source, Packable)
        packing = pack_dataset(source, "semantic_kitti", tmp_path / "kitti.pack")
        assert packing.scans == packing.labelled == 35
        assert packing.raw_bytes == 20 * packing.points
        assert packing.packed_bytes == (tmp_path / "kitti.pack").stat().st_size
        assert packing.raw_bytes > 4.2 * packing.packed_bytes
        packed = open_dataset("semantic_kitti", tmp_path / "kitti.pack")
        for scan_id in ("00/000000", "01/000004", "08/000009"):
            was, now = source.read_scan(scan_id), packed.read_scan(scan_id)
            check_points(now.points, was.points)
            np.testing.assert_array_equal(now.points[:, 3], was.points[:, 3])
            np.testing.assert_array_equal(now.labels, was.labels)
            assert len(was.points) * 16 > 3.4 * len(encode_scan(Scan("a", was.points)))

    def test_rows_stay(self, real_data: Path) -> None:
        source = open_dataset("semantic_kitti", real_data / "semantickitti_mini")
        for scan_id in ("00/000000", "04/000009", "08/000004"):
            was = source.read_scan(scan_id, False).points
            now = through(Scan("a", was)).points
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

    def test_nuscenes(self, real_data: Path) -> None:
        (path,) = (real_data / "nuscenes_demo_sweep").glob("*.bin")
        values = np.fromfile(path, dtype="<f4").reshape(-1, 5)
        points = measured(values[:, :4].copy(), 255)
        ring = (31 - values[:, 4]).astype(np.int32)
        content = encode_scan(Scan("a", points, None, ring))
        assert values.nbytes > 3.2 * len(content)
        found = through(Scan("a", points, None, ring))
        check_points(found.points, points)
        np.testing.assert_array_equal(found.points[:, 3], points[:, 3])
        np.testing.assert_array_equal(found.ring, ring)
        order = HDL_32E.resized(32, 1920, "file_order")
        np.testing.assert_array_equal(beam_rows(found.points, order), beam_rows(points, order))

    def test_scans_in_columns(self, real_data: Path) -> None:
        """PandaSet lists the beams of a firing that saw something; RELLIS lists all."""
        path = min((real_data / "pandaset_semkitti").glob("sequences/*/velodyne/*.bin"))
        for file in (path, real_data / "rellis3d_example" / "000104.bin"):
            points = np.fromfile(file, dtype="<f4").reshape(-1, 4)
            assert points.nbytes > 2.5 * len(encode_scan(Scan("a", points)))
            check_points(through(Scan("a", points)).points, points)
