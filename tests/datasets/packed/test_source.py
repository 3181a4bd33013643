"""A data set in one file: it stands for the folder it was made from."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from rangeseg.datasets import DATASETS, open_dataset, sequences
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Description
from rangeseg.datasets.packed.source import Packed
from rangeseg.datasets.packed.write import Packable, pack_dataset
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import ConfigError, DataError
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from tests.data_tools.kitti_layout import write_root
from tests.datasets import own_scans
from tests.datasets.nuscenes_format import write_nuscenes
from tests.datasets.packed.test_codec import check_points

DESCRIPTION = Description.model_validate(own_scans.DESCRIPTION)


def pack(source: ScanSource, path: Path, description: Description | None = None) -> Packed:
    """A data set, packed and opened by its name."""
    name = next(name for name, kind in DATASETS.items() if type(source) is kind)
    assert isinstance(source, Packable)
    pack_dataset(source, name, path)
    packed = open_dataset(name, path, description)
    assert isinstance(packed, Packed)
    return packed


def check_same(packed: Packed, source: ScanSource) -> None:
    """All that is known about the data set, and all its scans."""
    assert packed.splits == source.splits
    assert packed.info.name == source.info.name
    assert packed.info.sensor == source.info.sensor
    assert packed.info.statistics == source.info.statistics
    assert packed.info.policy == source.info.policy
    assert packed.info.label_map.names == source.info.label_map.names
    for split in source.splits:
        try:
            scan_ids = source.scan_ids(split)
        except DataError:
            with pytest.raises(DataError, match=r"is not in .*\.pack") as error:
                packed.scan_ids(split)
            assert error.value.kind == "missing"
            continue
        assert packed.sequences(split) == source.sequences(split)
        assert packed.scan_ids(split) == scan_ids
        assert packed.labelled_ids(split) == source.labelled_ids(split)
        assert packed.submission_files(split) == source.submission_files(split)
        for scan_id in scan_ids:
            check_scan(packed, source, scan_id, split)


def check_scan(packed: Packed, source: ScanSource, scan_id: str, split: str) -> None:
    labelled = source.has_labels(scan_id)
    assert packed.has_labels(scan_id) == labelled
    assert packed.check_files(scan_id, labelled) == source.check_files(scan_id, labelled)
    assert packed.prediction_file(scan_id, split) == source.prediction_file(scan_id, split)
    was, now = source.read_scan(scan_id, labelled), packed.read_scan(scan_id, labelled)
    assert now.scan_id == scan_id
    check_points(now.points, was.points)
    for before, after in ((was.labels, now.labels), (was.ring, now.ring)):
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert before.dtype == after.dtype
            np.testing.assert_array_equal(before, after)
    assert packed.read_scan(scan_id, with_labels=False).labels is None
    for encode in ("encode_labels", "encode_prediction"):
        if was.labels is not None and (was.labels != 255).all():
            found, expected = (
                getattr(packed, encode)(was.labels),
                getattr(source, encode)(was.labels),
            )
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


class TestEveryDataSet:
    def test_semantic_kitti(self, tmp_path: Path) -> None:
        source = open_dataset("semantic_kitti", write_root(tmp_path / "kitti"))
        (tmp_path / "kitti/sequences/03/labels/000001.label").unlink()
        packed = pack(source, tmp_path / "kitti.pack")
        check_same(packed, source)
        with pytest.raises(DataError, match=r"kitti\.pack: scan 03/000001 has no labels") as error:
            packed.read_scan("03/000001")
        assert error.value.kind == "missing"

    @pytest.mark.parametrize("earlier", [False, True])
    def test_empty_returns(
        self, earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = SemanticKitti(write_root(tmp_path / "kitti"))
        points = np.array([[1, 2, 3, 0], [0, 0, 0, 0], [np.nan] * 4, [1, 0, 0, 0], [0, 0, 0, 0.5]])
        points.astype(np.float32).tofile(source.paths("03/000001")[0])
        with monkeypatch.context() as patch:
            if earlier:  # a version that packed the labels of empty returns
                patch.setattr(sequences, "ignore_empty", lambda points, labels: None)
            packed = pack(source, tmp_path / "kitti.pack")
        check_same(packed, source)
        labels = packed.read_scan("03/000001").labels
        assert labels is not None
        assert labels.tolist() == [0, 255, 255, 0, 255]

    def test_a_missing_sequence_stays_missing(self, tmp_path: Path) -> None:
        root = write_root(tmp_path / "kitti")
        (root / "sequences/03").rename(tmp_path / "03")
        source = open_dataset("semantic_kitti", root)
        packed = pack(source, tmp_path / "kitti.pack")
        check_same(packed, source)
        with pytest.raises(
            DataError, match=r"sequence 03 is not in .*kitti\.pack; it holds 00, 01"
        ):
            packed.scan_ids("train")

    @pytest.mark.parametrize("drawn", [True, False])
    def test_scribble_kitti(self, drawn: bool, tmp_path: Path) -> None:
        root = write_root(tmp_path / "kitti", frames=1)
        for labels in root.glob("sequences/*/labels"):
            labels.rename(labels.with_name("scribbles" if labels.parent.name != "08" else "labels"))
        if drawn:
            (root / "scribbles.json").write_text("{}")
        source = open_dataset("scribble_kitti", root)
        packed = pack(source, tmp_path / "kitti.pack")
        check_same(packed, source)
        assert packed.info.name == "scribble_kitti" + drawn * "_drawn"

    def test_simulated(self, simulated_root: Path, tmp_path: Path) -> None:
        source = open_dataset("simulated", simulated_root)
        path = tmp_path / "street.pack"
        check_same(pack(source, path), source)
        raw = sum(p.stat().st_size for p in simulated_root.rglob("*.[bl][ia]*"))
        assert raw > 2.5 * path.stat().st_size
        assert raw * 16 / 20 > 2.5 * path.stat().st_size  # even without the labels' share

    def test_simulated_with_another_sensor(self, tmp_path: Path) -> None:
        few = SimulationSettings(train_scans=10, val_scans=1, test_scans=2, beams=16, columns=64)
        generate_dataset(tmp_path / "street", few, workers=1)
        source = open_dataset("simulated", tmp_path / "street")
        packed = pack(source, tmp_path / "street.pack")
        check_same(packed, source)
        assert packed.info.sensor.beams == 16

    def test_nuscenes(self, tmp_path: Path) -> None:
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
        raw = sum(p.stat().st_size for p in root.glob("samples/LIDAR_TOP/*"))
        assert raw > 2.5 * (tmp_path / "nuscenes.pack").stat().st_size

    @pytest.mark.parametrize("order", ["firings", "beams"])
    def test_custom(self, order: str, tmp_path: Path) -> None:
        root = own_scans.write_root(tmp_path / "mine", order=order)
        (root / "sequences/02/labels/000001.label").unlink()  # unlabelled, and no fault
        source = open_dataset("custom", root, DESCRIPTION)
        packed = pack(source, tmp_path / "mine.pack", DESCRIPTION)
        check_same(packed, source)
        assert "02/000001" not in packed.labelled_ids("train")

    def test_custom_splits_may_change(self, tmp_path: Path) -> None:
        source = open_dataset("custom", own_scans.write_root(tmp_path / "mine"), DESCRIPTION)
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
            ({"layout": {"columns": 5}}, r"'layout\.columns': not given, now it is 5"),
            (
                {"layout": {"intensity_max": 255}},
                r"'layout\.intensity_max': not given, now it is 255",
            ),
        ],
    )
    def test_custom_otherwise_described(
        self, change: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        source = open_dataset("custom", own_scans.write_root(tmp_path / "mine", 1), DESCRIPTION)
        pack(source, tmp_path / "mine.pack", DESCRIPTION)
        other = Description.model_validate(own_scans.DESCRIPTION | change)
        packed = open_dataset("custom", tmp_path / "mine.pack", other)
        with pytest.raises(DataError, match=rf"mine\.pack was packed with another .*{message}"):
            packed.scan_ids("train")


@pytest.mark.parametrize("name", ["scribble_kitti", "nuscenes", "simulated"])
def test_another_data_set_is_refused(name: str, kitti: Path) -> None:
    packed = open_dataset(name, kitti)
    with pytest.raises(DataError, match=rf"kitti\.pack was packed from 'semantic_kitti'.*{name}"):
        packed.scan_ids("train")


def test_a_scan_that_is_not_there(kitti: Path) -> None:
    with pytest.raises(DataError, match=r"'00/999999' is not in .*kitti\.pack"):
        open_dataset("semantic_kitti", kitti).read_scan("00/999999")


class TestProcesses:
    @pytest.mark.slow
    @pytest.mark.parametrize("opened_before", [True, False])
    @pytest.mark.parametrize("context", ["fork", "spawn"])
    def test_loader_workers(self, context: str, opened_before: bool, kitti: Path) -> None:
        source = open_dataset("semantic_kitti", kitti)
        scan_ids = open_dataset("semantic_kitti", kitti).scan_ids("train")
        if opened_before:
            source.read_scan(scan_ids[0])
        loader = DataLoader(
            Scans(source, scan_ids), batch_size=None, num_workers=2, multiprocessing_context=context
        )
        found = list(loader)
        assert len(found) == len(scan_ids)
        for scan_id, points in zip(scan_ids, found, strict=True):
            np.testing.assert_array_equal(points, source.read_scan(scan_id).points)

    def test_pickled(self, kitti: Path) -> None:
        source = pickle.loads(pickle.dumps(open_dataset("semantic_kitti", kitti)))
        assert len(source.scan_ids("val")) == 2

    def test_threads(self, kitti: Path) -> None:
        source = open_dataset("semantic_kitti", kitti)
        scan_ids = open_dataset("semantic_kitti", kitti).scan_ids("train") * 20
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(source.read_scan, scan_ids))
        assert [scan.scan_id for scan in found] == scan_ids


class Scans:
    """A map-style data set."""

    def __init__(self, source: ScanSource, scan_ids: list[str]) -> None:
        self.source, self.scan_ids = source, scan_ids

    def __len__(self) -> int:
        return len(self.scan_ids)

    def __getitem__(self, place: int) -> np.ndarray:
        return self.source.read_scan(self.scan_ids[place]).points
