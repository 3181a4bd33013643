"""What fuzzing found in points and stamps, plainly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets import scan_files as files
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.nuscenes.index import index_path
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import DataError
from rangeseg.simulation.generate import STAMP, read_stamp
from tests.datasets.own_scans import DESCRIPTION, turn
from tests.fuzz.targets import check_prediction, make_predictors
from tests.fuzz.test_hostile import INDEX, TOKEN

SIGNALLING_NAN = np.frombuffer(b"\x01\x00\x80\x7f", dtype="<f4")[0]


def kitti(root: Path, points: np.ndarray) -> tuple[ScanSource, str]:
    source = SemanticKitti(root)
    path = source.paths("00/000000")[0]
    path.parent.mkdir(parents=True)
    points.tofile(path)
    return source, "00/000000"


def nuscenes(root: Path, points: np.ndarray) -> tuple[ScanSource, str]:
    index_path(root, "v1.0-mini").write_text(json.dumps(INDEX))
    ring = np.arange(len(points), dtype=np.float32)[:, None] % 32
    np.hstack([points, ring]).astype("<f4").tofile(root / "a")
    return NuScenes(root), TOKEN


def own(root: Path, points: np.ndarray) -> tuple[ScanSource, str]:
    layout = {"points_suffix": ".npy", "intensity_max": 255}
    source = Custom(root, Description.model_validate(DESCRIPTION | {"layout": layout}))
    path = source.paths("01/000000")[0]
    path.parent.mkdir(parents=True)
    np.save(path, points)
    return source, "01/000000"


@pytest.mark.parametrize("value", [np.nan, SIGNALLING_NAN, np.inf, -1.0, 32.0])
def test_a_beam_that_is_none_is_refused(value: float, tmp_path: Path) -> None:
    source, scan_id = nuscenes(tmp_path, turn(order="beams")[0])
    path = source.paths(scan_id)[0]  # type: ignore[attr-defined]
    values = np.fromfile(path, dtype="<f4").reshape(-1, 5)
    values[7, 4] = value
    values.tofile(path)
    with pytest.raises(DataError, match="names beams from"):
        source.read_scan(scan_id, with_labels=False)


@pytest.mark.parametrize("write", [kitti, nuscenes, own])
@pytest.mark.parametrize(
    "value", [np.nan, SIGNALLING_NAN, np.inf, -np.inf, 3e38, -3e38, 1e19, 1e-45, 0.0]
)
@pytest.mark.parametrize("column", [0, 2, 3, slice(0, 3), slice(0, 4)])
def test_every_point_gets_a_class_and_the_image_stays_finite(
    write: Any, value: float, column: Any, tmp_path: Path
) -> None:
    points, _ = turn(order="beams")
    points[::3, column] = value
    source, scan_id = write(tmp_path, points)
    check_prediction(source, scan_id, len(points), make_predictors(source, "inclination"))


@pytest.mark.parametrize("write", [kitti, nuscenes, own])
@pytest.mark.parametrize("value", [np.nan, 3e38, 0.0])
def test_a_scan_without_a_single_place(write: Any, value: float, tmp_path: Path) -> None:
    source, scan_id = write(tmp_path, np.full((32, 4), value, dtype=np.float32))
    check_prediction(source, scan_id, 32, make_predictors(source, "inclination"))


@pytest.mark.parametrize("write", [kitti, nuscenes, own])
def test_measurements_are_read_as_they_are(write: Any, tmp_path: Path) -> None:
    points, _ = turn()
    points[0] = [-999_999, 999_999, 0, 1]
    source, scan_id = write(tmp_path, points)
    scale = {kitti: 1, nuscenes: 255, own: 255}[write]
    expected = points / np.array([1, 1, 1, scale], dtype=np.float32)
    assert np.array_equal(source.read_scan(scan_id, with_labels=False).points, expected)


def test_one_bright_point_does_not_spoil_the_image(tmp_path: Path) -> None:
    points, _ = turn()
    sound, scan_id = kitti(tmp_path / "sound", points)
    points[0, 3] = 3e38
    damaged, _ = kitti(tmp_path / "damaged", points)
    images = RangeImages(sound.info, RangeImageSettings(height=16, width=64, rows="inclination"))
    one, other = (
        images.image(scan.points, images.project(scan)[0])
        for scan in (s.read_scan(scan_id, with_labels=False) for s in (sound, damaged))
    )
    assert (one != other).any(axis=0).sum() <= 3  # its pixel, and the steps of two neighbours


@pytest.mark.parametrize("name", ["read_points", "read_labels"])
def test_a_file_that_shrinks_as_it_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "000000.bin"
    path.write_bytes(bytes(32))
    monkeypatch.setattr(files, "count_points", lambda *_: 3)
    monkeypatch.setattr(files, "check_label_file", lambda *_: None)
    words = (path, 4) if name == "read_points" else (path, path, 9, "uint32")
    with pytest.raises(DataError, match=r"000000\.bin became shorter"):
        getattr(files, name)(*words)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe", b"[" * 100_000, b"null", b"1",
        b'{"version": 1, "settings": {"beams": 1024}, "complete": true}',
        b'{"version": 1, "settings": [], "complete": true}',
    ],
)  # fmt: skip
def test_a_simulation_stamp_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / STAMP).write_bytes(content)
    with pytest.raises(DataError, match=STAMP):
        read_stamp(tmp_path)
    assert Simulated(tmp_path).info.sensor.beams == 32  # a source can be made without its data
