"""PLY and PCD files with labels and colours, read back by the libraries and by ourselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plyfile import PlyData
from pypcd4 import PointCloud

from rangeseg.datasets.formats import read_fields
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout
from rangeseg.engine.coloured_clouds import encode_cloud

COLOURS = np.array([[255, 0, 10], [1, 2, 3]], dtype=np.uint8)
CLASSES = np.array([1, 0, IGNORE], dtype=np.uint8)
POINTS = np.array([[1, 2, 3, 0.5], [np.nan, 0, 0, 0], [-1e3, 1, 0.1, 1]], dtype=np.float32)


def cloud(kind: Any, labels: np.ndarray) -> bytes:
    return encode_cloud(kind, POINTS, labels, CLASSES, COLOURS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_what_is_read_back(tmp_path: Path, dtype: Any) -> None:
    labels = np.array([40, 7, 0], dtype=dtype)
    ply, pcd = tmp_path / "a.ply", tmp_path / "a.pcd"
    ply.write_bytes(cloud("ply", labels))
    pcd.write_bytes(cloud("pcd", labels))
    vertices = PlyData.read(ply)["vertex"]
    names = ("x", "y", "z", "label", "red", "green", "blue")
    assert vertices.data.dtype.names == names
    colours = np.array([[1, 2, 3], [255, 0, 10], [0, 0, 0]])
    np.testing.assert_array_equal(np.stack([vertices[c] for c in names[4:]], 1), colours)
    np.testing.assert_array_equal(vertices["label"], labels)
    read = PointCloud.from_path(pcd)
    assert read.fields == ("x", "y", "z", "rgb", "label")
    np.testing.assert_array_equal(PointCloud.decode_rgb(read.pc_data["rgb"]), colours)
    np.testing.assert_array_equal(read.pc_data["label"], labels)
    for path in (ply, pcd):
        fields = read_fields(path, Layout())
        np.testing.assert_array_equal(np.stack([fields[c] for c in "xyz"], 1), POINTS[:, :3])
        np.testing.assert_array_equal(fields["label"], labels)


def test_ids_of_64_bits(tmp_path: Path) -> None:
    labels = np.array([1 << 40, -3, 0], dtype=np.int64)
    for kind in ("ply", "pcd"):
        path = tmp_path / kind
        path.write_bytes(cloud(kind, labels))
        np.testing.assert_array_equal(read_fields(path, Layout())["label"], labels)
