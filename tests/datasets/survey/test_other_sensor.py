"""Real scans in their own sensor's eyes, and in those of another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import measured, read_points
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.other_sensor import judge_for_network, judge_sensor_of
from rangeseg.geometry.sensor import HDL_32E, HDL_64E, Sensor

pytestmark = pytest.mark.real_data

VLP_16 = Sensor("VLP-16", 16, 16, 1024, 16.0, -16.0)
P_64 = Sensor("Pandar64", 64, 64, 2048, 15.2, -25.2)


def evidence(path: Path, layout: Layout | None = None, sensor: Sensor = HDL_64E) -> Evidence:
    layout = layout or Layout()
    points = measured(read_points(path, layout).points, layout.intensity_max)
    return Evidence(
        path.stem, points, layout, file_name=path.name, beams=sensor.beams, view_deg=sensor.view_deg
    )


def scans(root: Path) -> Iterator[tuple[Evidence, Sensor]]:
    for path in sorted((root / "semantickitti_mini").rglob("velodyne/*.bin"))[::7]:
        yield evidence(path), HDL_64E
    for path in sorted((root / "pandaset_semkitti").rglob("velodyne/*.bin"))[::4]:
        yield evidence(path), P_64
    for path in (root / "nuscenes_demo_sweep").glob("*.bin"):
        yield evidence(path, Layout(columns=5, intensity_max=255)), HDL_32E
    for name in ("p64_ascii", "p64_compressed_ring_time"):
        yield evidence(root / "formats" / f"{name}.pcd"), P_64
    for name in ("vlp16_binary_ring", "xt16_binary_xyz"):
        yield evidence(root / "formats" / f"{name}.pcd"), VLP_16


def test_own_and_other_sensors(real_data: Path) -> None:
    seen = 0
    for found, own in scans(real_data):
        assert list(judge_sensor_of(found, own)) == [], found.scan_id
        for other in {HDL_64E, HDL_32E, VLP_16, P_64} - {own}:
            if {own, other} == {HDL_64E, P_64}:
                continue  # as many beams, and 98 % of the points lie in both views
            (verdict,) = judge_sensor_of(found, other)
            assert (verdict.name, verdict.refused) == ("other_sensor", False)
            seen += 1
    assert seen > 20


def test_the_verdict_holds_figures(real_data: Path) -> None:
    found = evidence(real_data / "formats" / "vlp16_binary_ring.pcd", Layout(intensity_max=255))
    verdicts = {v.name: v for v in judge_for_network(found, HDL_64E, True)}
    assert "lost_echoes" not in verdicts  # by the network's beams nearly all
    text = str(verdicts["other_sensor"])
    assert text.startswith("vlp16_binary_ring shows about 10 beams from 15.0 to -11.0 degrees, 63%")
    assert "sensor HDL-64E (64 beams, 3 to -25 degrees): another sensor, so labels" in text
    accepted = replace(found, layout=Layout(intensity_max=255, accept=("other_sensor",)))
    assert "other_sensor" not in {v.name for v in judge_for_network(accepted, HDL_64E, True)}


def test_a_part_of_the_view(real_data: Path) -> None:
    front = replace(HDL_64E, azimuth_left_deg=45.0, azimuth_right_deg=-45.0)
    path = min((real_data / "semantickitti_mini").rglob("velodyne/*.bin"))
    found = evidence(path)
    (verdict,) = judge_sensor_of(found, front)
    assert "3 to -25 degrees, azimuth 45 to -45)" in verdict.seen
    ahead = np.abs(np.arctan2(found.points[:, 1], found.points[:, 0])) < np.pi / 4
    assert list(judge_sensor_of(replace(found, points=found.points[ahead]), front)) == []


def test_intensity_matters_where_the_network_reads_it(real_data: Path) -> None:
    found = replace(evidence(real_data / "formats" / "xt16_binary_xyz.pcd"), has_intensity=False)
    needed = {v.name: v for v in judge_for_network(found, VLP_16, True)}
    assert needed["no_intensity"].refused
    assert str(needed["no_intensity"]).startswith(
        "xt16_binary_xyz.pcd holds no intensity: the network needs it; name its field, layout.fie"
    )
    assert "no_intensity" not in {v.name for v in judge_for_network(found, VLP_16, False)}
