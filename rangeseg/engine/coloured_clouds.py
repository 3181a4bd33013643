"""Write labelled clouds as PLY or PCD, for CloudCompare and labelling tools."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np

CloudFormat = Literal["ply", "pcd"]

_WITHHELD = np.array([0, 0, 0], dtype=np.uint8)
"""Colour of a point without a label."""


def encode_cloud(
    kind: CloudFormat, points: np.ndarray, labels: np.ndarray, classes: np.ndarray,
    colours: np.ndarray,
) -> bytes:  # fmt: skip
    """Encode x, y, z, label and colour of each point as a binary file, in order.

    PLY has ``red``, ``green``, ``blue``; PCD has them packed as ``rgb``, as in PCL.

    Args:
        kind: format of the file.
        points: (N,3 or more) float32 in metres.
        labels: (N,) integers: raw ids.
        classes: (N,) uint8 train ids; K and more get the colour of unlabelled points.
        colours: (K,3) uint8 colours of the classes.
    """
    table = np.concatenate([colours, np.tile(_WITHHELD, (256 - len(colours), 1))])
    own = table[classes]
    columns = dict(zip("xyz", np.asarray(points[:, :3], dtype=np.float32).T, strict=True))
    if kind == "ply":
        columns |= {"label": _narrow(labels)}
        columns |= dict(zip(("red", "green", "blue"), own.T, strict=True))
        return _ply(columns)
    red, green, blue = own.astype(np.uint32).T
    rgb = (red << 16 | green << 8 | blue).view(np.float32)
    return _pcd(columns | {"rgb": rgb, "label": _narrow(labels)})


def _narrow(labels: np.ndarray) -> np.ndarray:
    """Labels in a type of both formats: 64 bits are not read everywhere."""
    if labels.dtype.itemsize < 8:
        return labels
    if labels.size and (labels.min() < -(1 << 31) or labels.max() >= 1 << 31):
        return labels.astype(np.float64)
    return labels.astype(np.int32)


def _ply(columns: dict[str, np.ndarray]) -> bytes:
    from plyfile import PlyData, PlyElement

    vertices = np.empty(len(columns["x"]), [(name, v.dtype) for name, v in columns.items()])
    for name, values in columns.items():
        vertices[name] = values
    content = BytesIO()
    PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(content)
    return content.getvalue()


def _pcd(columns: dict[str, np.ndarray]) -> bytes:
    from pypcd4.pypcd4 import Encoding, PointCloud

    types = [values.dtype.type for values in columns.values()]
    cloud = PointCloud.from_points(list(columns.values()), tuple(columns), types)
    content = BytesIO()
    cloud.save(content, Encoding.BINARY)
    return content.getvalue()
