"""The street in nuScenes' format: the real devkit reads it, and puts it where the world has it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.cli import main as rangeseg_data
from rangeseg.cli import main as rangeseg
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.simulated import Simulated
from rangeseg.errors import DataError
from rangeseg.geometry.beams import firing_beams
from rangeseg.simulation.generate import SimulationSettings, simulate_scan
from rangeseg.simulation.layout import SEGMENT
from rangeseg.simulation.nuscenes_tables import CATEGORIES
from rangeseg.simulation.terrain import ACROSS, CELL_X
from rangeseg.simulation.world import World

CONFIG = Path(__file__).parents[2] / "configs" / "nuscenes.yaml"
COLUMNS = 128
OPTIONS = {"seed": 3, "train_scans": 30, "val_scans": 42, "test_scans": 2, "columns": COLUMNS}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the commands themselves; to read."""
    root = tmp_path_factory.mktemp("simulated") / "street"
    options = [w for k, v in OPTIONS.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    words = ["simulate", str(root), "--format", "nuscenes", *options, "--workers", "1"]
    assert rangeseg_data(words) == 0
    assert rangeseg_data(["index", "nuscenes", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def tables(root: Path) -> Any:
    from nuscenes import NuScenes as Devkit

    return Devkit("v1.0-sim", str(root), verbose=False)


def key_frames(tables: Any) -> list[dict[str, Any]]:
    """Records of sample_data, in the order of the scenes and of time."""
    found = []
    for scene in tables.scene:
        token = scene["first_sample_token"]
        while token:
            sample = tables.get("sample", token)
            found.append(tables.get("sample_data", sample["data"]["LIDAR_TOP"]))
            token = sample["next"]
    return found


def in_the_world(tables: Any, scan: dict[str, Any]) -> np.ndarray:
    """The points (N,3) of a scan, moved by the devkit."""
    from nuscenes.utils.data_classes import LidarPointCloud
    from pyquaternion import Quaternion

    cloud = LidarPointCloud.from_file(tables.get_sample_data_path(scan["token"]))
    for table in ("calibrated_sensor", "ego_pose"):
        record = tables.get(table, scan[f"{table}_token"])
        cloud.rotate(Quaternion(record["rotation"]).rotation_matrix)
        cloud.translate(np.array(record["translation"]))
    moved: np.ndarray = cloud.points[:3].T
    return moved


def labels_of(tables: Any, scan: dict[str, Any]) -> np.ndarray:
    name = tables.get("lidarseg", scan["token"])["filename"]
    return np.fromfile(Path(tables.dataroot, name), np.uint8)


def test_the_devkit_knows_every_scene(tables: Any) -> None:
    from nuscenes.utils.color_map import get_colormap
    from nuscenes.utils.splits import create_splits_scenes

    assert tuple(get_colormap()) == CATEGORIES
    official = create_splits_scenes()
    scans = {s["name"]: s["nbr_samples"] for s in tables.scene}
    counts = {
        split: [scans[name] for name in official[split] if name in scans]
        for split in ("train", "val", "test")
    }
    assert counts == {"train": [3] * 10, "val": [40, 2], "test": [1, 1]}
    assert len(tables.log) == 13
    assert len(key_frames(tables)) == len(tables.sample) == 74
    first, second = key_frames(tables)[:2]
    assert second["timestamp"] - first["timestamp"] == 500_000
    assert (first["next"], second["prev"]) == (second["token"], first["token"])


def test_the_devkit_reads_points_and_labels(tables: Any) -> None:
    from nuscenes.utils.data_classes import LidarPointCloud

    scan = key_frames(tables)[1]
    path = Path(tables.get_sample_data_path(scan["token"]))
    assert LidarPointCloud.from_file(str(path)).points.shape == (4, 32 * COLUMNS)
    points = np.fromfile(path, "<f4").reshape(-1, 5)
    np.testing.assert_array_equal(points[:, 4], np.tile(np.arange(32), COLUMNS))
    distance = np.linalg.norm(points[:, :3], axis=1)
    inclination = np.degrees(np.arcsin(points[:, 2] / distance)).reshape(COLUMNS, 32)
    np.testing.assert_allclose(inclination[3], -30.67 + np.arange(32) * 4 / 3, atol=0.1)
    # Firings go clockwise from the left, each of them in its own column; file order is found.
    azimuth = np.unwrap(np.median(np.arctan2(points[:, 1], points[:, 0]).reshape(-1, 32), axis=1))
    assert (np.diff(azimuth) < 0).all()
    assert abs(azimuth[0] - np.pi) < 2 * np.pi / COLUMNS
    assert firing_beams(points[:, :3], 32, min_range=1.0) is not None
    labels = labels_of(tables, scan)
    lost = distance < 1.0
    assert 0.02 < lost.mean() < 0.4
    assert not labels[lost].any()
    assert 10 < points[~lost, 3].mean() < 40
    assert (points[:, 3] == np.round(points[:, 3])).all()


def test_classes_are_the_streets(tables: Any) -> None:
    """All that the street has of nuScenes' 16 classes, and nothing else."""
    there = np.unique(np.concatenate([labels_of(tables, scan) for scan in key_frames(tables)]))
    names = NuScenes.info.label_map.names
    found = {names[i] for i in NuScenes.info.label_map.to_train(there) if i != 255}
    assert found == set(names) - {"barrier", "construction_vehicle", "traffic_cone"}
    settings = SimulationSettings(format="nuscenes", **OPTIONS)
    reading = simulate_scan(World(3, "00", 5.0), 1, settings)
    second = labels_of(tables, key_frames(tables)[1])
    same = {"vehicle.car": (10, 252), "flat.sidewalk": (48,), "static.vegetation": (70, 71)}
    for name, raw in same.items():
        expected = np.isin(reading.labels & 0xFFFF, raw).sum()
        assert (second == CATEGORIES.index(name)).sum() == expected > 0


@pytest.mark.parametrize("place", [1, 33, 71])
def test_poses_put_the_ground_where_the_world_has_it(tables: Any, place: int) -> None:
    scan = key_frames(tables)[place]
    log = tables.get("scene", tables.get("sample", scan["sample_token"])["scene_token"])[
        "log_token"
    ]
    world = World(3, tables.get("log", log)["logfile"].removeprefix("sim-"), 5.0)
    road = labels_of(tables, scan) == CATEGORIES.index("flat.driveable_surface")
    x, y, z = in_the_world(tables, scan)[road].T
    t = (y - world.course.line(x)) * world.course.cosine(x)
    segment = np.floor(x / SEGMENT).astype(int)
    height, road_there = np.empty_like(z), np.zeros(len(z), dtype=bool)
    for number in np.unique(segment):
        tile, here = world.segment(int(number))[1], segment == number
        row = np.clip(((x[here] - number * SEGMENT) / CELL_X).astype(int), 0, len(tile.height) - 1)
        column = np.abs(t[here, None] - ACROSS).argmin(axis=1)
        height[here] = tile.height[row, column]
        road_there[here] = np.isin(tile.surface[row, column], (0, 1, 2))
    assert np.median(np.abs(z - height)) < 0.03  # the noise of a range is 0.02
    assert road_there.mean() > 0.97


def test_it_is_completed_and_never_overwritten(root: Path, tmp_path: Path) -> None:
    harmed = Path(shutil.copytree(root, tmp_path / "street"))
    kept, *gone = sorted(harmed.glob("samples/LIDAR_TOP/*"))[:3]
    gone += [next(harmed.glob("lidarseg/*/*")), harmed / "v1.0-sim/ego_pose.json"]
    before = kept.stat().st_mtime_ns
    for path in gone:
        path.unlink()
    assert rangeseg_data(["simulate", str(harmed)]) == 0
    assert kept.stat().st_mtime_ns == before
    for path in gone:
        assert path.read_bytes() == (root / path.relative_to(harmed)).read_bytes()


@pytest.mark.slow
def test_every_command_takes_it(root: Path, tmp_path: Path, capsys: Capture) -> None:
    assert rangeseg_data(["check", "nuscenes", str(root), "--deep"]) == 0
    captured = capsys.readouterr()
    assert "checking nuscenes_simulated: 74/74 scans" in captured.err
    assert "partial" not in captured.out + captured.err  # nobody published it
    words = ["propagate", "nuscenes", str(root), "--labels", "20%", "--reach", "0.5s"]
    assert rangeseg_data([*words, "--out", str(tmp_path / "propagated"), "--verify"]) == 0
    assert "poses: data set" in capsys.readouterr().out
    settings = [
        f"dataset.root={root}", "range_image.width=128", "range_image.crop_width=32",
        "model.width=4", "train.steps=2", "train.workers=0", "train.lovasz_weight=0",
    ]  # fmt: skip
    run = tmp_path / "run"
    words = ["train", str(CONFIG), *[w for s in settings for w in ("--set", s)]]
    words += ["--method", "cutmix_seg", "--labels", "10%", "--out", str(run)]
    assert rangeseg(words) == 0
    assert rangeseg(["evaluate", str(run), "--split", "test"]) == 0
    protocol = json.loads((run / "result_test.json").read_text())["protocol"]
    assert (protocol["dataset"], protocol["rows"]) == ("nuscenes_simulated", "ring")


def test_what_is_wrong_is_said(root: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["simulate", str(tmp_path / "new"), "--format", "nuscenes"]
    assert rangeseg_data([*words, "--beams", "64"]) == 2
    assert "--beams 64: nuScenes' HDL-32E has 32" in capsys.readouterr().err
    assert rangeseg_data(["simulate", str(tmp_path / "new"), "--format", "kiti"]) == 2
    assert "--format kiti: Input should be 'kitti' or 'nuscenes'" in capsys.readouterr().err
    assert rangeseg_data([*words, "--val-scans", "6001"]) == 2
    assert "6001 val scans make 151 scenes of 40, but nuScenes has 150" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert rangeseg_data(["simulate", str(root), "--seed", "3"]) == 3
    assert "format: nuscenes there, kitti asked" in capsys.readouterr().err
    with pytest.raises(
        DataError, match=r"is simulated in nuScenes' format: give .*configs/nuscenes"
    ):
        Simulated(root).check_root()


def test_a_missing_file_is_simulated_and_not_downloaded(
    root: Path, tmp_path: Path, capsys: Capture
) -> None:
    harmed = Path(shutil.copytree(root, tmp_path / "street"))
    next(harmed.glob("samples/LIDAR_TOP/*")).unlink()
    assert rangeseg_data(["index", "nuscenes", str(harmed)]) == 3
    said = capsys.readouterr().err
    assert f"complete it with `rangeseg-data simulate {harmed}`" in said
    assert "nuscenes.org" not in said
