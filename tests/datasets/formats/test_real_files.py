"""Files of real sensors: what is in them, and that rewriting them changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.formats import file_format, read_fields, read_header
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import read_points
from rangeseg.errors import DataError
from tests.datasets.formats.files import FORMATS

pytestmark = pytest.mark.real_data

FILES = {
    "ouster_map.ply": ("ply", 155_000, "x y z"),
    "p64_ascii.pcd": ("pcd", 78_238, "x y z intensity"),
    "p64_compressed_ring_time.pcd": ("pcd", 77_547, "x y z intensity ring timestamp"),
    "pandar64_binary_xyz.pcd": ("pcd", 93_591, "x y z"),
    "qt_binary_time.pcd": ("pcd", 12_414, "x y z intensity t"),
    "vlp16_binary_ring.pcd": (
        "pcd", 14_831,
        "x y z intensity return_type channel azimuth elevation distance time_stamp",
    ),
    "xt16_binary_xyz.pcd": ("pcd", 26_287, "x y z"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_as_the_header_says(name: str, real_data: Path) -> None:
    path, (kind, points, names) = real_data / "formats" / name, FILES[name]
    assert file_format(path) == kind
    assert read_header(path, Layout()) == (points, tuple(names.split()))
    file = read_points(path, Layout())
    assert file.points.shape == (points, 4)
    assert np.isfinite(file.points).all()
    depth = np.linalg.norm(file.points[:, :3], axis=1)
    assert 0.1 < np.median(depth) < 100
    if "intensity" not in names:
        assert not file.points[:, 3].any()


def test_every_file_of_points_is_known(real_data: Path) -> None:
    assert {p.name for p in (real_data / "formats").iterdir() if p.is_file()} == set(FILES)


def test_fields_agree_with_the_library(real_data: Path) -> None:
    from pypcd4.pypcd4 import PointCloud

    for path in (real_data / "formats").glob("*.pcd"):
        ours, theirs = read_fields(path, Layout()), PointCloud.from_path(path).pc_data
        assert tuple(ours) == theirs.dtype.names
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])
            assert values.dtype == theirs[name].dtype


def test_the_vlp16(real_data: Path) -> None:
    """Its distances, angles and beams agree with its coordinates; one beam saw nothing."""
    file = read_points(real_data / "formats" / "vlp16_binary_ring.pcd", Layout())
    fields, xyz = file.fields, file.points[:, :3].astype(np.float64)
    assert file.roles["ring"] == "channel"
    assert file.roles["time"] == "time_stamp"
    np.testing.assert_allclose(np.linalg.norm(xyz, axis=1), fields["distance"], atol=1e-3)
    assert set(np.unique(fields["channel"])) == set(range(1, 16))
    assert len(np.unique(fields["return_type"])) > 1
    inclination = np.degrees(np.arcsin(xyz[:, 2] / fields["distance"]))
    np.testing.assert_allclose(inclination, 2.0 * fields["channel"] - 15, atol=0.1)
    assert file.points[:, 3].max() == 119  # bytes, as they are


def test_the_true_rings(real_data: Path) -> None:
    file = read_points(real_data / "formats" / "p64_compressed_ring_time.pcd", Layout())
    ring, xyz = file.fields["ring"], file.points[:, :3].astype(np.float64)
    assert set(np.unique(ring)) == set(range(64))
    inclination = np.degrees(np.arcsin(xyz[:, 2] / np.linalg.norm(xyz, axis=1)))
    spread = [inclination[ring == beam].std() for beam in range(64)]
    assert np.median(spread) < 0.1


@pytest.mark.parametrize("name", FORMATS)
def test_a_real_scan_rewritten(name: str, real_data: Path, tmp_path: Path) -> None:
    path = real_data / "formats" / "vlp16_binary_ring.pcd"
    file = read_points(path, Layout())
    points, ring = (
        file.points[:2000] * np.float32([1, 1, 1, 1 / 255]),
        file.fields["channel"][:2000],
    )
    suffix, write = FORMATS[name]
    write(tmp_path / f"0{suffix}", points, ring)
    found = read_points(tmp_path / f"0{suffix}", Layout())
    if suffix in (".las", ".laz"):
        found.points[:, 3] /= 65535
    atol = 1e-4 if suffix in (".las", ".laz") else 1e-6
    np.testing.assert_allclose(found.points, points, atol=atol)
    if "ring" in found.roles:
        np.testing.assert_array_equal(found.fields[found.roles["ring"]], ring)


def test_a_bag_of_packets_is_named(real_data: Path) -> None:
    (path,) = (real_data / "formats" / "vlp16_packets").glob("*.db3")
    with pytest.raises(DataError, match=r"ROS 2 bag .*`rangeseg-data import`"):
        read_points(path, Layout())
