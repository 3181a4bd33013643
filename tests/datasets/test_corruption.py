"""Scans made worse: what is lost, what stays, and that it is always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.corruption import (
    SEVERITIES,
    Corrupted,
    Corruption,
    corrupt_points,
    parse_corruption,
)
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import ConfigError
from rangeseg.geometry.beams import beam_rows, beams_of_points

SCAN = "08/000001"


def points_of(n: int = 2000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 4)) * 20).astype(np.float32)


def corrupted(points: np.ndarray, text: str, scan_id: str = SCAN) -> np.ndarray:
    beams = np.arange(len(points)) % 32
    return corrupt_points(points, parse_corruption(text), scan_id, beams)


@pytest.mark.parametrize("corruption", [*SEVERITIES, Corruption("points", 0.125)])
def test_names_come_back(corruption: Corruption) -> None:
    assert parse_corruption(str(corruption)) == corruption


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fog", "unknown corruption 'fog'; known: beams:N (each Nth beam is kept, N from 2 to 16)"),
        ("all", "unknown corruption 'all'; known: beams:N"),
        ("beams", "write beams:N (each Nth beam"),
        ("beams:1", "write beams:N"),
        ("beams:2.5", "write beams:N"),
        ("beams:17", "write beams:N"),
        ("points:0", "write points:P (a share P of the points is lost, 0 < P < 1)"),
        ("points:1", "write points:P"),
        ("points:nan", "write points:P"),
        ("noise:-1", "write noise:M (noise along the ray, standard deviation M metres, 0 < M"),
        ("noise:inf", "write noise:M"),
        ("noise:a lot", "write noise:M"),
        ("intensity:2", "write intensity (0 everywhere)"),
    ],
)
def test_bad_words_are_refused_with_the_options(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_corruption(text)
    assert str(caught.value).startswith(f"--corrupt {text}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_second_beam_is_kept() -> None:
    points = points_of()
    kept = ~np.isnan(found := corrupted(points, "beams:2")).any(axis=1)
    np.testing.assert_array_equal(kept, np.arange(len(points)) % 2 == 0)
    np.testing.assert_array_equal(found[kept], points[kept])


def test_lost_points_are_a_share_of_all_and_a_higher_share_loses_more_of_the_same() -> None:
    points = points_of(20000)
    half, most = (np.isnan(corrupted(points, f"points:{p}"))[:, 0] for p in (0.5, 0.9))
    assert half.mean() == pytest.approx(0.5, abs=0.02)
    assert most.mean() == pytest.approx(0.9, abs=0.02)
    assert most[half].all()


def test_noise_is_along_the_ray() -> None:
    points = points_of(20000)
    points[:3, :3] = [[0, 0, 0], [np.nan, 1, 1], [np.inf, 1, 1]]
    found = corrupted(points, "noise:0.1")
    np.testing.assert_array_equal(found[:3], points[:3])
    np.testing.assert_array_equal(found[:, 3], points[:, 3])
    was, now = points[3:, :3].astype(float), found[3:, :3].astype(float)
    before, after = np.linalg.norm(was, axis=1), np.linalg.norm(now, axis=1)
    np.testing.assert_allclose(now / after[:, None], was / before[:, None], atol=1e-6)
    assert (after - before).std() == pytest.approx(0.1, rel=0.03)
    assert (after - before).mean() == pytest.approx(0.0, abs=0.005)
    near = np.full((1000, 4), 1e-3, np.float32)  # 1.7 mm away
    assert (np.sign(corrupted(near, "noise:1")[:, :3]) > 0).all()


def test_without_intensity_the_geometry_stays() -> None:
    points = points_of()
    found = corrupted(points, "intensity")
    np.testing.assert_array_equal(found[:, :3], points[:, :3])
    assert not found[:, 3].any()


@pytest.mark.parametrize("text", ["points:0.5", "noise:0.1"])
def test_randomness_belongs_to_the_scan(text: str) -> None:
    points = points_of()
    before = points.copy()
    found = corrupted(points, text)
    np.testing.assert_array_equal(points, before)
    np.testing.assert_array_equal(found, corrupted(points, text))
    assert not np.array_equal(found, corrupted(points, text, "08/000002"), equal_nan=True)


@pytest.mark.parametrize("rule", ["scan_order", "inclination"])
@pytest.mark.parametrize("text", ["beams:2", "points:0.9", "noise:0.3"])
def test_what_is_kept_stays_in_its_row_and_keeps_its_label(
    simulated_root: Path, rule: str, text: str
) -> None:
    source = Simulated(simulated_root)
    settings = RangeImageSettings(height=32, width=256, rows=rule)  # type: ignore[arg-type]
    images = RangeImages(source.info, settings)
    reader = Corrupted(source, parse_corruption(text), images.sensor)
    clean, scan = source.read_scan(SCAN), reader.read_scan(SCAN)
    assert clean.labels is not None
    assert scan.labels is not None
    lost = np.isnan(scan.points[:, 0])
    assert (scan.labels[lost] == IGNORE).all()
    np.testing.assert_array_equal(scan.labels[~lost], clean.labels[~lost])
    (projection, found), (whole, _) = images.project(scan), images.project(clean)
    assert found == rule
    assert (projection.row[lost] == -1).all()
    # Noise along the ray hardly moves an inclination.
    assert (projection.row == whole.row)[~lost].mean() > 0.999
    if text == "beams:2":
        beams = beam_rows(clean.points, source.info.sensor)
        assert beams is not None
        np.testing.assert_array_equal(lost, beams % 2 == 1)
    assert reader.read_scan(SCAN, with_labels=False).labels is None


@pytest.mark.real_data
def test_beams_of_real_scans_and_without_their_order(real_data: Path) -> None:
    source = SemanticKitti(real_data / "semantickitti_mini")
    scan = source.read_scan(source.sequence_ids("08")[0], with_labels=False)
    sensor = source.info.sensor
    beams = beams_of_points(scan.points, sensor)
    np.testing.assert_array_equal(beams, beam_rows(scan.points, sensor))
    order = np.random.default_rng(0).permutation(len(beams))
    shuffled = beams_of_points(scan.points[order], sensor)  # by bands of inclination
    assert (shuffled.min(), shuffled.max()) == (0, 63)
    assert np.abs(shuffled - beams[order]).mean() < 6
