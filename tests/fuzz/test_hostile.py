"""Files of somebody who means harm: nothing runs, nothing is written elsewhere, memory stays."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from data_tools.cli import main as prepare
from rangeseg.cli import main
from rangeseg.datasets.formats import count_points
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.nuscenes.index import index_path
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.scan_files import read_points
from rangeseg.datasets.split_files import read_split
from rangeseg.engine.checkpoint import read_checkpoint
from rangeseg.errors import CheckpointError, ConfigError, DataError
from rangeseg.runs.config import load_config
from tests.data_tools.kitti_layout import write_root
from tests.fuzz.test_fuzz import CONFIGS, CPU, POINTS, kitti, nuscenes


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["pickle", "legacy", "alone", "inside"])
def test_a_checkpoint_runs_no_code(
    kind: str, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a pickle, in PyTorch's formats, and inside a sound checkpoint."""
    run, bomb = tmp_path / "run", Bomb(tmp_path / "went_off")
    shutil.copytree(trained_run, run)
    sound = torch.load(run / "last.pt", weights_only=True)
    file = io.BytesIO()
    if kind == "pickle":
        pickle.dump(bomb, file)
        pickle.loads(file.getvalue())  # it is one
        bomb.marker.rmdir()
    else:
        value = {**sound, "training": {"optimiser": bomb}} if kind == "inside" else bomb
        torch.save(value, file, _use_new_zipfile_serialization=kind != "legacy")
    (run / "last.pt").write_bytes(file.getvalue())
    assert main(["evaluate", str(run)]) == 3
    assert "last.pt is damaged or not a checkpoint" in capsys.readouterr().err
    assert not bomb.marker.exists()


def test_compressed_tensors_are_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10 << 20))
    with pytest.raises(CheckpointError, match=r"last\.pt .*packed entries"):
        read_checkpoint(tmp_path / "last.pt", CPU)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    path, marker = tmp_path / "config.yaml", tmp_path / "marker"
    text = f"!!python/object/apply:os.mkdir ['{marker}']"
    path.write_text(f"dataset: {text}")
    with pytest.raises(ConfigError, match=r"config\.yaml is not YAML: could not determine"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"--set dataset\.root=.* is not YAML"):
        load_config(CONFIGS / "simulated.yaml", [f"dataset.root={text}"])
    assert not marker.exists()


@pytest.mark.parametrize(
    "layout",
    [
        {"labels_suffix": "/../../../escaped"}, {"points_suffix": "\\..\\x"},
        {"labels_folder": "../../elsewhere"}, {"points_folder": "/etc"},
    ],
)  # fmt: skip
def test_a_layout_stays_in_its_sequence(layout: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"a folder below|the ending of"):
        Layout.model_validate(layout)


@pytest.mark.parametrize(
    "line", ["../../escaped", "/etc/passwd", "00/..", "..\\..\\escaped", "00/000000/../../../x"]
)
def test_a_list_leads_nowhere_else(line: str, tmp_path: Path) -> None:
    root, listed = write_root(tmp_path / "kitti"), tmp_path / "list.txt"
    listed.write_text(f"00/000000\n{line}\n")
    with pytest.raises(DataError, match=r"list\.txt:2: .* is not a scan id"):
        read_split(listed)
    before = sorted(tmp_path.rglob("*"))
    words = ["split", "semantic_kitti", str(root), "--import", str(listed)]
    assert prepare([*words, "--out", str(tmp_path / "out")]) == 3
    assert sorted(tmp_path.rglob("*")) == before


def change_scan(place: int, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda index: index["scenes"]["scene-0061"]["scans"][0].__setitem__(place, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_scan(0, "../../escaped"), "is damaged"),
        (change_scan(1, "a\0b"), "is damaged"),
        (change_scan(2, "/etc/passwd"), "is damaged"),
        (change_scan(3, "a/../../b"), "is damaged"),
        (lambda index: index.update(data="/nowhere"), "names the data folder .*, which is missing"),
        (lambda index: index.update(version="v1.0-trainval"), "is of v1.0-trainval"),
    ],
)
def test_an_index_that_lies(
    change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path
) -> None:
    nuscenes(tmp_path)
    path = index_path(tmp_path, "v1.0-mini")
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"rangeseg_index_v1\.0-mini\.json .*{message}"):
        NuScenes(tmp_path).scan_ids("train")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(99999999999, 4)"), header("(4611686018427387904, 4)"), header("(-1, 4)"),
        header("(True, 4)"), header("(" * 60), header("()"), header("'a'"),
        header("(2, 4)", "'|O'"), header("(2, 4)", "'x'"), header("(2, 4)", "[('a', '<f4')]"),
        b"\x93NUMPY\x09\x00", header("(2, 4)") + bytes(31),
    ],
)  # fmt: skip
def test_npy_headers_that_lie(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "000000.npy"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_points(path, Layout())
    assert str(path) in str(error.value)


def test_a_file_of_a_tebibyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "000000.bin"
    path.touch()
    os.truncate(path, 1 << 40)  # takes no room on the disk
    for read in (count_points, read_points):
        with pytest.raises(DataError, match=r"000000\.bin has .* more than one turn"):
            read(path, Layout())


def test_one_bright_point_does_not_spoil_the_image(tmp_path: Path) -> None:
    source, scan_id, *_ = kitti(tmp_path)
    path = source.paths(scan_id)[0]
    images = RangeImages(source.info, RangeImageSettings(height=16, width=64, rows="inclination"))
    found = []
    for bright in (0.5, 3e38):
        points = POINTS.copy()
        points[0, 3] = bright
        points.tofile(path)
        scan = source.read_scan(scan_id, with_labels=False)
        found.append(images.image(scan.points, images.project(scan)[0]))
    # Its pixel, and the steps of two neighbours.
    assert (found[0] != found[1]).any(axis=0).sum() <= 3
    assert np.isfinite(found[1]).all()
