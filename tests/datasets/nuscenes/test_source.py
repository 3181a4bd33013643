"""NuScenes against the official devkit, on made-up data that the devkit loads."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets import open_dataset
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.index import write_index
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.nuscenes.tables import build_index
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.sensor import HDL_32E
from rangeseg.system.files import write_file
from tests.datasets.nuscenes_format import BEAMS, write_nuscenes

FIRINGS = 16
INDEX = "rangeseg_index_v1.0-mini.json"


def indexed(root: Path, version: str, scenes: list[str] | None = None, samples: int = 2) -> Path:
    write_nuscenes(root, version, scenes, samples, FIRINGS)
    write_index(build_index(root, version), root)
    return root


def load(root: Path, version: str) -> Any:
    """The devkit's own view of the data."""
    from nuscenes import NuScenes as Devkit

    return Devkit(version, str(root), verbose=False)


@pytest.fixture(scope="module")
def mini_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(tmp_path_factory.mktemp("mini"), "v1.0-mini")


@pytest.fixture(scope="module")
def mini(mini_root: Path) -> Any:
    return load(mini_root, "v1.0-mini")


@pytest.fixture(scope="module")
def test_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return indexed(tmp_path_factory.mktemp("test"), "v1.0-test", samples=1)


@pytest.fixture
def root(mini_root: Path, tmp_path: Path) -> Path:
    """A copy that may be harmed."""
    return Path(shutil.copytree(mini_root, tmp_path / "nuscenes"))


class TestTables:
    label_map = NuScenes.info.label_map

    def test_all_32_ids(self, mini: Any) -> None:
        from nuscenes.eval.lidarseg.utils import LidarsegClassMapper

        official = LidarsegClassMapper(mini).fine_idx_2_coarse_idx_mapping
        assert sorted(official) == list(range(32))
        ours = self.label_map.to_train(np.arange(32, dtype=np.uint8))
        assert [IGNORE if official[i] == 0 else official[i] - 1 for i in range(32)] == ours.tolist()
        assert len(self.label_map.raw_to_train) == 32

    def test_names_and_colours(self, mini: Any) -> None:
        from nuscenes.eval.lidarseg.utils import LidarsegClassMapper

        mapper = LidarsegClassMapper(mini)
        index_of = mapper.coarse_name_2_coarse_idx_mapping
        assert {name: i + 1 for i, name in enumerate(self.label_map.names)} == {
            name: i for name, i in index_of.items() if i != 0
        }
        for name, colour in zip(self.label_map.names, self.label_map.colours, strict=True):
            assert tuple(colour) == mapper.coarse_colormap[name]

    def test_what_is_known_without_reading(self) -> None:
        info = NuScenes.info
        assert (info.name, info.policy, info.sensor) == ("nuscenes", "nuscenes", HDL_32E)
        assert isinstance(open_dataset("nuscenes", Path("nowhere")), NuScenes)  # reads nothing
        assert NuScenes(Path("nowhere")).splits == ("train", "val", "test")


class TestListing:
    @pytest.mark.parametrize(("split", "official"), [("train", "mini_train"), ("val", "mini_val")])
    def test_splits_are_the_official_ones(
        self, split: str, official: str, mini_root: Path, mini: Any
    ) -> None:
        from nuscenes.eval.lidarseg.utils import get_samples_in_eval_set
        from nuscenes.utils.splits import create_splits_scenes

        source = NuScenes(mini_root)
        assert source.sequences(split) == tuple(sorted(create_splits_scenes()[official]))
        assert sorted(source.scan_ids(split)) == sorted(get_samples_in_eval_set(mini, official))

    def test_scenes_are_in_the_order_of_time(self, mini_root: Path, mini: Any) -> None:
        source = NuScenes(mini_root)
        for scene in mini.scene:
            first, last = source.sequence_ids(scene["name"])
            assert (first, last) == (scene["first_sample_token"], scene["last_sample_token"])
        by_token = [
            sorted(ids) == ids for ids in map(source.sequence_ids, source.sequences("train"))
        ]
        assert not all(by_token)  # or the order of time would prove nothing

    def test_trainval_comes_before_mini(self, root: Path) -> None:
        indexed(root, "v1.0-trainval", ["scene-0061", "scene-0001", "scene-0003"])
        source = NuScenes(root)
        assert source.sequences("train") == ("scene-0001", "scene-0061")
        assert source.sequences("val") == ("scene-0003",)
        first = source.scan_ids("val")[0]
        assert source.prediction_file(first, "val").startswith("lidarseg/val/")
        # The same scan as in v1.0-mini, with a label file of its own.
        shared = source.sequence_ids("scene-0061")[0]
        assert "v1.0-trainval" in str(source.paths(shared)[1])

    def test_unknown_names(self, mini_root: Path) -> None:
        source = NuScenes(mini_root)
        with pytest.raises(ConfigError, match=r"unknown split 'vall'.*did you mean 'val'"):
            source.scan_ids("vall")
        with pytest.raises(DataError, match="scene 'scene-0001' is not in the index of"):
            source.sequence_ids("scene-0001")
        with pytest.raises(DataError, match=r"'08/000000' is no sample token of v1\.0-mini as"):
            source.read_scan("08/000000")


class TestReading:
    def test_as_the_devkit_reads(self, mini_root: Path, mini: Any) -> None:
        from nuscenes.eval.lidarseg.utils import LidarsegClassMapper
        from nuscenes.utils.data_classes import LidarPointCloud
        from nuscenes.utils.data_io import load_bin_file

        source, mapper = NuScenes(mini_root), LidarsegClassMapper(mini)
        for sample in mini.sample:
            lidar_token = sample["data"]["LIDAR_TOP"]
            path = mini.get_sample_data_path(lidar_token)
            label_path = mini_root / mini.get("lidarseg", lidar_token)["filename"]
            assert source.paths(sample["token"]) == (Path(path), label_path)

            scan = source.read_scan(sample["token"])
            official = LidarPointCloud.from_file(path).points.T
            np.testing.assert_array_equal(scan.points[:, :3], official[:, :3])
            np.testing.assert_allclose(255 * scan.points[:, 3], official[:, 3], atol=1e-4)
            assert 0 < scan.points[:, 3].max() <= 1
            assert scan.points.dtype == np.float32
            assert scan.points.flags.c_contiguous

            classes = mapper.convert_label(load_bin_file(str(label_path)))
            assert scan.labels is not None
            assert scan.labels.dtype == np.uint8
            np.testing.assert_array_equal(scan.labels, np.where(classes == 0, IGNORE, classes - 1))
            assert source.check_files(sample["token"]) == len(scan.points)

    def test_ring_counts_from_the_highest_beam(self, mini_root: Path) -> None:
        source = NuScenes(mini_root)
        scan = source.read_scan(source.scan_ids("val")[0])
        assert scan.ring is not None
        assert scan.ring.dtype == np.int32
        depth = np.linalg.norm(scan.points[:, :3], axis=1)
        inclination = np.degrees(np.arcsin(scan.points[:, 2] / depth))
        np.testing.assert_allclose(inclination, 10.67 - scan.ring * 41.34 / 31, atol=0.01)

    def test_range_image(self, mini_root: Path) -> None:
        source = NuScenes(mini_root)
        scan = source.read_scan(source.scan_ids("val")[0])
        images = RangeImages(source.info, RangeImageSettings(height=32, width=64))
        projection, rule = images.project(scan)
        assert rule == "ring"
        far = np.linalg.norm(scan.points[:, :3], axis=1) >= 1.0
        assert 0.7 < far.mean() < 0.95
        np.testing.assert_array_equal(projection.row >= 0, far)
        np.testing.assert_array_equal(projection.row[far], scan.ring[far])  # type: ignore[index]

    def test_the_index_is_read_once_and_only_when_needed(self, root: Path) -> None:
        source = NuScenes(root)
        scan_id = NuScenes(root).scan_ids("val")[0]
        source.read_scan(scan_id)
        (root / INDEX).unlink()
        assert source.read_scan(scan_id).scan_id == scan_id

    def test_reading_needs_no_devkit(
        self, mini_root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in [name for name in sys.modules if name.split(".")[0] == "nuscenes"]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "nuscenes", None)
        source = NuScenes(mini_root)
        assert source.read_scan(source.scan_ids("val")[0]).labels is not None


def points_of(root: Path) -> Path:
    return next(iter(sorted(root.glob("samples/LIDAR_TOP/scene-0103*"))))


def labels_of(root: Path) -> Path:
    source = NuScenes(root)
    return source.paths(source.sequence_ids("scene-0103")[0])[1] or root


def cut(path: Path, amount: int) -> None:
    path.write_bytes(path.read_bytes()[:-amount])


def set_ring(root: Path, ring: float) -> None:
    values = np.fromfile(points_of(root), dtype=np.float32)
    values[4] = ring
    values.tofile(points_of(root))


# What is done to a sound root, and what is said about the first scan of scene-0103. Faults that
# every data set may have are in `survey/test_check.py`.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "mismatch": (
        lambda root: cut(labels_of(root), 1),
        r"_lidarseg\.bin has 511 labels but scene-0103\S*\.pcd\.bin has 512 points",
    ),
    "ring": (
        lambda root: set_ring(root, 32),
        r"scene-0103\S*\.pcd\.bin holds 0 to 32 in column 4, expected whole numbers 0 to 31",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_files(fault: str, root: Path) -> None:
    harm, message = FAULTS[fault]
    harm(root)
    source = NuScenes(root)
    scan_id = source.sequence_ids("scene-0103")[0]
    with pytest.raises(DataError, match=message):
        source.read_scan(scan_id)


def test_test_scans_have_no_labels(test_root: Path) -> None:
    source = NuScenes(test_root)
    scan_id = source.scan_ids("test")[0]
    for read in (source.read_scan, source.check_files):
        with pytest.raises(DataError, match=r"labels of scan .* are not published"):
            read(scan_id)


class TestBadIndex:
    @pytest.mark.parametrize("call", ["check_root", "scan_ids", "read_scan", "prediction_file"])
    def test_missing(self, call: str, root: Path) -> None:
        (root / INDEX).unlink()
        arguments = {
            "check_root": (), "scan_ids": ("train",), "read_scan": ("a" * 32,),
            "prediction_file": ("a" * 32, "val"),
        }  # fmt: skip
        with pytest.raises(
            DataError,
            match=rf"has no rangeseg_index_v1\.0-trainval\.json or {re.escape(INDEX)}.*: build it "
            rf"with: rangeseg-data index nuscenes {re.escape(str(root))} --version v1\.0-mini$",
        ):
            getattr(NuScenes(root), call)(*arguments[call])

    def test_the_command_can_be_pasted(self, root: Path) -> None:
        spaced = root.rename(root.with_name("my nuscenes"))
        (spaced / INDEX).unlink()
        with pytest.raises(
            DataError, match=rf"index nuscenes '{re.escape(str(spaced))}' --version"
        ):
            NuScenes(spaced).check_root()

    def test_missing_for_this_split(self, root: Path) -> None:
        with pytest.raises(
            DataError,
            match=rf"no tables to build it from: .*download v1\.0-test there and run rangeseg-data "
            rf"index nuscenes {re.escape(str(root))} --version v1\.0-test",
        ):
            NuScenes(root).scan_ids("test")

    def test_no_folder(self, tmp_path: Path) -> None:
        source = NuScenes(tmp_path / "missing")  # making one needs no data
        with pytest.raises(DataError, match="missing is not a folder: give nuScenes' own"):
            source.scan_ids("train")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: text[:-100], r"damaged or not of format 1 \(JSON: Invalid JSON: EOF"),
            (
                lambda text: json.dumps(json.loads(text) | {"format": 2}),
                r"not of format 1 \(format: Input should be 1\)",
            ),
            (
                lambda text: re.sub(r",1\d{15},\[[^]]*\]\]", "]", text, count=1),
                r"\(scenes\.scene-0061\.scans\.0\.4: Field required\)",
            ),
        ],
    )  # fmt: skip
    def test_damaged(self, change: Callable[[str], str], message: str, root: Path) -> None:
        path = root / INDEX
        path.write_text(change(path.read_text()))
        command = rf"rangeseg-data index nuscenes {re.escape(str(root))} --version v1\.0-mini"
        with pytest.raises(DataError, match=rf"{message}.*: build it with: {command}"):
            NuScenes(root).scan_ids("train")


def export(source: NuScenes, split: str, out: Path, rng: np.random.Generator) -> ConfusionMatrix:
    """Write random predictions without trailers (class 8); return our view of them."""
    matrix = ConfusionMatrix(16)
    classes = np.array([c for c in range(16) if c != 8], dtype=np.uint8)
    for scan_id in source.scan_ids(split):
        scan = source.read_scan(scan_id, with_labels=split != "test")
        prediction = rng.choice(classes, len(scan.points))
        if scan.labels is not None:
            right = (rng.random(len(prediction)) < 0.4) & (scan.labels != IGNORE)
            prediction = np.where(right, scan.labels, prediction)
            matrix.update(prediction, scan.labels)
        encoded = source.encode_prediction(prediction)
        write_file(out / source.prediction_file(scan_id, split), encoded.tobytes())
    for name, text in source.submission_files(split).items():
        write_file(out / name, text)
    return matrix


class TestExport:
    def test_the_devkit_accepts_it_and_agrees_on_the_miou(
        self, mini_root: Path, mini: Any, tmp_path: Path
    ) -> None:
        from nuscenes.eval.lidarseg.evaluate import LidarSegEval
        from nuscenes.eval.lidarseg.validate_submission import validate_submission

        source = NuScenes(mini_root)
        for split, official in (("val", "mini_val"), ("train", "mini_train")):
            matrix = export(source, split, tmp_path, np.random.default_rng(1))
            validate_submission(mini, str(tmp_path), official)
            result = LidarSegEval(mini, str(tmp_path), official).evaluate()
            ours = matrix.iou()
            assert np.isnan(ours[8])  # in neither truth nor prediction
            assert np.isfinite(ours).sum() > 8
            assert abs(result["miou"] - matrix.miou("nuscenes")) < 1e-9
            assert abs(result["miou"] - matrix.miou("semantickitti")) > 1e-3
            theirs = [result["iou_per_class"][name] for name in source.info.label_map.names]
            np.testing.assert_allclose(ours, theirs, atol=1e-9)

    def test_the_devkit_accepts_test_predictions(self, test_root: Path, tmp_path: Path) -> None:
        from nuscenes.eval.lidarseg.validate_submission import validate_submission

        source = NuScenes(test_root)
        export(source, "test", tmp_path, np.random.default_rng(2))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lidarseg", "test"]
        validate_submission(load(test_root, "v1.0-test"), str(tmp_path), "test")

    def test_the_devkit_refuses_a_withheld_label(
        self, mini_root: Path, mini: Any, tmp_path: Path
    ) -> None:
        from nuscenes.eval.lidarseg.validate_submission import validate_submission

        source = NuScenes(mini_root)
        export(source, "val", tmp_path, np.random.default_rng(3))
        path = tmp_path / source.prediction_file(source.scan_ids("val")[0], "val")
        labels = np.zeros(FIRINGS * BEAMS, dtype=np.uint8)
        labels[7] = IGNORE
        path.write_bytes(source.encode_prediction(labels).tobytes())
        with pytest.raises(AssertionError, match="must be between 1 and 16"):
            validate_submission(mini, str(tmp_path), "mini_val")

    def test_labels_are_encoded_as_in_the_label_files(self, mini_root: Path) -> None:
        source = NuScenes(mini_root)
        labels = np.array([*range(16), IGNORE], dtype=np.uint8)
        encoded = source.encode_labels(labels)
        assert encoded.dtype == np.uint8
        assert encoded[-1] == 0  # noise
        np.testing.assert_array_equal(source.info.label_map.to_train(encoded), labels)

    def test_submission_file(self, mini_root: Path) -> None:
        ((name, text),) = NuScenes(mini_root).submission_files("val").items()
        assert name == "mini_val/submission.json"
        meta = json.loads(text)["meta"]
        assert [key for key, value in meta.items() if value] == ["use_lidar"]
        assert len(meta) == 5


@pytest.mark.real_data
def test_a_real_sweep(real_data: Path, root: Path) -> None:
    """Its beams, and that the statistics are near what it shows."""
    (sweep,) = (real_data / "nuscenes_demo_sweep").glob("*.pcd.bin")
    points_of(root).write_bytes(sweep.read_bytes())
    source = NuScenes(root)
    scan = source.read_scan(source.sequence_ids("scene-0103")[0], with_labels=False)
    assert len(scan.points) == 34688
    assert scan.ring is not None
    depth = np.linalg.norm(scan.points[:, :3], axis=1)
    far = depth > 1
    inclination = np.degrees(np.arcsin(scan.points[far, 2] / depth[far]))
    error = inclination - (10.67 - scan.ring[far] * 41.34 / 31)
    assert np.median(np.abs(error)) < 0.1

    images = RangeImages(source.info, RangeImageSettings(height=32, width=1920))
    projection, rule = images.project(scan)
    assert rule == "ring"
    image = images.image(scan.points, projection)
    for channel, pixels in zip(images.settings.channels, image, strict=True):
        if channel != "valid":
            filled = pixels[projection.valid]
            assert abs(filled.mean()) < 0.2, channel
            assert 0.75 < filled.std() < 1.3, channel
