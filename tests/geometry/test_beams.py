"""Rows from the order of the file and from rings, and the fall back to the inclination."""

import logging

import numpy as np
import pytest

from rangeseg.geometry import beams as rows
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.sensor import HDL_32E, HDL_64E, Sensor

FOUR = Sensor("four", 4, 4, 36, fov_up_deg=5, fov_down_deg=-20, row_rule="scan_order")


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_warned", set())


def turns(*azimuths_deg: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """A scan that lists one beam after the other, and the beam of each point."""
    angle = np.radians(np.concatenate(azimuths_deg))
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle - 0.1, 0 * angle], 1) * 7
    beams = np.repeat(np.arange(len(azimuths_deg)), [len(a) for a in azimuths_deg])
    return points.astype(np.float32), beams


def around(first: float = 0.5, last: float = 359.5) -> list[float]:
    return list(np.linspace(first, last, 60))


def test_scan_order_starts_a_row_where_the_azimuth_wraps() -> None:
    points, beams = turns(around(), around(8), around(20, 340), around(0.0, 352))
    found = beam_rows(points, FOUR)
    np.testing.assert_array_equal(found, beams)
    assert found.dtype == np.int32


def test_points_that_are_nowhere_make_no_row() -> None:
    points, beams = turns(around(), around(), around(), around())
    rng = np.random.default_rng(0)
    lost = rng.choice(len(points), 90, replace=False)
    points[lost[:30], rng.integers(0, 2, 30)] = np.nan
    points[lost[30:60], :3] = 0.0
    points[lost[60:]] = np.inf
    np.testing.assert_array_equal(np.delete(beam_rows(points, FOUR), lost), np.delete(beams, lost))


def test_jitter_over_the_line_ahead_makes_no_row() -> None:
    points, _ = turns(around(), [0.2, 359.9, 0.1, *around(1)], [359.8, *around()], around())
    assert beam_rows(points, FOUR).max() == 3


def test_beams_that_see_only_one_side() -> None:
    points, beams = turns(around(5, 150), around(10, 355), [20, 60, 300, 350], around(100, 359))
    np.testing.assert_array_equal(beam_rows(points, FOUR), beams)


def test_another_number_of_rows_falls_back_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points, _ = turns(around(), around(), around())
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        assert beam_rows(points, FOUR) is None
        assert beam_rows(points, FOUR) is None
        assert beam_rows(points, FOUR.resized(2, 18)) is None
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "sensor four: rows by scan_order" in message
    assert "3 beams where the sensor has 4" in message
    assert "inclination" in message


def test_a_last_beam_that_jitters_ahead_and_back_is_one_too_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points, _ = turns(around(), around(), around(), [*around(), 0.1, 359.9])
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        assert beam_rows(points, FOUR) is None
    assert "5 beams where the sensor has 4" in caplog.text


def test_each_sensor_warns_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    points, _ = turns(around())
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        assert beam_rows(points, FOUR) is None
        assert beam_rows(points, HDL_64E) is None
    assert len(caplog.records) == 2


def test_a_scan_without_points_falls_back() -> None:
    assert beam_rows(np.zeros((0, 4), dtype=np.float32), FOUR) is None


def test_ring_is_taken_as_it_is_or_missed_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    points, beams = turns(around(), around())
    found = beam_rows(points, HDL_32E, ring=beams)
    np.testing.assert_array_equal(found, beams)
    assert found.dtype == np.int32
    with caplog.at_level(logging.WARNING, logger="rangeseg.geometry.beams"):
        assert beam_rows(points, HDL_32E) is None
        assert beam_rows(points, HDL_32E) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no ring" in caplog.text


def test_inclination_asks_for_no_beams(caplog: pytest.LogCaptureFixture) -> None:
    points, beams = turns(around())
    assert beam_rows(points, FOUR.resized(4, 36, "inclination"), ring=beams) is None
    assert not caplog.records
