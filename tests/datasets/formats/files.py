"""A scan written in every format, by the libraries or by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

Writer = Callable[[Path, np.ndarray, np.ndarray], None]
"""Writes points (N,4) float32 of x, y, z, intensity and the ring (N,) uint16 of each."""


def table(points: np.ndarray, ring: np.ndarray, names: str = "x y z intensity ring") -> np.ndarray:
    """A structured array; ``names`` are those of the five fields."""
    columns = [*points.T, ring]
    dtype = [(n, c.dtype) for n, c in zip(names.split(), columns, strict=True)]
    return np.rec.fromarrays(columns, dtype=dtype).view(np.ndarray)


def raw(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    points.astype("<f4").tofile(path)


def npy_table(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    np.save(path, points)


def npy_fields(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    np.save(path, table(points, ring))


def npz_arrays(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    x, y, z, intensity = points.T
    np.savez(path, x=x, y=y, z=z, reflectivity=intensity, ring=ring[:, None])


def npz_points(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    np.savez_compressed(path, points=points, ring=ring, stamp=np.float64(12.5))


def npz_table(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    np.savez(path, table(points, ring))


def pcd_points(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    """Binary, without the ring: byte for byte what a raw file holds, and a header."""
    from pypcd4.pypcd4 import Encoding, PointCloud

    names = ["x", "y", "z", "intensity"]
    PointCloud.from_points(points, names, [np.float32] * 4).save(path, Encoding.BINARY)


def _pcd(encoding: str) -> Writer:
    def write(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
        from pypcd4.pypcd4 import Encoding, PointCloud

        types = [np.float32] * 4 + [np.uint16]
        names = ["x", "y", "z", "intensity", "channel"]
        cloud = PointCloud.from_points([*points.T, ring], names, types)
        cloud.save(path, Encoding(encoding))

    return write


def _ply(text: bool, byte_order: str) -> Writer:
    def write(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
        from plyfile import PlyData, PlyElement

        values = table(points, ring, "x y z scalar_Intensity scalar_Ring")
        element = PlyElement.describe(values, "vertex")
        PlyData([element], text=text, byte_order=byte_order).write(path)

    return write


def las(path: Path, points: np.ndarray, ring: np.ndarray) -> None:
    """Coordinates in steps of a tenth of a millimetre, intensities in whole steps of 1/65535."""
    import laspy

    header = laspy.LasHeader(point_format=3, version="1.4")
    header.scales, header.offsets = np.full(3, 1e-4), np.zeros(3)
    header.add_extra_dim(laspy.ExtraBytesParams(name="ring", type=np.uint16))
    content = laspy.LasData(header)
    content.x, content.y, content.z = points[:, :3].astype(np.float64).T
    content.intensity = np.round(np.clip(points[:, 3], 0, 1) * 65535).astype(np.uint16)
    content["ring"] = ring
    content.write(path)


FORMATS: dict[str, tuple[str, Writer]] = {
    "raw": (".bin", raw),
    "npy": (".npy", npy_table),
    "npy_fields": (".npy", npy_fields),
    "npz_arrays": (".npz", npz_arrays),
    "npz_points": (".npz", npz_points),
    "npz_table": (".npz", npz_table),
    "pcd_ascii": (".pcd", _pcd("ascii")),
    "pcd_points": (".pcd", pcd_points),
    "pcd_binary": (".pcd", _pcd("binary")),
    "pcd_compressed": (".pcd", _pcd("binary_compressed")),
    "ply_ascii": (".ply", _ply(True, "=")),
    "ply_little": (".ply", _ply(False, "<")),
    "ply_big": (".ply", _ply(False, ">")),
    "las": (".las", las),
    "laz": (".laz", las),
}
"""Name -> ending of the file, and what writes it."""
