"""Bad scans: the end by default; else named, counted once, and too many of them are the end."""

import logging
import multiprocessing
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.bad_scans import RECORD, BadScans
from rangeseg.datasets.batches import (
    TrainingScans,
    naming_dead_loaders,
    read_steps,
    training_loader,
)
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings, class_frequencies
from rangeseg.datasets.sampler import StepSampler
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError, RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings
from tests.data_tools.kitti_layout import write_root

Log = pytest.LogCaptureFixture
BAD = "00/000001"


@pytest.fixture
def source(tmp_path: Path) -> SemanticKitti:
    """Two scans in each of eleven sequences, of which BAD is cut short."""
    source = SemanticKitti(write_root(tmp_path))
    source.paths(BAD)[0].write_bytes(bytes(10))
    return source


def fault(number: int) -> DataError:
    return DataError(f"file {number} is truncated", "truncated")


class TestLedger:
    def test_fail_raises_the_first(self) -> None:
        with pytest.raises(DataError, match="file 1 is truncated"):
            BadScans("fail", 1000).add("a", fault(1))

    def test_each_is_counted_and_named_once(self, caplog: Log) -> None:
        bad_scans = BadScans("skip", 1000)
        for number in (2, 1, 2, 1, 1):
            bad_scans.add(f"scan{number}", fault(number))
        assert bad_scans.report() == {
            "scan1": "file 1 is truncated", "scan2": "file 2 is truncated",
        }  # fmt: skip
        assert [r.getMessage() for r in caplog.records] == [
            "skipped scan scan2: file 2 is truncated", "skipped scan scan1: file 1 is truncated",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("scans", "most"), [(1, 0), (2, 1), (99, 1), (199, 1), (200, 2), (19130, 191)]
    )
    def test_gives_up_past_one_per_cent(self, scans: int, most: int) -> None:
        bad_scans = BadScans("skip", scans)
        for number in range(most):
            bad_scans.add(f"scan{number}", fault(number))
        with pytest.raises(DataError) as error:
            bad_scans.add("last", fault(7))
        assert f"{most + 1} of {scans} scans cannot be read, but at most {most}" in str(error.value)
        assert "file 7 is truncated" in str(error.value)
        assert error.value.kind == "truncated"

    def test_a_resumed_run_remembers(self, tmp_path: Path, caplog: Log) -> None:
        first = BadScans("skip", 250)
        first.add("a", fault(1))  # before the run's folder was there
        first.keep_in(tmp_path / RECORD)
        first.add("b", fault(2))
        with (tmp_path / RECORD).open("a") as file:
            file.write('{"scan": "c", "er')  # a kill
        second = BadScans("skip", 250)
        second.keep_in(tmp_path / RECORD)
        assert second.report() == first.report()
        caplog.clear()
        second.add("a", fault(1))
        assert not caplog.records
        with pytest.raises(DataError, match="3 of 250 scans"):
            second.add("d", fault(4))
        third = BadScans("skip", 10_000)
        third.keep_in(tmp_path / RECORD)
        assert list(third.report()) == ["a", "b", "d"]

    def test_processes_count_together(self, tmp_path: Path) -> None:
        ranks = [BadScans("skip", 250) for _ in range(2)]
        for rank in ranks:
            rank.keep_in(tmp_path / RECORD)
        ranks[0].add("a", fault(1))
        ranks[1].add("b", fault(2))
        with pytest.raises(DataError, match="3 of 250"):
            ranks[0].add("c", fault(3))

    def test_the_first_process_warns_of_what_another_skipped(
        self, tmp_path: Path, caplog: Log
    ) -> None:
        ranks = [BadScans("skip", 1000) for _ in range(2)]
        for rank in ranks:
            rank.keep_in(tmp_path / RECORD)
        for scan_id in ("a", "b"):
            ranks[1].add(scan_id, fault(1))
        caplog.clear()
        for scan_id, said in ranks[1].report().items():  # as at the end of the work
            ranks[0].add(scan_id, DataError(said))
        assert [r.getMessage() for r in caplog.records] == [
            "skipped scan a: file 1 is truncated", "skipped scan b: file 1 is truncated",
        ]  # fmt: skip
        assert len([x for x in (tmp_path / RECORD).read_text().splitlines() if x]) == 2

    def test_a_damaged_line_is_left_out(self, tmp_path: Path) -> None:
        first = BadScans("skip", 250)
        first.keep_in(tmp_path / RECORD)
        first.add("a", fault(1))
        with (tmp_path / RECORD).open("ab") as file:
            file.write(b"\xff\xfe\x80")
        first.add("b", fault(2))
        second = BadScans("skip", 250)
        second.keep_in(tmp_path / RECORD)
        assert list(second.report()) == ["a", "b"]

    def test_a_record_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        bad_scans = BadScans("skip", 250)
        bad_scans.keep_in(tmp_path / "gone" / RECORD)
        with pytest.raises(DataError, match=r"bad_scans\.jsonl cannot be written \(No such file"):
            bad_scans.add("a", fault(1))


def scans_of(source: SemanticKitti, bad_scans: BadScans | None) -> tuple[TrainingScans, list, list]:
    labelled = source.scan_ids("train")[:6]
    unlabelled = source.scan_ids("train")[6:]
    images = RangeImages(source.info, RangeImageSettings(height=8, width=64, rows="inclination"))
    augmentation = AugmentationSettings()
    scans = TrainingScans(source, images, augmentation, labelled, unlabelled, bad_scans)
    return scans, labelled, unlabelled


def steps_of(
    source: SemanticKitti, bad_scans: BadScans, steps: range, workers: int = 0
) -> list[list[dict[str, np.ndarray]]]:
    scans, labelled, unlabelled = scans_of(source, bad_scans)
    sampler = StepSampler(labelled, unlabelled, 2, 3, steps)
    loader = training_loader(scans, sampler, workers, pin_memory=False)
    with naming_dead_loaders():
        return [
            [{name: field.numpy() for name, field in fields.items()} for fields in step]
            for step in read_steps(loader, bad_scans)
        ]


def assert_same(one: list, other: list) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for fields, others in zip(a, b, strict=True):
            assert all(np.array_equal(fields[name], others[name]) for name in fields)


class TestTraining:
    def test_a_bad_scan_is_replaced_the_same_way_every_time(self, source: SemanticKitti) -> None:
        bad_scans = BadScans("skip", 100)
        whole = steps_of(source, bad_scans, range(12))
        assert list(bad_scans.report()) == [BAD]
        assert all(fields["image"].shape[0] == 2 for step in whole for fields in step)
        assert_same(steps_of(source, BadScans("skip", 100), range(5, 12)), whole[5:])
        assert_same(steps_of(source, BadScans("skip", 100), range(12), workers=2), whole)

    def test_only_the_bad_scan_is_replaced(self, source: SemanticKitti) -> None:
        damaged = steps_of(source, BadScans("skip", 100), range(12))
        np.random.default_rng(7).random((5, 4), dtype=np.float32).tofile(source.paths(BAD)[0])
        sound = steps_of(source, BadScans("skip", 100), range(12))
        same = [
            np.array_equal(a["image"][slot], b["image"][slot])
            for one, other in zip(damaged, sound, strict=True)
            for a, b in zip(one, other, strict=True)
            for slot in range(2)
        ]
        assert same.count(False) == 4  # 24 labelled places, 6 scans
        labelled_only = [
            np.array_equal(one[1]["image"], other[1]["image"])
            for one, other in zip(damaged, sound, strict=True)
        ]
        assert all(labelled_only)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_by_default_the_file_is_named_in_one_line(
        self, source: SemanticKitti, workers: int
    ) -> None:
        with pytest.raises(DataError) as error:
            steps_of(source, BadScans("fail", 100), range(12), workers)
        assert str(source.paths(BAD)[0]) in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_list_of_bad_scans_comes_to_an_end(self, source: SemanticKitti) -> None:
        for scan_id in source.scan_ids("train")[:6]:
            source.paths(scan_id)[1].unlink()
        with pytest.raises(DataError, match="does not exist"):
            steps_of(source, BadScans("skip", 100_000), range(12))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_what_nobody_foresaw_names_the_scan(
        self, source: SemanticKitti, workers: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError("surprise")

        monkeypatch.setattr(RangeImages, "training_sample", fail)
        with pytest.raises(RangesegError) as error:
            steps_of(source, BadScans("skip", 100), range(1), workers)
        assert not isinstance(error.value, DataError)
        assert "scan 0" in str(error.value)
        assert "unexpected ZeroDivisionError: surprise" in str(error.value)
        assert "\n" not in str(error.value)

    def test_one_that_is_killed_while_the_training_computes(self, source: SemanticKitti) -> None:
        bad_scans = BadScans("skip", 100)
        scans, labelled, unlabelled = scans_of(source, bad_scans)
        sampler = StepSampler(labelled, unlabelled, 2, 3, range(1000))
        loader = training_loader(scans, sampler, 2, pin_memory=False)

        def train() -> None:
            with naming_dead_loaders(), closing(read_steps(loader, bad_scans)) as steps:
                next(steps)
                time.sleep(1)  # until both wait
                multiprocessing.active_children()[0].kill()
                time.sleep(30)

        start = time.monotonic()
        with pytest.raises(RangesegError, match=r"loads scans died .*killed.*train\.workers"):
            train()
        assert time.monotonic() - start < 15
        assert not multiprocessing.active_children()  # the other one has ended too

    def test_another_fault_of_the_training_keeps_its_name(self) -> None:
        with pytest.raises(RuntimeError, match="out of memory"), naming_dead_loaders():
            raise RuntimeError("out of memory")


def test_class_frequencies_leave_a_bad_scan_out(source: SemanticKitti, caplog: Log) -> None:
    caplog.set_level(logging.WARNING)
    ids = source.scan_ids("train")[:6]
    with pytest.raises(DataError, match=r"000001\.bin"):
        class_frequencies(source, ids)
    bad_scans = BadScans("skip", 6)
    assert class_frequencies(source, ids, bad_scans=bad_scans).sum() == pytest.approx(1)
    assert list(bad_scans.report()) == [BAD]
