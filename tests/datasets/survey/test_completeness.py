"""What a data set lacks beside the published one; counts typed from the official sources."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from data_tools.cli import main
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.nuscenes.index import VERSIONS
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.packed.source import Packed
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.datasets.simulated import Simulated
from rangeseg.datasets.survey.check import Part, check_dataset
from rangeseg.datasets.survey.completeness import (
    Completeness,
    check_submission,
    completeness,
    completeness_lines,
    gap_line,
    gap_note,
)
from rangeseg.errors import ConfigError, DataError
from tests.data_tools.kitti_layout import write_scan
from tests.datasets.listed import TRAIN, VAL
from tests.datasets.nuscenes_format import official_scenes, write_nuscenes
from tests.datasets.own_scans import DESCRIPTION, write_root

NOWHERE = Path("nowhere")


def whole(source: ScanSource, split: str) -> Completeness:
    official = source.official(split)
    assert official is not None
    present: dict[str, list[str]] = {}
    for scan_id in official.scan_ids:
        present.setdefault(scan_id[:2], []).append(scan_id)
    return Completeness(split, present, official)


class TestOfficialCounts:
    @pytest.mark.parametrize("kind", [SemanticKitti, ScribbleKitti])
    def test_semantic_kitti(self, kind: type[SemanticKitti]) -> None:
        counts = {}
        for split in ("train", "val", "test"):
            official = kind(NOWHERE).official(split)
            assert official is not None
            assert len(set(official.scan_ids)) == official.scans
            counts[split] = official[:2]
        assert counts == {"train": (10, 19130), "val": (1, 4071), "test": (11, 20351)}
        assert list(whole(kind(NOWHERE), "train").official.scan_ids) == TRAIN
        assert list(whole(kind(NOWHERE), "val").official.scan_ids) == VAL
        last = [ids[-1] for ids in whole(kind(NOWHERE), "test").present.values()]
        assert last == [
            "11/000920", "12/001060", "13/003280", "14/000630", "15/001900", "16/001730",
            "17/000490", "18/001800", "19/004980", "20/000830", "21/002720",
        ]  # fmt: skip

    def test_nuscenes(self) -> None:
        source = NuScenes(NOWHERE)
        counts = {"train": (700, 28130), "val": (150, 6019), "test": (150, 6008)}
        for split, expected in counts.items():
            official = source.official(split)
            assert official is not None
            assert official[:2] == expected
        # The devkit's own tables of scenes.
        train_and_val = len(official_scenes("v1.0-trainval"))
        assert (train_and_val, len(official_scenes("v1.0-test"))) == (850, 150)
        assert set(VERSIONS["v1.0-trainval"]) == {"train", "val"}

    def test_nobody_published_a_simulation(self) -> None:
        assert Simulated(NOWHERE).official("test") is None

    def test_a_pack_is_what_was_packed(self) -> None:
        pack = Packed(NOWHERE, "semantic_kitti", SemanticKitti(NOWHERE))
        assert pack.official("val") == SemanticKitti(NOWHERE).official("val")

    @pytest.mark.parametrize("source", [SemanticKitti(NOWHERE), NuScenes(NOWHERE)])
    def test_unknown_split(self, source: ScanSource) -> None:
        with pytest.raises(ConfigError, match="unknown split 'valid'"):
            source.official("valid")


class TestDifference:
    def test_whole(self) -> None:
        found = whole(SemanticKitti(NOWHERE), "test")
        assert found.complete
        assert (found.missing, found.strangers) == ({}, [])

    def test_a_frame_a_sequence_and_a_stranger(self) -> None:
        found = whole(SemanticKitti(NOWHERE), "test")
        present = {sequence: list(ids) for sequence, ids in found.present.items()}
        present["11"].remove("11/000017")
        present["14"] = []
        present["21"][3:5] = ["21/3b"]
        found = Completeness("test", present, found.official)
        assert not found.complete
        assert found.difference() == (
            "19,718 of 20,351 scans, 10 of 11 sequences; missing: 11/000017, sequence 14, "
            "21/000003 and 1 more of 21; not published: 21/3b"
        )
        document = found.document()
        assert document["missing"] == [
            {"sequence": "11", "scans": 1, "first": "11/000017"},
            {"sequence": "14", "scans": 631, "first": "14/000000"},
            {"sequence": "21", "scans": 2, "first": "21/000003"},
        ]
        assert document["not_published"] == ["21/3b"]

    def test_more_scans_than_published(self) -> None:
        source = SemanticKitti(NOWHERE)
        present = {"08": [*whole(source, "val").present["08"], "08/004071"]}
        (line,) = completeness_lines(source, [Part("val", "08", present["08"])])
        assert line.startswith("the split val is not as published: 4,072 of 4,071 scans")
        assert "not published: 08/004071" in line

    def test_a_part_of_the_test_split(self) -> None:
        (line,) = completeness_lines(SemanticKitti(NOWHERE), [Part("test", "11", ["11/000000"])])
        assert line.startswith("the split test is partial: 1 of 20,351 scans, 1 of 11 sequences;")
        assert line.endswith(": the benchmark's server takes predictions of the whole split alone")

    def test_the_mini_version(self, tmp_path: Path) -> None:
        root = tmp_path / "mini"
        write_nuscenes(root, scenes=["scene-0061", "scene-0103"], firings=4)
        assert main(["index", "nuscenes", str(root)]) == 0
        source = NuScenes(root)
        parts = check_dataset(source, ["train", "val"])
        train, val = completeness_lines(source, parts)
        assert train.startswith(
            "the split train is partial: 2 of 28,130 scans, 1 of 700 sequences: tr"
        )
        assert val.startswith("the split val is partial: 2 of 6,019 scans, 1 of 150 sequences: tr")
        assert not [note for part in parts for note in part.found.notes]


class TestGaps:
    @pytest.mark.parametrize(
        ("frames", "said"),
        [
            (
                ["000000", "000001", "000002", "000003", "000005", "000008"],
                "s 3 frame numbers, the",
            ),
            (["7", "8", "9", "11"], "skips 1 frame numbers, the first is 10:"),
            (["000000", "000001", "000002"], None),
            (["000000", "000010", "000020"], None),  # every tenth one
            (["000000", "000001", "000005"], None),  # too few to tell
            (["1532402927647951", "1532402927697951", "1532402927747951"], None),  # times
            (["a1", "a2", "a3", "a5"], None),
            (["1.1", "1.2", "1.3", "1.5"], None),
            (["٠", "١", "٢", "٤"], None),
            ([], None),
        ],
    )
    def test_frames(self, frames: list[str], said: str | None) -> None:
        line = gap_line("03", [f"03/{frame}" for frame in frames])
        assert (line is None) == (said is None)
        if said and line:
            assert line.startswith("sequence 03 skips ")
            assert said in line

    def test_only_where_nobody_published_counts(self, tmp_path: Path) -> None:
        write_root(tmp_path, scans=6)
        (tmp_path / "sequences/02/velodyne/000003.bin").unlink()
        own = Custom(tmp_path, Description.model_validate(DESCRIPTION))
        for source, notes in ((own, True), (SemanticKitti(tmp_path), False)):
            part = Part("train", "02", source.sequence_ids("02"))
            assert (gap_note(source, part) is not None) == notes
        assert completeness(own, [part]) == []


class TestSubmission:
    def test_what_is_missing_is_found_first(self, tmp_path: Path) -> None:
        for scan_id in ("11/000000", "11/000002", "13/000000"):
            write_scan(tmp_path, scan_id, None)
        with pytest.raises(DataError) as error:
            check_submission(SemanticKitti(tmp_path), "test")
        message = str(error.value)
        assert "the benchmark's server would refuse it: 3 of 20,351 scans, 2 of 11 seq" in message
        assert "missing: 11/000001 and 918 more of 11, sequence 12, 13/000001 and" in message
        assert "--anyway" in message

    def test_a_damaged_scan_is_found_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shorten_the_benchmark(monkeypatch, scans=2)
        source = write_test_split(tmp_path, scans=2)
        check_submission(source, "test")
        source.paths("17/000001")[0].write_bytes(b"12345")
        with pytest.raises(DataError, match=r"^1 of 22 scans of the split test cannot be read.*17"):
            check_submission(source, "test")

    def test_other_splits_have_no_server(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            check_submission(SemanticKitti(tmp_path), "val")
            check_submission(Simulated(tmp_path), "test")
        assert caplog.messages == [
            "no benchmark's server accepts the split val of semantic_kitti; it is packed all the "
            "same",
            "no benchmark's server accepts the split test of simulated; it is packed all the same",
        ]


def shorten_the_benchmark(monkeypatch: pytest.MonkeyPatch, scans: int) -> None:
    """Let every published test sequence have a few scans only."""
    from rangeseg.datasets import semantic_kitti

    for sequence in SemanticKitti.SPLITS["test"]:
        monkeypatch.setitem(semantic_kitti._SCANS, sequence, scans)


def write_test_split(root: Path, scans: int) -> SemanticKitti:
    for sequence in SemanticKitti.SPLITS["test"]:
        for frame in range(scans):
            write_scan(root, f"{sequence}/{frame:06d}", None, points=5 + frame)
    return SemanticKitti(root)


@pytest.mark.real_data
def test_the_mini_set_of_real_scans(real_data: Path) -> None:
    source = SemanticKitti(real_data / "semantickitti_mini")
    parts = [
        Part(split, sequence, source.sequence_ids(sequence))
        for split in ("train", "val")
        for sequence in source.sequences(split)
    ]
    train, val = completeness(source, parts)
    assert (train.scans, train.sequences, train.complete) == (30, 10, False)
    assert train.missing["00"][0] == "00/000001"
    assert (val.scans, len(val.missing["08"])) == (5, 4066)
    assert (train.strangers, val.strangers) == ([], [])
