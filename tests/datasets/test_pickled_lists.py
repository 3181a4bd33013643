"""Infos of mmdetection3d and LaserMix as lists of scans, and pickles that want more than that."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets.pickled_lists import is_pickled, read_pickled
from rangeseg.datasets.split_files import fingerprint, published_name, read_split
from rangeseg.errors import DataError

SCANS = ["00/000000", "02/000123", "10/001200"]
TOKENS = ["0" * 32, "a1" * 16, "f" * 32]
LIDAR = "n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin"


def points_file(scan_id: str, above: str = "") -> str:
    sequence, frame = scan_id.split("/")
    return f"{above}sequences/{sequence}/velodyne/{frame}.bin"


def semantic_kitti_1x(scan_ids: list[str]) -> dict[str, Any]:
    """As mmdetection3d 1.x converts SemanticKITTI; ids of samples are ambiguous."""
    return {
        "metainfo": {"DATASET": "SemanticKITTI"},
        "data_list": [
            {
                "lidar_points": {"lidar_path": points_file(i), "num_pts_feats": 4},
                "pts_semantic_mask_path": points_file(i)
                .replace("velodyne", "labels")
                .replace(".bin", ".label"),
                "sample_id": str(int(i[:2])) + str(int(i[3:])),
            }
            for i in scan_ids
        ],
    }


def nuscenes_1x(tokens: list[str]) -> dict[str, Any]:
    """With matrices, boxes and their scalars beside the token, as mmdetection3d 1.x writes them."""
    return {
        "metainfo": {"dataset": "nuscenes", "categories": {"car": 0}, "version": "v1.0-trainval"},
        "data_list": [
            {
                "sample_idx": number,
                "token": token,
                "timestamp": 1532402927.647951,
                "ego2global": np.eye(4).tolist(),
                "lidar_points": {"lidar_path": LIDAR, "lidar2ego": np.eye(4, dtype=np.float32)},
                "instances": [{"bbox_3d": np.arange(7.0), "num_lidar_pts": np.int64(3)}],
            }
            for number, token in enumerate(tokens)
        ],
    }


def nuscenes_0x(tokens: list[str]) -> dict[str, Any]:
    """As of mmdetection3d 0.x: arrays of texts and of truth values too."""
    infos = [
        {
            "lidar_path": f"./data/nuscenes/samples/LIDAR_TOP/{LIDAR}",
            "token": token,
            "sweeps": [{"sensor2lidar_rotation": np.eye(3)}] * 3,
            "gt_names": np.array(["car", "bus"]),
            "valid_flag": np.array([True, False]),
            "gt_boxes": np.asfortranarray(np.ones((2, 7))),
        }
        for token in tokens
    ]
    return OrderedDict(infos=infos, metadata={"version": "v1.0-trainval"})


def kitti_0x(scan_ids: list[str]) -> list[dict[str, Any]]:
    """A list alone, of paths with folders above and of Windows."""
    return [
        {"point_cloud": {"num_features": 4, "velodyne_path": points_file(i, "D:\\my data\\")}}
        for i in scan_ids
    ]


def no_sequences_folder(scan_ids: list[str]) -> list[dict[str, Any]]:
    return [{"pts_path": f"/data/{i.replace('/', '/velodyne/')}.bin"} for i in scan_ids]


def write(path: Path, infos: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(infos, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("build", "ids"),
    [
        (semantic_kitti_1x, SCANS),
        (nuscenes_1x, TOKENS),
        (nuscenes_0x, TOKENS),
        (kitti_0x, SCANS),
        (no_sequences_folder, SCANS),
    ],
)
def test_infos(build: Any, ids: list[str], protocol: int, tmp_path: Path) -> None:
    assert read_split(write(tmp_path / "infos.pkl", build(ids), protocol)) == ids


def test_other_endings_and_other_files(tmp_path: Path) -> None:
    assert read_split(write(tmp_path / "list.txt", semantic_kitti_1x(SCANS), 2)) == SCANS
    (tmp_path / "text").write_text("00/000000\n")
    assert not is_pickled(tmp_path / "text")
    assert not is_pickled(tmp_path / "absent")
    with pytest.raises(DataError, match=r"absent.pkl does not exist: give the file"):
        read_pickled(tmp_path / "absent.pkl")


class Payload:
    """Writes a file when it is unpickled by anything that executes pickles."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_executed(protocol: int, tmp_path: Path) -> None:
    proof = tmp_path / "executed"
    infos = semantic_kitti_1x(SCANS)
    infos["data_list"][1]["extra"] = Payload(proof)
    path = write(tmp_path / "infos.pkl", infos, protocol)
    with pytest.raises(DataError, match=r"wants to call (posix|nt)\.system.*nothing was executed"):
        read_split(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # so it would have been
    assert proof.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"c__builtin__\ngetattr\n(S'1'\ntR.", "__builtin__.getattr"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93.", "numpy.f2py.os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "numpy.ndarray.__class__"),
        (b"(icodecs\nopen\n.", "codecs.open"),
        (pickle.dumps(Path("x")), "pathlib"),
    ],
)
def test_whatever_is_wanted_is_named(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "infos.pkl").write_bytes(content)
    with pytest.raises(DataError, match=f"is a pickle that wants to call {named}"):
        read_pickled(tmp_path / "infos.pkl")


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ({"annotations": [], "images": []}, "holds a dictionary of annotations, images, expected"),
        (7, "holds int, expected infos of mmdetection3d"),
        ([{"point_cloud": {"num_features": 4}, "image": {}}], "info 0 names no scan (it holds a d"),
        (["00/000000"], "info 0 names no scan (it holds str)"),
        ([{"point_cloud": {"lidar_idx": "000123"}}], "info 0: '000123' is not a scan id: write"),
        ([{"lidar_path": "../../../etc/passwd"}], "info 0: 'sequences/../etc/passwd' is not a"),
        ([{"lidar_path": np.float64(3)}], "info 0 names no scan"),
    ],
)
def test_other_contents(infos: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_split(write(tmp_path / "infos.pkl", infos))
    assert message in str(error.value)


def test_damaged_and_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "infos.pkl", nuscenes_1x(TOKENS))
    whole = path.read_bytes()
    for end in (0, 1, 2, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="is not a whole pickle of plain values"):
            read_pickled(path)
    path.write_bytes(b"\x80\x04\x8e" + (1 << 50).to_bytes(8, "little"))  # of a petabyte
    with pytest.raises(DataError, match="is not a whole pickle"):
        read_pickled(path)
    path.write_bytes(whole)
    monkeypatch.setattr("rangeseg.datasets.pickled_lists.MOST_BYTES", 100)
    with pytest.raises(DataError, match="more than infos of any data set"):
        read_pickled(path)


def test_arrays_are_not_built(tmp_path: Path) -> None:
    """A shape of terabytes costs nothing, for no array is made."""
    shape = b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"
    huge = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + shape + b"S'b'\ntR."
    (tmp_path / "infos.pkl").write_bytes(huge)
    with pytest.raises(DataError, match="holds an array, expected infos"):
        read_pickled(tmp_path / "infos.pkl")


@pytest.mark.real_data
def test_published_lists_keep_their_name(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "splits" / "lasermix_uniform"
    for name, build, published in (
        ("semantickitti_1pct.txt", semantic_kitti_1x, "SemanticKITTI 1 %"),
        ("nuscenes_1pct.txt.gz", nuscenes_0x, "nuScenes 1 %"),
    ):
        scan_ids = read_split(folder / name)
        path = write(tmp_path / f"{name}.pkl", build(scan_ids), 2)
        assert fingerprint(read_split(path)) == fingerprint(scan_ids)
        assert published in str(published_name(read_split(path)))
