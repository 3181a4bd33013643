"""Fields of all sorts as columns: which is what, and in which unit the times are."""

from __future__ import annotations

import numpy as np
import pytest

from rangeseg.datasets.formats import find_roles
from rangeseg.datasets.importing.columns import as_labels, find_columns
from rangeseg.errors import DataError

STAMP_S = 1_673_400_471.5
SINCE = np.array([0.0, 0.02, 0.05, 0.0999])
XYZ = {name: np.arange(4.0) for name in "xyz"}


def test_columns_by_role_and_not_by_order() -> None:
    fields = {
        "Ring": np.arange(4, dtype=np.uint16), "reflectivity": np.full(4, 200, np.uint8),
        "z": np.full(4, 3.0), "y": np.full(4, 2.0), "x": np.full(4, np.nan), "ambient": np.zeros(4),
    }  # fmt: skip
    columns = find_columns(find_roles(tuple(fields), {}), fields)
    assert columns.names == ("x", "y", "z", "intensity", "ring")
    points = columns.points(fields, STAMP_S)
    assert points.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(
        points, np.stack([[np.nan] * 4, [2] * 4, [3] * 4, [200] * 4, range(4)], axis=1)
    )


def test_no_intensity_is_zero() -> None:
    columns = find_columns({"x": "x", "y": "y", "z": "z"}, XYZ)
    assert columns.names == ("x", "y", "z", "intensity")
    assert (columns.points(XYZ, None)[:, 3] == 0).all()


@pytest.mark.parametrize(
    "times",
    [
        SINCE,
        SINCE.astype(np.float32),
        SINCE * 1e3,
        SINCE * 1e6,
        (SINCE * 1e9).astype(np.uint32),  # Ouster, Livox
        SINCE + STAMP_S,  # Hesai, RoboSense
        (SINCE + STAMP_S) * 1e9,
        ((SINCE + STAMP_S) * 1e9).astype(np.uint64),
        ((SINCE + STAMP_S) * 1e6).astype(np.uint64),
        SINCE + 345.0,  # of the sensor's own clock: relative to the first point
    ],
    ids=[
        "s",
        "float32",
        "ms",
        "us",
        "ns",
        "absolute",
        "absolute_ns",
        "uint64_ns",
        "uint64_us",
        "own_clock",
    ],
)
def test_times_in_seconds_since_the_scan(times: np.ndarray) -> None:
    fields = XYZ | {"time": times}
    columns = find_columns(find_roles(tuple(fields), {}), fields)
    np.testing.assert_allclose(columns.points(fields, STAMP_S)[:, 4], SINCE, atol=2e-6)


def test_whole_numbers_are_nanoseconds() -> None:
    """However short: the VLP-16 file's driver counts from each packet, 1.3 ms."""
    fields = XYZ | {"time_stamp": np.array([2303, 4607, 900_000, 1_306_368], np.uint32)}
    columns = find_columns(find_roles(tuple(fields), {}), fields)
    times = columns.points(fields, STAMP_S)[:, 4]
    np.testing.assert_allclose(times, fields["time_stamp"] * 1e-9, rtol=1e-6)


def test_times_that_run_backwards_from_the_stamp() -> None:
    fields = XYZ | {"time": SINCE - 0.1}
    columns = find_columns(find_roles(tuple(fields), {}), fields)
    np.testing.assert_allclose(columns.points(fields, STAMP_S)[:, 4], SINCE - 0.1, atol=1e-6)


def test_labels_of_any_type() -> None:
    for kind in ("u1", "i4", "u8", "f4"):
        labels = as_labels(np.array([0, 40, 7], kind), "here")
        assert labels.dtype == np.dtype("<u4")
        assert labels.tolist() == [0, 40, 7]
    for wrong in ([-1, 2], [0.5, 1.0], [np.nan]):
        with pytest.raises(DataError, match="here: labels are not whole numbers"):
            as_labels(np.array(wrong), "here")


def test_a_field_that_is_missing_later() -> None:
    fields = XYZ | {"ring": np.zeros(4)}
    columns = find_columns(find_roles(tuple(fields), {}), fields)
    with pytest.raises(DataError, match="no field 'ring', which the first scan has"):
        columns.points(XYZ, None)


def test_no_coordinates() -> None:
    with pytest.raises(DataError, match=r"no field holds y, z \(found: x, w\)"):
        find_columns({"x": "x"}, {"x": np.zeros(1), "w": np.zeros(1)})
