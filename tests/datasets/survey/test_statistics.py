"""What is measured of scans, against naive versions; the warning of a wrong field of view."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.survey.statistics import (
    Finding,
    ScanStatistics,
    field_of_view_warning,
    measure_images,
    measure_scans,
)
from rangeseg.errors import DataError
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import CHANNELS, make_range_image
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_32E, HDL_64E, RowRule, Sensor
from tests.datasets.own_scans import (
    BEAMS,
    DESCRIPTION,
    FIRINGS,
    FOV_DOWN,
    FOV_UP,
    turn,
    write_points,
    write_root,
)


def own(root: Path, **changes: Any) -> Custom:
    return Custom(root, Description.model_validate({**DESCRIPTION, **changes}))


def spinner(rule: RowRule = "inclination", **changes: Any) -> Sensor:
    sensor = Sensor("spinner", BEAMS, BEAMS, FIRINGS, FOV_UP + 1, FOV_DOWN - 1, rule)
    return replace(sensor, **changes)


def test_scans_are_measured(tmp_path: Path) -> None:
    source = own(write_root(tmp_path))
    points, _ = turn(100)
    points[:7], points[7:12, :3] = 0.0, np.nan  # empty
    points[20:50, :3] *= 0.02  # near
    write_points(tmp_path, "01/000000", points)
    source.paths("02/000003")[1].unlink()
    ids = source.scan_ids("train")
    measured = measure_scans(source, ids)
    assert (measured.scans, measured.labelled) == (8, 7)
    assert measured.points == 8 * BEAMS * FIRINGS
    assert measured.empty == 12
    assert measured.near == 30
    assert measured.min_range == 0.0
    assert measured.inclination_deg[0] == pytest.approx(FOV_DOWN, abs=0.02)
    assert measured.inclination_deg[-1] == pytest.approx(FOV_UP, abs=0.02)
    assert measured.inclination_deg[2] == pytest.approx(-5, abs=1.1)  # the median
    assert measured.intensity == pytest.approx((0, 1, 1), abs=2e-3)
    assert (measured.best.rule, measured.beams, measured.columns) == ("file_order", BEAMS, FIRINGS)
    assert measured.field_of_view_deg == (-21.1, 11.1)  # a degree, rounded outward
    labels = np.concatenate(
        [source.read_scan(i).labels for i in source.labelled_ids("train")]  # type: ignore[misc]
    )
    np.testing.assert_array_equal(measured.counts, np.bincount(labels, minlength=256))


def test_scans_without_a_position_are_refused(tmp_path: Path) -> None:
    write_points(tmp_path, "01/000000", np.zeros((50, 4)))
    with pytest.raises(DataError, match=r"no point of 1 scans of .* has a position"):
        measure_scans(own(tmp_path), ["01/000000"])


@pytest.mark.parametrize(
    ("most", "highest", "current", "scale"),
    [
        (0.9, 1.0, 1.0, 1.0), (0.99, 0.99, 255.0, 255.0), (239, 251, 1.0, 255.0),
        (2.4, 2.5, 100.0, 255.0), (3000, 4095, 1.0, 4095.0), (150, 60000, 1.0, 150.0),
        (0.0095, 0.0115, 1.0, 0.0095), (0.01234, 0.5, 1.0, 0.013), (9e4, 1e5, 1.0, 1e5),
        (0.0, 0.0, 1.0, 1.0),
    ],
)  # fmt: skip
def test_intensity_max(most: float, highest: float, current: float, scale: float) -> None:
    measured = ScanStatistics(
        1, 1, 1, 0, 0, (-1.0, 1.0), (0.0, most, highest), (Finding("ring", 4, ""),), False,
        (180.0, -180.0), None, 1, np.zeros(256),
    )  # fmt: skip
    assert measured.intensity_max(current) == pytest.approx(scale)


@pytest.mark.parametrize("rule", ["file_order", "inclination"])
def test_images_against_naive_ones(rule: RowRule, tmp_path: Path) -> None:
    """Small images, so that points share pixels."""
    root = write_root(tmp_path, scans=2)
    source = own(root)
    ids = source.scan_ids("train")
    sensor = spinner(rule, height=8, width=64)
    other: RowRule = "inclination" if rule == "file_order" else "file_order"
    measured = measure_images(source, ids, [sensor, replace(sensor, row_rule=other)])
    assert set(measured.fills) == {"file_order", "inclination"}

    filled = lost = hidden = points = 0
    values: dict[str, list[float]] = {channel: [] for channel in CHANNELS}
    for scan_id in ids:
        scan = source.read_scan(scan_id)
        projection = project_points(scan.points, sensor, beam_rows(scan.points, sensor))
        image = make_range_image(scan.points, projection, CHANNELS, {})
        for row, col in np.ndindex(8, 64):
            if projection.point_index[row, col] >= 0:
                filled += 1
                for channel, value in zip(CHANNELS, image[:, row, col], strict=True):
                    values[channel].append(float(value))
        for i in range(len(scan.points)):
            owner = projection.point_index[projection.row[i], projection.col[i]]
            points += 1
            lost += owner != i
            hidden += projection.depth[i] > projection.depth[owner] + 0.5
    fill = measured.fills[rule]
    assert fill.filled == pytest.approx(filled / (len(ids) * 8 * 64))
    assert fill.lost == pytest.approx(lost / points)
    assert fill.hidden == pytest.approx(hidden / points)
    assert 0 < fill.hidden < fill.lost < 1
    assert set(measured.channels) == set(CHANNELS) - {"valid"}
    for channel, (mean, deviation) in measured.channels.items():
        assert mean == pytest.approx(np.mean(values[channel]), abs=1e-5)
        assert deviation == pytest.approx(np.std(values[channel]), abs=1e-5)


def test_nothing_projected_is_refused(tmp_path: Path) -> None:
    source = own(write_root(tmp_path, scans=1))
    with pytest.raises(DataError, match="was projected: check min_range"):
        measure_images(source, ["01/000000"], [spinner(min_range=100.0)])


class TestFieldOfViewWarning:
    def test_a_field_of_view_that_fits(self) -> None:
        points, _ = turn()
        assert field_of_view_warning(points, spinner()) is None

    def test_one_that_does_not(self) -> None:
        points, _ = turn()
        text = field_of_view_warning(points, spinner(fov_up_deg=3.0, fov_down_deg=-25.0))
        assert text is not None
        assert text.startswith("25.0% of a scan's points lie outside")  # the upper 4 of 16 beams
        assert "sensor spinner, -25 to 3 degrees" in text
        assert "from -20.0 to 10.0" in text
        assert field_of_view_warning(points, spinner(fov_down_deg=-15.0)) is not None

    def test_rows_that_need_none(self) -> None:
        points, _ = turn()
        narrow = spinner(fov_up_deg=0.0)
        assert field_of_view_warning(points, replace(narrow, row_rule="file_order")) is None
        assert field_of_view_warning(points, replace(narrow, row_rule="ring")) is None
        by_turns = replace(narrow, row_rule="scan_order")  # which these points do not allow
        assert field_of_view_warning(points, by_turns) is not None

    def test_what_is_not_projected_does_not_count(self) -> None:
        points, _ = turn()
        points[points[:, 2] > 0] *= 0.01
        assert field_of_view_warning(points, spinner(fov_up_deg=0.0, min_range=1.0)) is None
        points[points[:, 2] > 0, :3] = 0.0
        assert field_of_view_warning(points, spinner(fov_up_deg=0.0)) is None
        assert field_of_view_warning(np.zeros((9, 4), dtype=np.float32), spinner()) is None

    @pytest.mark.real_data
    def test_real_scans(self, real_data: Path) -> None:
        def read(path: Path, columns: int = 4) -> np.ndarray:
            return np.fromfile(path, dtype=np.float32).reshape(-1, columns)[:, :4]

        literature = replace(HDL_64E, row_rule="inclination")
        kitti = sorted(real_data.glob("semantickitti_mini/sequences/*/velodyne/*.bin"))
        assert len(kitti) == 35
        assert [field_of_view_warning(read(path), literature) for path in kitti] == [None] * 35
        (sweep,) = real_data.glob("nuscenes_demo_sweep/*.bin")
        assert (
            field_of_view_warning(read(sweep, 5), replace(HDL_32E, row_rule="inclination")) is None
        )
        pandaset = sorted(real_data.glob("pandaset_semkitti/sequences/*/velodyne/*.bin"))
        assert len(pandaset) == 8
        for path in pandaset:
            text = field_of_view_warning(read(path), HDL_64E)
            assert text is not None
            assert "sensor HDL-64E, -25 to 3 degrees" in text
            assert "to 15.0" in text or "to 14.9" in text or "to 15.1" in text
