"""Real scans: somebody else's projection, the rows of real files, and the way there and back."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.geometry.backprojection import nearest_label, own_pixel
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_32E, HDL_64E, RowRule
from tests.benchmarks.round_trip import read_scans, round_trip

pytestmark = pytest.mark.real_data

# SemanticKITTI's raw ids -> its own learning ids, 0 for what is ignored; typed from
# semantic-kitti.yaml, independently of rangeseg.datasets.
LEARNING_ID = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9,
    44: 10, 48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19,
    99: 0, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5,
}  # fmt: skip


def read_points(path: Path, columns: int = 4) -> np.ndarray:
    return np.fromfile(path, dtype=np.float32).reshape(-1, columns)


@pytest.fixture(scope="module")
def scans(real_data: Path) -> list[Scan]:
    return list(read_scans(real_data / "semantickitti_mini"))


@pytest.mark.parametrize("scan_id", ["00/000000", "08/000000"])
def test_agrees_with_the_golden_projection(real_data: Path, scan_id: str) -> None:
    sequence, frame = scan_id.split("/")
    folder = real_data / "semantickitti_mini" / "sequences" / sequence
    points = read_points(folder / "velodyne" / f"{frame}.bin")
    raw = np.fromfile(folder / "labels" / f"{frame}.label", dtype=np.uint32) & 0xFFFF
    labels = np.array([LEARNING_ID[label] for label in raw.tolist()], dtype=np.uint8)
    golden = np.load(real_data / "semantickitti_rangeimg_ref" / f"{sequence}_{frame}.npz")
    golden_range, golden_label = golden["xyzir"][..., 4], golden["label"]

    projection = project_points(points, HDL_64E.resized(64, 1024, "inclination"))
    valid = projection.valid
    np.testing.assert_array_equal(valid, golden_range > 0)
    ours = to_image(projection.depth, projection.point_index, 0)
    np.testing.assert_allclose(ours, golden_range, atol=1e-3)
    agree = to_image(labels, projection.point_index, 0) == golden_label
    assert agree[valid].mean() >= 0.9999


def test_scan_order_finds_all_beams_of_all_scans(
    scans: list[Scan], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(scans) == 35
    for scan in scans:
        beams = beam_rows(scan.points, HDL_64E)
        assert beams is not None, scan.scan_id
        azimuth = np.arctan2(scan.points[:, 1], scan.points[:, 0]) % (2 * np.pi)
        wraps = np.concatenate([[0], np.cumsum(np.diff(azimuth) < -np.pi)])
        np.testing.assert_array_equal(beams, wraps, err_msg=scan.scan_id)
        assert beams[-1] == 63
        inclination = np.arctan2(scan.points[:, 2], np.hypot(scan.points[:, 0], scan.points[:, 1]))
        assert inclination[beams < 8].mean() > inclination[beams > 55].mean() + 0.3
    assert not caplog.records


def test_kitti_by_scan_order_loses_few_points(scans: list[Scan]) -> None:
    def lost(scan: Scan, rule: RowRule) -> float:
        sensor = HDL_64E.resized(64, 2048, rule)
        projection = project_points(scan.points, sensor, beam_rows(scan.points, sensor))
        return float(1.0 - projection.valid.sum() / (projection.row >= 0).sum())

    by_scan_order = [lost(scan, "scan_order") for scan in scans]
    assert np.mean(by_scan_order) <= 0.10
    assert max(by_scan_order) < min(lost(scan, "inclination") for scan in scans)


def test_pandaset_has_no_rows_by_scan_order(
    real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sensor = replace(HDL_64E, name="Pandar64")
    paths = sorted((real_data / "pandaset_semkitti").glob("sequences/*/velodyne/*.bin"))
    assert len(paths) >= 4
    with caplog.at_level(logging.WARNING):
        for path in paths:
            assert beam_rows(read_points(path), sensor) is None
    assert len(caplog.records) == 1


def test_nuscenes_by_ring_loses_few_points(real_data: Path) -> None:
    (path,) = (real_data / "nuscenes_demo_sweep").glob("*.bin")
    sweep = read_points(path, columns=5)
    assert len(sweep) == 34_688
    ring = 31 - sweep[:, 4].astype(np.int32)  # the file counts from the lowest beam
    points = sweep[:, :4]
    projection = project_points(points, HDL_32E, beam_rows(points, HDL_32E, ring))
    far = np.linalg.norm(points[:, :3].astype(np.float64), axis=1) >= 1.0
    np.testing.assert_array_equal(projection.row >= 0, far)
    assert 1.0 - projection.valid.sum() / far.sum() <= 0.015
    by_inclination = project_points(points, HDL_32E)
    assert projection.valid.sum() > by_inclination.valid.sum()
    labels = np.zeros(HDL_32E.height * HDL_32E.width, dtype=np.uint8).reshape(HDL_32E.height, -1)
    assert len(nearest_label(labels, projection)) == len(own_pixel(labels, projection)) == 34_688


def test_rellis_zeros_are_nowhere(real_data: Path) -> None:
    points = read_points(real_data / "rellis3d_example" / "000104.bin")
    projection = project_points(points, HDL_64E)
    nowhere = ~points[:, :3].any(axis=1)
    assert nowhere.sum() == 53_364
    np.testing.assert_array_equal(projection.row == -1, nowhere)


@pytest.mark.parametrize(
    ("rule", "window_at_least", "own_at_least"),
    [("inclination", 96.5, 86.0), ("scan_order", 99.0, 95.0)],
)
def test_perfect_labels_survive_the_round_trip(
    scans: list[Scan], rule: RowRule, window_at_least: float, own_at_least: float
) -> None:
    result = round_trip(scans, HDL_64E.resized(64, 2048, rule))
    assert result["nearest_label"].pooled >= window_at_least
    assert result["own pixel"].pooled >= own_at_least
    assert result["nearest_point"].scans >= result["nearest_label"].scans
