"""A data set in one file: it stands for the folder it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rangeseg.datasets import DATASETS, open_dataset
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.batches import LoadedSample, TrainingScans
from rangeseg.datasets.custom import Description
from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.packed.source import Packed
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import SampleKey
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from tests.data_tools.kitti_layout import write_root
from tests.datasets import own_scans
from tests.datasets.nuscenes_format import write_nuscenes
from tests.datasets.packed import test_codec

DESCRIPTION = Description.model_validate(own_scans.DESCRIPTION)


def pack(source: ScanSource, path: Path, description: Description | None = None) -> Packed:
    """A data set, packed and opened by its name."""
    name = next(name for name, kind in DATASETS.items() if type(source) is kind)
    assert isinstance(source, FileSource)
    pack_dataset(source, name, path)
    packed = open_dataset(name, path, description)
    assert isinstance(packed, Packed)
    return packed


def check_same(packed: Packed, source: ScanSource) -> None:
    """All that is known about the data set, and all its scans."""
    assert packed.splits == source.splits
    for field in ("name", "sensor", "statistics", "policy"):
        assert getattr(packed.info, field) == getattr(source.info, field)
    assert packed.info.label_map.names == source.info.label_map.names
    for split in source.splits:
        try:
            scan_ids = source.scan_ids(split)
        except DataError:
            with pytest.raises(DataError, match=r"is not in .*\.pack") as error:
                packed.scan_ids(split)
            assert error.value.kind == "missing"
            continue
        for method in ("sequences", "scan_ids", "labelled_ids", "submission_files"):
            assert getattr(packed, method)(split) == getattr(source, method)(split)
        for scan_id in scan_ids:
            labelled = source.has_labels(scan_id)
            assert packed.has_labels(scan_id) == labelled
            assert packed.check_files(scan_id, labelled) == source.check_files(scan_id, labelled)
            assert packed.prediction_file(scan_id, split) == source.prediction_file(scan_id, split)
            scan = source.read_scan(scan_id, labelled)
            test_codec.check_same(packed.read_scan(scan_id, labelled), scan)
            assert packed.read_scan(scan_id, with_labels=False).labels is None
    labels = np.zeros(3, dtype=np.uint8)
    for encode in ("encode_labels", "encode_prediction"):
        found, expected = getattr(packed, encode)(labels), getattr(source, encode)(labels)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_semantic_kitti(tmp_path: Path) -> None:
    root = write_root(tmp_path / "kitti")
    source = open_dataset("semantic_kitti", root)
    (root / "sequences/03/labels/000001.label").unlink()
    points = np.array([[1, 2, 3, 0], [0, 0, 0, 0], [np.nan] * 4, [1, 0, 0, 0], [0, 0, 0, 0.5]])
    points.astype(np.float32).tofile(root / "sequences/00/velodyne/000000.bin")
    packed = pack(source, tmp_path / "kitti.pack")
    check_same(packed, source)
    labels = packed.read_scan("00/000000").labels
    assert labels is not None
    assert (labels == 255).tolist() == [False, True, True, False, True]
    with pytest.raises(DataError, match=r"kitti\.pack: scan 03/000001 was packed without") as error:
        packed.read_scan("03/000001")
    assert error.value.kind == "missing"
    with pytest.raises(DataError, match=r"'00/999999' is not in .*kitti\.pack"):
        packed.read_scan("00/999999")


def test_a_missing_sequence_stays_missing(tmp_path: Path) -> None:
    root = write_root(tmp_path / "kitti")
    (root / "sequences/03").rename(tmp_path / "03")
    source = open_dataset("semantic_kitti", root)
    packed = pack(source, tmp_path / "kitti.pack")
    check_same(packed, source)
    with pytest.raises(DataError, match=r"sequence 03 is not in .*kitti\.pack; it holds 00, 01"):
        packed.scan_ids("train")


def test_scribble_kitti(tmp_path: Path) -> None:
    root = write_root(tmp_path / "kitti", frames=1)
    for labels in root.glob("sequences/*/labels"):
        labels.rename(labels.with_name("scribbles" if labels.parent.name != "08" else "labels"))
    (root / "scribbles.json").write_text("{}")
    source = open_dataset("scribble_kitti", root)
    packed = pack(source, tmp_path / "kitti.pack")
    check_same(packed, source)
    assert packed.info.name == "scribble_kitti_drawn"


def test_simulated_with_another_sensor(tmp_path: Path) -> None:
    few = SimulationSettings(train_scans=10, val_scans=1, test_scans=2, beams=16, columns=256)
    generate_dataset(tmp_path / "street", few, workers=1)
    source = open_dataset("simulated", tmp_path / "street")
    packed = pack(source, tmp_path / "street.pack")
    check_same(packed, source)
    assert packed.info.sensor.beams == 16
    raw = sum(path.stat().st_size for path in tmp_path.rglob("sequences/*/*/*"))
    assert raw > 3 * packed.root.stat().st_size


def test_nuscenes(tmp_path: Path) -> None:
    from rangeseg.datasets.nuscenes.index import write_index
    from rangeseg.datasets.nuscenes.tables import build_index

    root = tmp_path / "nuscenes"
    for version in ("v1.0-mini", "v1.0-test"):
        scenes = ["scene-0080"] if version == "v1.0-test" else None
        write_nuscenes(root, version, scenes)
        write_index(build_index(root, version), root)
    source = open_dataset("nuscenes", root)
    packed = pack(source, tmp_path / "nuscenes.pack")
    check_same(packed, source)
    assert not packed.has_labels(packed.scan_ids("test")[0])
    with pytest.raises(ConfigError, match="unknown split 'vall'"):
        packed.sequences("vall")


def test_custom(tmp_path: Path) -> None:
    layout = {"columns": 5, "ring_column": 4}
    description = Description.model_validate(own_scans.DESCRIPTION | {"layout": layout})
    points, beams = own_scans.turn()
    for sequence in ("01", "02", "03"):
        own_scans.write_points(tmp_path, f"{sequence}/0", np.column_stack([points, beams]))
    source = open_dataset("custom", tmp_path, description)
    packed = pack(source, tmp_path / "mine.pack", description)
    check_same(packed, source)
    assert packed.labelled_ids("train") == []
    assert packed.read_scan("01/0", False).ring is not None


def test_custom_splits_may_change(tmp_path: Path) -> None:
    source = open_dataset("custom", own_scans.write_root(tmp_path / "mine", 1), DESCRIPTION)
    pack(source, tmp_path / "mine.pack", DESCRIPTION)
    other = DESCRIPTION.model_copy(update={"sequences": {"train": ("03",), "val": ("01",)}})
    check_same(
        Packed(tmp_path / "mine.pack", "custom", open_dataset("custom", tmp_path, other)),
        open_dataset("custom", tmp_path / "mine", other),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ignored_ids": [0, 1]}, "'raw id 1': not given, now it is ignored"),
        ({"layout": {"intensity_max": 255}}, r"'layout\.intensity_max': not given, now it is 255"),
    ],
)
def test_custom_otherwise_described(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = open_dataset("custom", own_scans.write_root(tmp_path / "mine", 1), DESCRIPTION)
    pack(source, tmp_path / "mine.pack", DESCRIPTION)
    other = Description.model_validate(own_scans.DESCRIPTION | change)
    packed = open_dataset("custom", tmp_path / "mine.pack", other)
    with pytest.raises(DataError, match=rf"mine\.pack was packed with another .*{message}"):
        packed.scan_ids("train")


def test_training_samples_are_those_of_the_folder(simulated_root: Path, tmp_path: Path) -> None:
    """Bit for bit where the files hold whole millimetres."""
    root = shutil.copytree(simulated_root, tmp_path / "street")
    for path in root.glob("sequences/*/velodyne/*.bin"):
        points = np.fromfile(path, dtype=np.float32).reshape(-1, 4)
        points[:, :3] = np.rint(points[:, :3].astype(np.float64) * 1000) / 1000
        points.tofile(path)
    source = open_dataset("simulated", root)
    sources = (source, pack(source, tmp_path / "street.pack"))
    for scan_id in source.scan_ids("train")[:4]:
        samples = []
        for one in sources:
            images = RangeImages(one.info, RangeImageSettings(height=32, width=256))
            scans = TrainingScans(one, images, AugmentationSettings())
            loaded = scans[SampleKey(True, scan_id, (7, 1), 0.3)]
            assert isinstance(loaded, LoadedSample)
            samples.append(loaded.sample)
        np.testing.assert_equal(samples[1], samples[0])
