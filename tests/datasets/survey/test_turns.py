"""The width of real scans, whole and with points missing or doubled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.survey.row_rules import RowRules
from rangeseg.datasets.survey.turns import Turns
from tests.datasets.own_scans import FIRINGS, turn
from tests.datasets.survey import wrong_scans as wrong

TRUE = {"kitti": 2000, "panda": 1800, "nuscenes": 1084, "rellis": 2048, "xt16": 2000, "vlp16": 1800}
"""Columns: of turns at 10 Hz (PandaSet, VLP-16, XT16), and as counted in whole files."""


@pytest.fixture(scope="module")
def scans(real_data: Path) -> dict[str, np.ndarray]:
    formats = real_data / "formats"
    return {
        "kitti": wrong.read(wrong.kitti_paths(real_data)[11]),
        "panda": wrong.read(
            real_data / "pandaset_semkitti" / "sequences" / "01" / "velodyne" / "000000.bin"
        ),
        "nuscenes": wrong.nuscenes(real_data),
        "rellis": wrong.read(real_data / "rellis3d_example" / "000104.bin"),
        "xt16": wrong.read(formats / "xt16_binary_xyz.pcd"),
        "vlp16": wrong.read(formats / "vlp16_binary_ring.pcd"),
    }


def measured(points: np.ndarray) -> Turns:
    turns = Turns()
    turns.add(points[:, :3])
    return turns


CHANGES: list[tuple[wrong.Change, float]] = [
    (lambda points: points, 360), (wrong.dropped(0.18), 360), (wrong.dropped(0.6), 360),
    (wrong.dual, 360), (wrong.front(90), 90), (wrong.front(120), 120),
]  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize(("change", "view"), CHANGES)
def test_width(change: wrong.Change, view: float, scans: dict[str, np.ndarray]) -> None:
    """Within 5 % of the true one, whatever is missing."""
    for name, points in scans.items():
        turns = measured(change(points))
        assert turns.step_deg is not None, name
        left, right = turns.view_deg
        # Of the VLP-16, in a room, nothing lies left of 51 degrees.
        assert left - right == pytest.approx(view, abs=10 if name == "vlp16" else 2), name
        columns = TRUE[name] * (left - right) / 360
        assert turns.columns(turns.step_deg) == pytest.approx(columns, rel=0.05), name


@pytest.mark.real_data
def test_no_step(scans: dict[str, np.ndarray]) -> None:
    assert measured(wrong.rosette()).step_deg is None
    assert measured(wrong.merged(1.0)(scans["nuscenes"])).step_deg is None


def test_made_up_scans() -> None:
    turns = Turns()
    for seed in range(3):
        turns.add(turn(seed)[0][:, :3])
    assert turns.step_deg == pytest.approx(360 / FIRINGS, rel=0.01)
    assert turns.columns(turns.step_deg or 1.0) == FIRINGS
    assert turns.view_deg == (180, -180)


def test_a_rear_view() -> None:
    points, _ = turn()
    behind = points[points[:, 0] < -np.abs(points[:, 1])]  # a quarter
    assert measured(behind).view_deg == (225, 135)
    left = points[points[:, 1] > np.abs(points[:, 0])]
    assert measured(left).view_deg == (135, 45)
    assert measured(points[:0]).view_deg == (180, -180)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "beams"), [("vlp16", 16), ("xt16", 16), ("kitti", 64)])
def test_rows(name: str, beams: int, scans: dict[str, np.ndarray]) -> None:
    """Also indoors, where little is far away, and where second returns follow the first ones."""
    for points in (scans[name], wrong.dual(scans[name])):
        rules = RowRules()
        rules.add(Scan("0", np.ascontiguousarray(points)))
        assert next(f.beams for f in rules.findings() if f.beams is not None) == beams
