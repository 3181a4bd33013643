"""The points of a ``sensor_msgs/PointCloud2`` message."""

from __future__ import annotations

from typing import Any

import numpy as np

from rangeseg.errors import DataError

_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""``sensor_msgs/PointField.datatype`` -> NumPy's type."""


def cloud_fields(cloud: Any) -> dict[str, np.ndarray]:
    """The fields of a point cloud by name, each (N,) of the message's own type.

    An organised cloud is read row by row. Padding between fields, points and rows is left out, as
    are unnamed fields. A field with several values gives the first.

    Args:
        cloud: a decoded ``sensor_msgs/PointCloud2``.

    Raises:
        DataError: the message contradicts itself.
    """
    order = ">" if cloud.is_bigendian else "<"
    named = [f for f in cloud.fields if f.name]
    for f in named:
        if f.datatype not in _TYPES:
            raise DataError(
                f"field '{f.name}' is of type {f.datatype}, which PointCloud2 does not define"
            )
    dtype = _dtype({f.name: (order + _TYPES[f.datatype], f.offset) for f in named}, cloud)
    points = _rows(cloud).view(dtype).ravel()
    return {name: points[name] for name in dtype.names or ()}


def _dtype(fields: dict[str, tuple[str, int]], cloud: Any) -> np.dtype:
    try:
        return np.dtype(
            {
                "names": list(fields),
                "formats": [kind for kind, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": cloud.point_step,
            }
        )
    except ValueError:
        raise DataError(
            f"its fields end beyond its points of {cloud.point_step} bytes (point_step)"
        ) from None


def _rows(cloud: Any) -> np.ndarray:
    """The bytes of all points, (height, width * point_step) uint8 without the rows' padding."""
    used = cloud.width * cloud.point_step
    # Some drivers leave row_step of an unordered cloud at 0.
    step = cloud.row_step if cloud.height > 1 else max(cloud.row_step, used)
    needed = (cloud.height - 1) * step + used
    data = np.asarray(cloud.data, dtype=np.uint8)
    if step < used or len(data) < needed:
        raise DataError(
            f"it has {len(data)} bytes where {cloud.height} rows of {cloud.width} points of "
            f"{cloud.point_step} bytes are {cloud.height * used}"
        )
    rows = np.lib.stride_tricks.as_strided(data, (cloud.height, used), (step, 1))
    return np.ascontiguousarray(rows)
