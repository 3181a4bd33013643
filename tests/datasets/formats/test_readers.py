"""The same scan from every format; damaged files; what is asked of headers alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.formats import count_points, file_format, read_fields, read_header
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import read_points
from rangeseg.errors import DataError
from tests.datasets.formats.files import FORMATS, table

LAYOUT = Layout()
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(-80, 80, (257, 4)).astype(np.float32)
POINTS[:, 3] = RNG.integers(0, 256, 257) / 255
RING = RNG.integers(0, 64, 257).astype(np.uint16)


def written(name: str, folder: Path) -> Path:
    suffix, write = FORMATS[name]
    path = folder / f"scan 1{suffix}"
    write(path, POINTS, RING)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_scan_from_every_format(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    for there in (path, tmp_path / "renamed.bin"):  # a name does not matter
        path = path.rename(there)
        kind = name.partition("_")[0].replace("laz", "las")
        assert file_format(there) == kind
        assert count_points(there, LAYOUT) == len(POINTS)
        fields = read_fields(there, LAYOUT)
        assert tuple(fields) == read_header(there, LAYOUT).names
        assert {len(values) for values in fields.values()} == {len(POINTS)}
        file = read_points(there, LAYOUT)
        scale = 65535 if kind == "las" else 1
        assert file.points.dtype == np.float32
        assert file.points.flags.c_contiguous
        atol = 1e-4 if kind == "las" else 0
        np.testing.assert_allclose(file.points, POINTS * [1, 1, 1, scale], atol=atol, rtol=1e-6)
        file.points[:] = 0  # may be changed
        if name not in ("raw", "npy", "pcd_points"):
            np.testing.assert_array_equal(fields[file.roles["ring"]], RING)
            assert fields[file.roles["ring"]].dtype.kind in "ui"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.6, 0.99])
def test_a_file_that_was_cut(name: str, share: float, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content)) // 16 * 16 + 5])
    with pytest.raises(DataError) as error:
        read_points(path, LAYOUT)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.kind == "truncated"


@pytest.mark.parametrize("name", FORMATS)
def test_a_scan_without_points(name: str, tmp_path: Path) -> None:
    suffix, write = FORMATS[name]
    path = tmp_path / f"0{suffix}"
    write(path, POINTS[:0], RING[:0])
    with pytest.raises(DataError, match=r"0\.\w+ is empty: the scan has no point"):
        read_points(path, LAYOUT)


@pytest.mark.parametrize("name", FORMATS)
def test_one_point(name: str, tmp_path: Path) -> None:
    suffix, write = FORMATS[name]
    path = tmp_path / f"0{suffix}"
    write(path, POINTS[:1], RING[:1])
    assert read_points(path, LAYOUT).points.shape == (1, 4)


def test_files_that_are_missing(tmp_path: Path) -> None:
    for ask in (file_format, lambda path: read_points(path, LAYOUT)):
        with pytest.raises(DataError, match=r"0\.pcd does not exist: check the scan") as error:
            ask(tmp_path / "0.pcd")
        assert error.value.kind == "missing"
    with pytest.raises(DataError, match="cannot be read"):
        file_format(tmp_path)


@pytest.mark.parametrize("dtype", ["float64", "int16", "int32", "uint8"])
@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_raw_files_of_any_type(dtype: str, byte_order: str, tmp_path: Path) -> None:
    values = RNG.integers(0, 100, (50, 6)).astype(dtype)
    path = tmp_path / "0.bin"
    values.astype(np.dtype(dtype).newbyteorder(byte_order)).tofile(path)
    layout = Layout.model_validate({"dtype": dtype, "byte_order": byte_order, "columns": 6})
    fields = read_fields(path, layout)
    assert tuple(fields) == ("x", "y", "z", "intensity", "column_4", "column_5")
    np.testing.assert_array_equal(fields["column_5"], values[:, 5])
    np.testing.assert_array_equal(read_points(path, layout).points, values[:, :4])


def test_points_without_intensity(tmp_path: Path) -> None:
    expected = POINTS * [1, 1, 1, 0]
    POINTS[:, :3].tofile(tmp_path / "0.bin")
    np.save(tmp_path / "0.npy", POINTS[:, :3].astype(np.float64))
    np.savez(tmp_path / "0.npz", xyz=POINTS[:, :3])
    for name in ("0.bin", "0.npy", "0.npz"):
        found = read_points(tmp_path / name, Layout(columns=3)).points
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_whole_numbers_in_npy_are_stated(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", (POINTS * 1000).astype(np.int32))
    with pytest.raises(DataError, match=r"int32 of shape .*layout\.dtype, layout\.scale"):
        read_points(tmp_path / "0.npy", LAYOUT)
    found = read_points(tmp_path / "0.npy", Layout(dtype="int32", scale=0.001)).points
    np.testing.assert_allclose(found[:, :3], POINTS[:, :3], atol=1e-3)


class TestPcd:
    HEADER = (
        "# made by hand\nVERSION .7\nFIELDS x y z _ normal intensity\nSIZE 4 4 4 1 8 2\n"
        "TYPE F F F U F U\nCOUNT 1 1 1 4 2 1\nWIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
    )
    DTYPE = np.dtype([("xyz", "<f4", 3), ("_", "V4"), ("normal", "<f8", 2), ("i", "<u2")])

    def binary(self, change: str = "", by: str = "") -> bytes:
        values = np.zeros(2, self.DTYPE)
        values["xyz"], values["i"], values["normal"] = [[1, 2, 3], [4, 5, 6]], [7, 300], [8, 9]
        header = self.HEADER + "POINTS 2\nDATA binary\n"
        assert change in header
        return header.replace(change, by).encode() + values.tobytes()

    def test_padding_and_several_values(self, tmp_path: Path) -> None:
        path = tmp_path / "0.pcd"
        path.write_bytes(self.binary())
        fields = read_fields(path, LAYOUT)
        assert list(fields) == ["x", "y", "z", "normal__0000", "normal__0001", "intensity"]
        assert fields["normal__0001"].tolist() == [9, 9]
        assert read_points(path, LAYOUT).points.tolist() == [[1, 2, 3, 7], [4, 5, 6, 300]]

    @pytest.mark.parametrize(
        ("change", "by"),
        [("POINTS 2\n", ""), ("# made by hand\n", ""), ("COUNT", "# COUNT"), ("\n", "\r\n")],
    )
    def test_headers_differ(self, change: str, by: str, tmp_path: Path) -> None:
        if by == "# COUNT":  # then every field has one value
            content = b"VERSION .6\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 2\nDATA binary\n"
            content += np.arange(6, dtype="<f4").tobytes()
        else:
            content = self.binary(change, by)
        (tmp_path / "0.pcd").write_bytes(content)
        assert count_points(tmp_path / "0.pcd", LAYOUT) == 2
        assert read_points(tmp_path / "0.pcd", LAYOUT).points.shape == (2, 4)

    @pytest.mark.parametrize(
        ("change", "by", "message"),
        [
            ("POINTS 2", "POINTS many", "its header: invalid literal"),
            ("POINTS 2", "POINTS 99999999999", "more than one turn"),
            ("POINTS 2", "POINTS -2", "POINTS -2"),
            ("COUNT 1 1 1 4", "COUNT 1 1 1 99999999999", "COUNT 99999999999"),
            ("COUNT 1 1 1 4", "COUNT 1 1 1 0", "COUNT 0"),
            ("DATA binary", "DATA morse", "DATA morse"),
            ("SIZE 4 4 4 1 8 2", "SIZE 4 4 4 1 8", "argument 2 is shorter"),
            ("TYPE F F F U F U", "TYPE F F F U F X", "its header: 'X'"),
            ("SIZE 4 4 4 1", "SIZE 5 4 4 1", "its header"),
            ("FIELDS x y z _ normal", "FIELDS x x z _ normal", "its header"),
            ("FIELDS x y z", "FIELDS a b c", r"holds a, b, c, .*none of which is x or y or z"),
            ("DATA binary", "DATA binary_compressed", "do not fit in it"),
            ("DATA binary", "DATA ascii", "not a whole ascii PCD"),
        ],
    )
    def test_headers_that_lie(self, change: str, by: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "0.pcd").write_bytes(self.binary(change, by))
        with pytest.raises(DataError, match=rf"0\.pcd .*{message}") as error:
            read_points(tmp_path / "0.pcd", LAYOUT)
        assert "\n" not in str(error.value)


def test_headers_of_much_memory(tmp_path: Path) -> None:
    """Little is read of files that promise more than a scan."""
    ply = "ply\nformat {} 1.0\nelement vertex 9999999999\nproperty float x\nend_header\n1\n"
    for kind in ("ascii", "binary_little_endian"):
        (tmp_path / "0.ply").write_text(ply.format(kind))
        with pytest.raises(DataError, match=r"0\.ply "):
            read_points(tmp_path / "0.ply", LAYOUT)
    path = written("laz", tmp_path)
    content = bytearray(path.read_bytes())
    content[247:255] = (1 << 40).to_bytes(8, "little")  # the number of points of version 1.4
    path.write_bytes(content)
    with pytest.raises(DataError, match="1,099,511,627,776 points, more than one turn"):
        read_points(path, LAYOUT)


class TestNpz:
    def write(self, path: Path, **arrays: np.ndarray) -> Path:
        np.savez(path, **arrays)
        return path

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"points": POINTS, "more": POINTS}, "more than one array holds intensity, x, y, z"),
            ({"points": POINTS, "ring": RING[:9]}, "are not of one length"),
            ({"calibration": np.eye(2)[None]}, "are not of one length"),
            ({"what": np.array([None])}, "is not a whole .npz file"),
            ({"i": RING, "ring": RING}, "holds i, ring, none of which is x or y or z"),
        ],
    )
    def test_arrays_that_are_no_scan(
        self, arrays: dict[str, np.ndarray], message: str, tmp_path: Path
    ) -> None:
        path = self.write(tmp_path / "0.npz", **arrays)
        with pytest.raises(DataError, match=rf"0\.npz.*{message}"):
            read_points(path, LAYOUT)

    def test_a_small_file_that_unpacks_to_much(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "0.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 4)}"
            length = np.uint16(len(header)).tobytes()
            archive.writestr("points.npy", b"\x93NUMPY\x01\x00" + length + header.encode())
        with pytest.raises(DataError, match=r"0\.npz: its array points has 159,999,999,984 bytes"):
            read_points(tmp_path / "0.npz", LAYOUT)


class TestPly:
    def test_lists_are_left_out(self, tmp_path: Path) -> None:
        from plyfile import PlyData, PlyElement

        values = np.zeros(2, [("x", "f8"), ("y", "f8"), ("z", "f8"), ("echoes", "O")])
        values["x"], values["echoes"] = [1, 2], [np.array([1, 2]), np.array([3])]
        PlyData([PlyElement.describe(values, "vertex")], byte_order="<").write(tmp_path / "0.ply")
        assert list(read_fields(tmp_path / "0.ply", LAYOUT)) == ["x", "y", "z"]

    def test_a_mesh_without_vertices(self, tmp_path: Path) -> None:
        text = "ply\nformat ascii 1.0\nelement face 1\nproperty float x\nend_header\n1\n"
        (tmp_path / "0.ply").write_text(text)
        with pytest.raises(DataError, match=r"0\.ply has no element 'vertex'"):
            read_points(tmp_path / "0.ply", LAYOUT)


def test_las_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("las", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "laspy", None)
    with pytest.raises(DataError, match=r"laspy reads.*pip install 'rangeseg\[las\]'"):
        read_points(path, LAYOUT)


def test_a_structured_image_is_flattened(tmp_path: Path) -> None:
    """As ROS and Ouster's tools keep organised clouds: (beams, columns)."""
    np.save(tmp_path / "0.npy", table(POINTS[:256], RING[:256]).reshape(8, 32))
    assert count_points(tmp_path / "0.npy", LAYOUT) == 256
    np.testing.assert_array_equal(read_points(tmp_path / "0.npy", LAYOUT).points, POINTS[:256])
