"""The points of PointCloud2 messages, of all their types and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from rangeseg.datasets.importing.clouds import cloud_fields
from rangeseg.errors import DataError
from tests.datasets.importing.recordings import VELODYNE, Types, scan

TYPES = Types(ros1=False)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_and_both_byte_orders(order: str) -> None:
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
    dtype = np.dtype([(f"of_{kind}", kind if kind[1] == "1" else order + kind) for kind in kinds])
    points = np.zeros(7, dtype)
    for kind in kinds:
        points[f"of_{kind}"] = np.arange(7) * 3
    fields = cloud_fields(TYPES.cloud(0, points))
    assert list(fields) == [f"of_{kind}" for kind in kinds]
    for kind in kinds:
        assert fields[f"of_{kind}"].dtype.newbyteorder("=") == np.dtype(kind)
        np.testing.assert_array_equal(fields[f"of_{kind}"], np.arange(7) * 3)


def test_rows_with_padding_and_nan() -> None:
    points = scan(0).reshape(16, -1)
    padded = np.zeros((16, VELODYNE.itemsize * points.shape[1] + 10), np.uint8)
    padded[:, :-10] = np.frombuffer(points.tobytes(), np.uint8).reshape(16, -1)
    cloud = TYPES.cloud(0, points, data=padded.ravel()[:-10], row_step=padded.shape[1])
    fields = cloud_fields(cloud)
    for name in points.dtype.names or ():
        np.testing.assert_array_equal(fields[name], points[name].ravel())
    assert np.isnan(fields["x"]).sum() == 1


def test_what_drivers_leave_out() -> None:
    """A row_step of 0, and fields that only fill up."""
    filled = np.dtype([("x", "<f4"), ("", "<u2")])
    cloud = TYPES.cloud(0, np.zeros(3, filled), row_step=0)
    cloud.fields[1].name = ""
    assert list(cloud_fields(cloud)) == ["x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": np.zeros(9, np.uint8)}, "it has 9 bytes where 1 rows of 3072 points of 22 bytes"),
        ({"point_step": 12}, "its fields end beyond its points of 12 bytes"),
        ({"height": 2}, "it has 67584 bytes where 2 rows"),
    ],
)
def test_contradictions(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        cloud_fields(TYPES.cloud(0, scan(0), **changes))


def test_an_unknown_type_of_field() -> None:
    cloud = TYPES.cloud(0, scan(0))
    cloud.fields[0].datatype = 9
    with pytest.raises(DataError, match="field 'x' is of type 9, which PointCloud2 does not"):
        cloud_fields(cloud)
