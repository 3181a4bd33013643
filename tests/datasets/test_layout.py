"""What a layout states is applied: units, axes, tilt, frame, rings, labels, folders, names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import read_points
from rangeseg.datasets.sequences import in_order
from rangeseg.datasets.split_files import read_split, write_split
from rangeseg.errors import DataError
from tests.datasets.formats.files import table
from tests.datasets.own_scans import (
    BEAMS,
    DESCRIPTION,
    raw_labels,
    turn,
    write_labels,
    write_points,
)

POINTS, BEAM = turn()
RAW = raw_labels(POINTS)


def custom(root: Path, layout: dict[str, Any], **changes: Any) -> Custom:
    values = copy.deepcopy(DESCRIPTION) | {"layout": layout} | changes
    return Custom(root, Description.model_validate(values))


class TestCoordinates:
    """Each case writes POINTS as somebody else has them, and states how."""

    def check(self, root: Path, values: np.ndarray, layout: dict[str, Any], atol: float) -> None:
        path = write_points(root, "01/000000", values, ".npy")
        found = read_points(path, Layout.model_validate(layout)).points
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, POINTS, atol=atol)

    def test_millimetres(self, tmp_path: Path) -> None:
        self.check(tmp_path, POINTS * np.float32([1000, 1000, 1000, 1]), {"scale": 1e-3}, 1e-5)

    @pytest.mark.parametrize(
        ("axes", "written"),
        [
            (["z", "-x", "-y"], [-POINTS[:, 1], -POINTS[:, 2], POINTS[:, 0]]),  # a camera's
            (["x", "-y", "-z"], [POINTS[:, 0], -POINTS[:, 1], -POINTS[:, 2]]),  # on its head
            (["y", "-x", "z"], [-POINTS[:, 1], POINTS[:, 0], POINTS[:, 2]]),  # PandaSet's
            (["x", "-y", "z"], [POINTS[:, 0], -POINTS[:, 1], POINTS[:, 2]]),  # left-handed, CARLA's
        ],
    )
    def test_axes(self, axes: list[str], written: list[np.ndarray], tmp_path: Path) -> None:
        self.check(tmp_path, np.stack([*written, POINTS[:, 3]], axis=1), {"axes": axes}, 0)

    def test_a_sensor_that_looks_down(self, tmp_path: Path) -> None:
        """A point straight ahead of a sensor with a pitch of 30 degrees lies on the ground."""
        layout = Layout(pitch_deg=30)
        write = write_points(tmp_path, "01/0", np.array([[2.0, 0, 0, 0]]), ".npy")
        found = read_points(write, layout).points[0, :3]
        np.testing.assert_allclose(found, [np.sqrt(3), 0, -1], atol=1e-6)
        write = write_points(tmp_path, "01/1", np.array([[0, 2.0, 0, 0]]), ".npy")
        found = read_points(write, Layout(roll_deg=30)).points[0, :3]
        np.testing.assert_allclose(found, [0, np.sqrt(3), 1], atol=1e-6)  # its left side up

    def test_tilt_is_taken_out_after_the_axes(self, tmp_path: Path) -> None:
        from scipy.spatial.transform import Rotation

        tilt = Rotation.from_euler("xyz", [10, 20, 0], degrees=True).as_matrix()
        xyz = POINTS[:, :3].astype(np.float64) @ tilt  # the inverse, to the tilted sensor
        camera = np.stack([-xyz[:, 1], -xyz[:, 2], xyz[:, 0], POINTS[:, 3]], axis=1)
        layout = {"axes": ["z", "-x", "-y"], "roll_deg": 10, "pitch_deg": 20}
        self.check(tmp_path, camera, layout, 1e-5)

    def test_empty_returns_stay_empty(self, tmp_path: Path) -> None:
        values = POINTS.astype(np.float64)
        values[::7, :3] = 0
        path = write_points(tmp_path, "01/0", values, ".npy")
        pose = np.eye(4)
        pose[:3, 3] = 100
        found = read_points(path, Layout(frame="world"), pose).points
        assert not found[::7, :3].any()
        np.testing.assert_allclose(found[1, :3], POINTS[1, :3] - 100, atol=1e-4)


class TestWorld:
    """UTM coordinates in float64, far from the origin."""

    def poses(self) -> np.ndarray:
        from scipy.spatial.transform import Rotation

        poses = np.tile(np.eye(4), (2, 1, 1))
        poses[:, :3, :3] = Rotation.from_euler("z", [[0.3], [0.5]]).as_matrix()
        poses[:, :3, 3] = [[500_000, 5_400_000, 300], [500_001, 5_400_000, 300]]
        return poses

    def write(self, root: Path, lines: int = 2, turned: bool = False) -> np.ndarray:
        poses = self.poses()
        for frame, pose in enumerate(poses):
            xyz = POINTS[:, :3].astype(np.float64)
            if turned:  # the sensor's own axes: right, down, forward
                xyz = np.stack([-xyz[:, 1], -xyz[:, 2], xyz[:, 0]], axis=1)
            world = xyz @ pose[:3, :3].T + pose[:3, 3]
            write_points(root, f"01/{frame}", np.column_stack([world, POINTS[:, 3]]), ".npy")
        text = "\n".join(" ".join(map(repr, p[:3].ravel().tolist())) for p in poses[:lines])
        (root / "sequences" / "01" / "poses.txt").write_text(text)
        return poses

    def test_back_to_the_sensor(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        mine = custom(tmp_path, {"points_suffix": ".npy", "frame": "world"})
        for frame in ("01/0", "01/1", "01/0"):
            found = mine.read_scan(frame, with_labels=False).points
            np.testing.assert_allclose(found, POINTS, atol=1e-5)

    def test_with_axes_the_poses_turn_too(self, tmp_path: Path) -> None:
        poses = self.write(tmp_path, turned=True)
        layout = {"points_suffix": ".npy", "frame": "world", "axes": ["z", "-x", "-y"]}
        mine = custom(tmp_path, layout)
        found = mine.read_scan("01/1", with_labels=False).points
        np.testing.assert_allclose(found, POINTS, atol=1e-5)
        turned = mine.poses("01")["01/1"]
        assert np.linalg.det(turned[:3, :3]) == pytest.approx(1)
        # Where the points lie, seen from the first scan, is the same in both frames.
        own = np.linalg.inv(mine.poses("01")["01/0"]) @ turned
        rotation = mine.layout.rotation()
        file = np.linalg.inv(poses[0]) @ poses[1]
        np.testing.assert_allclose(own[:3, :3], rotation @ file[:3, :3] @ rotation.T, atol=1e-9)
        np.testing.assert_allclose(own[:3, 3], rotation @ file[:3, 3], atol=1e-6)

    def test_a_scan_without_a_pose(self, tmp_path: Path) -> None:
        self.write(tmp_path, lines=1)
        mine = custom(tmp_path, {"points_suffix": ".npy", "frame": "world"})
        with pytest.raises(DataError, match=r"scan 01/1 has no pose in .*layout\.frame=world"):
            mine.read_scan("01/1", with_labels=False)
        (tmp_path / "sequences/01/poses.txt").unlink()
        mine = custom(tmp_path, {"points_suffix": ".npy", "frame": "world"})
        with pytest.raises(DataError, match=r"poses\.txt does not exist"):
            mine.read_scan("01/0", with_labels=False)


class TestRings:
    def write(self, root: Path, ring: np.ndarray) -> None:
        path = root / "sequences/01/velodyne/0.npy"
        path.parent.mkdir(parents=True)
        np.save(path, table(POINTS, ring, "x y z i channel"))

    def test_by_name_where_rows_need_it(self, tmp_path: Path) -> None:
        self.write(tmp_path, (BEAMS - 1 - BEAM).astype(np.uint16))
        rows = {"sensor": {**DESCRIPTION["sensor"], "rows": "ring"}}
        layout = {"points_suffix": ".npy", "ring_zero": "lowest"}
        scan = custom(tmp_path, layout, **rows).read_scan("01/0", with_labels=False)
        np.testing.assert_array_equal(scan.ring, BEAM)
        assert custom(tmp_path, layout).read_scan("01/0", with_labels=False).ring is None
        layout["fields"] = {"ring": "channel"}
        scan = custom(tmp_path, layout).read_scan("01/0", with_labels=False)
        np.testing.assert_array_equal(scan.ring, BEAM)

    def test_of_another_sensor(self, tmp_path: Path) -> None:
        self.write(tmp_path, BEAM.astype(np.uint16) + 60000)
        mine = custom(tmp_path, {"points_suffix": ".npy", "fields": {"ring": "channel"}})
        with pytest.raises(DataError, match=r"holds 60000 to 60015 in field 'channel', expected"):
            mine.read_scan("01/0", with_labels=False)

    def test_raw_files_name_no_ring(self) -> None:
        values = copy.deepcopy(DESCRIPTION)
        values["sensor"]["rows"] = "ring"
        with pytest.raises(ValidationError, match=r"rows by ring need layout\.ring_column"):
            Description.model_validate(values)
        Description.model_validate(values | {"layout": {"points_suffix": ".pcd"}})


class TestLabels:
    def source(self, root: Path, layout: dict[str, Any], ignored: list[int]) -> Custom:
        write_points(root, "01/0", POINTS)
        return custom(root, layout, ignored_ids=ignored)

    def check(self, mine: Custom, ignored: slice) -> None:
        labels = mine.read_scan("01/0").labels
        assert labels is not None
        expected = (RAW == 9).astype(np.uint8)
        expected[ignored] = IGNORE
        np.testing.assert_array_equal(labels, expected)

    @pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "float32", "float64"])
    @pytest.mark.parametrize("byte_order", ["little", "big"])
    def test_signed_types_and_minus_one(self, kind: str, byte_order: str, tmp_path: Path) -> None:
        raw = RAW.astype(np.dtype(kind).newbyteorder(byte_order))
        raw[:5] = -1
        write_labels(tmp_path, "01/0", raw)
        layout = {"label_type": kind, "labels_suffix": ".label"}
        if byte_order == "big":
            layout["byte_order"] = "big"
        mine = self.source(tmp_path, layout, [-1])
        POINTS.astype(">f4" if byte_order == "big" else "<f4").tofile(mine.paths("01/0")[0])
        self.check(mine, slice(5))
        written = mine.encode_labels(np.array([0, 1, IGNORE], dtype=np.uint8))
        assert written.tolist() == [7, 9, -1]
        assert written.dtype.kind == "i"
        assert mine.info.label_map.to_train(written).tolist() == [0, 1, IGNORE]

    @pytest.mark.parametrize("kind", ["uint8", "uint16", "uint64"])
    def test_255_is_ignored(self, kind: str, tmp_path: Path) -> None:
        raw = RAW.astype(kind)
        raw[:5] = 255
        write_labels(tmp_path, "01/0", raw)
        mine = self.source(tmp_path, {"label_type": kind}, [255])
        self.check(mine, slice(5))
        assert mine.encode_labels(np.array([IGNORE], dtype=np.uint8)).dtype == kind

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", ">i4"])
    def test_npy(self, dtype: str, tmp_path: Path) -> None:
        mine = self.source(tmp_path, {"labels_suffix": ".npy"}, [0])
        path = mine.paths("01/0")[1]
        path.parent.mkdir()
        np.save(path, RAW.astype(dtype)[:, None])
        assert mine.check_files("01/0") == len(POINTS)
        self.check(mine, slice(0))
        assert mine.label_file("01/0") == "sequences/01/labels/0.label"
        assert mine.prediction_file("01/0", "val") == "sequences/01/predictions/0.label"
        np.save(path, RAW[:-1])
        with pytest.raises(DataError, match=r"0\.npy has 3071 labels but 0\.bin has 3072 points"):
            mine.check_files("01/0")
        np.save(path, np.where(RAW == 9, 9.5, RAW))
        with pytest.raises(DataError, match=r"0\.npy holds the label 9\.5, which is no whole numb"):
            mine.read_scan("01/0")

    def test_colours(self, tmp_path: Path) -> None:
        """Packed in four bytes, in PCL's float `rgb`, or as three columns."""
        red, blue = 0xFF0000, 0x0000FF
        packed = np.where(RAW == 9, red, blue).astype(np.uint32)
        classes = [
            {"name": "floor", "ids": [blue], "colour": [0, 0, 255]},
            {"name": "wall", "ids": [red], "colour": [255, 0, 0]},
        ]
        write_points(tmp_path, "01/0", POINTS)
        layout = {"label_type": "colour"}
        mine = custom(tmp_path, layout, classes=classes, ignored_ids=[0])
        path = write_labels(tmp_path, "01/0", packed | np.uint32(0x7F << 24))  # opacity
        self.check(mine, slice(0))
        written = mine.encode_labels(np.array([0, 1, IGNORE], dtype=np.uint8))
        assert written.tolist() == [blue, red, 0]
        assert mine.info.label_map.to_train(written).tolist() == [0, 1, IGNORE]
        columns = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=1)
        path.unlink()
        with path.open("wb") as file:
            np.save(file, columns.astype(np.uint8))
        self.check(mine, slice(0))
        values = np.column_stack([POINTS, packed.view(np.float32)])
        write_points(tmp_path, "01/0", values)
        layout |= {"columns": 5, "fields": {"label": "column_4"}}
        self.check(custom(tmp_path, layout, classes=classes, ignored_ids=[0]), slice(0))

    def test_a_field_of_the_point_file(self, tmp_path: Path) -> None:
        path = tmp_path / "sequences/01/velodyne/0.npy"
        path.parent.mkdir(parents=True)
        np.save(path, table(POINTS, RAW.astype(np.float32), "x y z intensity truth"))
        np.save(path.with_name("1.npy"), POINTS)  # unlabelled
        layout = {"points_suffix": ".npy", "fields": {"label": "truth"}}
        mine = custom(tmp_path, layout)
        self.check(mine, slice(0))
        assert [mine.has_labels(i) for i in mine.sequence_ids("01")] == [True, False]
        assert mine.read_scan("01/1", with_labels=False).labels is None
        for ask in (mine.read_scan, mine.check_files):
            with pytest.raises(DataError, match=r"1\.npy has no field 'truth', which layout"):
                ask("01/1")
        assert mine.labels_without_scan("01") == []

    def test_a_wrong_width_is_named(self, tmp_path: Path) -> None:
        mine = self.source(tmp_path, {}, [0])
        write_labels(tmp_path, "01/0", RAW.astype(np.int64))
        with pytest.raises(DataError, match=r"has 6144 labels .*labels are 8 bytes wide \(layout"):
            mine.check_files("01/0")

    def test_limits_of_ids(self) -> None:
        for kind, highest in {"int8": 127, "int16": 32767, "uint32": 65535, "colour": 0xFFFFFF,
                              "int32": 2**31 - 1, "float32": 1 << 24}.items():  # fmt: skip
            for number, sound in ((highest, True), (highest + 1, False)):
                values = copy.deepcopy(DESCRIPTION) | {"layout": {"label_type": kind}}
                values["ignored_ids"] = [number]
                if sound:
                    Description.model_validate(values)
                    continue
                with pytest.raises(ValidationError, match=rf"to {highest}"):
                    Description.model_validate(values)


def test_words_of_a_command_line() -> None:
    stated = {"axes": "z,-x, -y", "fields": "ring:channel, label:truth", "accept": "merged,tilt"}
    layout = Layout.model_validate(stated)
    assert layout.axes == ("z", "-x", "-y")
    assert layout.fields == {"ring": "channel", "label": "truth"}
    assert layout.accept == ("merged", "tilt")
    same = {"labels_folder": ".", "points_folder": "./", "labels_suffix": ".bin"}
    with pytest.raises(ValidationError, match="name the files of the points"):
        Layout.model_validate(same)
    for stated, message in (
        ({"axes": "x,y"}, "Field required|too short"),
        ({"fields": "channel"}, "Input should be 'x'"),
        ({"sequences_folder": "../up"}, "a folder below"),
        ({"time_column": 4}, "there are 4 in all"),
    ):
        with pytest.raises(ValidationError, match=message):
            Layout.model_validate(stated)


class TestFolders:
    def test_sequences_in_the_root_with_blanks(self, tmp_path: Path) -> None:
        for sequence in ("drive 1", "drive 2", "drive (3)"):
            (tmp_path / sequence).mkdir()
            for frame in ("frame 10", "frame 9"):
                POINTS.tofile(tmp_path / sequence / f"{frame}.bin")
                RAW.tofile(tmp_path / sequence / f"{frame}.label")
        layout = {"sequences_folder": ".", "points_folder": ".", "labels_folder": "."}
        names = {"train": ["drive 1", "drive 2"], "val": ["drive (3)"]}
        mine = custom(tmp_path, layout, sequences=names)
        mine.check_root()
        ids = mine.scan_ids("train")
        assert ids[:2] == ["drive 1/frame 9", "drive 1/frame 10"]
        assert mine.labelled_ids("train") == ids
        assert mine.read_scan(ids[0]).labels is not None
        assert mine.label_file(ids[0]) == "drive 1/frame 9.label"
        assert mine.prediction_file(ids[0], "train") == "drive 1/predictions/frame 9.label"
        write_split(tmp_path / "list.txt", ids, "all")
        assert read_split(tmp_path / "list.txt") == ids

    def test_a_root_that_is_none(self, tmp_path: Path) -> None:
        layout = {"sequences_folder": "drives", "points_folder": ".", "points_suffix": ".pcd"}
        mine = custom(tmp_path, layout)
        with pytest.raises(DataError, match=r"no folder drives/ .*ROOT/drives/00/000000\.pcd"):
            mine.check_root()


@pytest.mark.parametrize(
    "names",
    [
        ["1673400471.1", "1673400471.15", "1673400471.2", "1673400471.25", "1673400472"],
        ["1673400471837873221", "1673400471837873222", "1673400471837873223"],
        ["1673400471.837873221", "1673400471.837873222", "1673400471.8378732221"],
        ["scan_0.9", "scan_0.95", "scan_1.0", "scan_10.0"],
        ["0", "1", "2", "10", "a2", "a10", "b1_9", "b1_10"],
    ],
)
def test_frames_go_by_their_times(names: list[str]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert sorted(rng.permutation(names).tolist(), key=in_order) == names
