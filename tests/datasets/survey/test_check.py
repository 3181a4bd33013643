"""The check of a whole data set: every kind of fault in every kind of data set, counted by kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_tools.cli import main
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.semantic_kitti import ScribbleKitti, SemanticKitti
from rangeseg.datasets.survey.check import Part, Tally, check_dataset
from rangeseg.errors import DataFault
from tests.data_tools.kitti_layout import write_root, write_scan
from tests.datasets.nuscenes_format import write_nuscenes

DESCRIPTION = Description.model_validate(
    {
        "classes": [
            {"name": "car", "ids": [10, 252], "colour": [0, 0, 255]},
            {"name": "road", "ids": [40], "colour": [255, 0, 255]},
        ],
        "ignored_ids": [0, 81],
        "sensor": {"beams": 32, "fov_up_deg": 10.0, "fov_down_deg": -30.0},
        "sequences": {"train": ["00", "01"], "val": ["08"]},
        "statistics": {},
    }
)


def kitti(folder: Path) -> SemanticKitti:
    return SemanticKitti(write_root(folder))


def scribbles(folder: Path) -> ScribbleKitti:
    """Made up from full labels; validation keeps those."""
    write_root(folder)
    for sequence in ScribbleKitti.SPLITS["train"]:
        labels = folder / "sequences" / sequence / "labels"
        labels.rename(labels.with_name("scribbles"))
    return ScribbleKitti(folder)


def custom(folder: Path) -> Custom:
    return Custom(write_root(folder), DESCRIPTION)


def nuscenes(folder: Path) -> NuScenes:
    write_nuscenes(folder, scenes=["scene-0061", "scene-0103"], firings=4)
    assert main(["index", "nuscenes", str(folder)]) == 0
    return NuScenes(folder)


SOURCES: dict[str, Callable[[Path], ScanSource]] = {
    f.__name__: f for f in (kitti, scribbles, custom, nuscenes)
}


@pytest.fixture(scope="module", params=list(SOURCES))
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScanSource:
    folder = tmp_path_factory.mktemp(request.param) / "data"
    return SOURCES[request.param](folder)


@pytest.fixture
def source(sound: ScanSource, tmp_path: Path) -> ScanSource:
    """A copy that may be harmed."""
    root = Path(shutil.copytree(sound.root, tmp_path / "data"))
    return Custom(root, DESCRIPTION) if isinstance(sound, Custom) else type(sound)(root)


def files(source: ScanSource, scan_id: str) -> tuple[Path, Path]:
    assert isinstance(source, (SemanticKitti, Custom, NuScenes))
    points_path, label_path = source.paths(scan_id)
    assert label_path is not None
    return points_path, label_path


def total(parts: list[Part]) -> Tally:
    sums = Tally()
    for part in parts:
        sums.add(part.found)
    return sums


def counts(parts: list[Part]) -> dict[DataFault, int]:
    """Kinds of problems that there are."""
    problems = total(parts).problems
    return {problem.kind: total(parts).count(problem.kind) for problem in problems}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def double(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def unknown(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([77, *content[1:]]))  # both label types begin with their lowest byte


class TestEverySource:
    def test_sound(self, source: ScanSource) -> None:
        for deep in (False, True):
            parts = check_dataset(source, deep=deep)
            found = total(parts)
            assert counts(parts) == {}
            assert found.scans == found.labelled == sum(len(part.scan_ids) for part in parts) > 3
            assert {part.split for part in parts} == {"train", "val"}
            assert int(found.class_points.sum()) == (found.points if deep else 0)
            assert found.nan_points == 0

    @pytest.mark.parametrize(
        ("which", "harm", "kind"),
        [
            (0, empty, "truncated"),
            (0, shorten, "truncated"),
            (0, double, "mismatch"),
            (1, double, "mismatch"),
            (1, empty, "mismatch"),
            (1, shorten, "truncated"),
            (1, Path.unlink, "missing"),
            (1, unknown, "unknown_id"),
        ],
    )
    def test_fault(
        self, source: ScanSource, which: int, harm: Callable[[Path], object], kind: DataFault
    ) -> None:
        if isinstance(source, NuScenes) and which == 1 and harm is shorten:
            kind = "mismatch"  # a label is one byte, so the rest is a whole number of them
        scan_id = source.scan_ids("val")[1]
        harmed = files(source, scan_id)[which]
        harm(harmed)
        parts = check_dataset(source, deep=kind == "unknown_id")
        if isinstance(source, Custom) and harm is Path.unlink:
            assert counts(parts) == {}
            assert total(parts).labelled == total(parts).scans - 1
            return
        assert counts(parts) == {kind: 1}
        problem = total(parts).problems[0]
        assert problem.scan_id == scan_id
        assert harmed.name in problem.message
        (part,) = [part for part in parts if part.found.problems]
        assert scan_id in part.scan_ids
        assert part.split == "val"
        assert part.found.labelled == part.found.scans - 1  # the others are sound

    def test_nan_points_and_empty_returns_are_counted(self, source: ScanSource) -> None:
        path = files(source, source.scan_ids("val")[0])[0]
        columns = 5 if isinstance(source, NuScenes) else 4
        points = np.fromfile(path, dtype=np.float32).reshape(-1, columns)
        points[0, 0], points[1, 3], points[2, :3] = np.nan, np.inf, 0
        points.tofile(path)
        parts = check_dataset(source, deep=True)
        assert counts(parts) == {}
        assert total(parts).nan_points == 1  # the second is where it is, its intensity read as 0
        assert total(parts).empty_returns == 1
        # An infinite intensity says nothing of the others.
        assert not [note for note in total(parts).notes if "intensities" in note]

    def test_no_labels_at_all(self, source: ScanSource) -> None:
        for scan_id in source.scan_ids("val"):
            files(source, scan_id)[1].unlink()
        parts = check_dataset(source)
        if isinstance(source, Custom):
            assert [p.message for p in total(parts).problems] == [
                "no scan of the split val has labels: copy the labels of some there"
            ]
        else:
            assert counts(parts) == {"missing": len(source.scan_ids("val"))}

    def test_order_does_not_depend_on_the_workers(self, source: ScanSource) -> None:
        for split in ("train", "val"):
            for scan_id in source.scan_ids(split):
                double(files(source, scan_id)[1])
        one, many = (check_dataset(source, workers=n) for n in (1, 8))
        scan_ids = [p.scan_id for p in total(many).problems]
        assert total(one).problems == total(many).problems
        assert scan_ids == source.scan_ids("train") + source.scan_ids("val")


def test_another_sensor_is_noted_once_a_split(tmp_path: Path) -> None:
    source = kitti(tmp_path / "kitti")  # its points are all above the horizon
    assert total(check_dataset(source)).notes == []
    first, second = total(check_dataset(source, deep=True)).notes
    assert first.startswith("00/000000: 100.0% of a scan's points lie outside the field of view")
    assert second.startswith("08/000000: ")
    empty(source.paths("08/000000")[0])  # is a problem, and no reason to stop
    assert len(total(check_dataset(source, deep=True)).notes) == 1


@pytest.mark.parametrize("build", [kitti, scribbles, custom])
def test_scans_that_were_never_copied(build: Callable[[Path], ScanSource], tmp_path: Path) -> None:
    source = build(tmp_path / "data")
    label = files(source, "01/000000")[1]
    for frame in range(6, 10):
        shutil.copy(label, label.with_name(f"{frame:06d}.label"))
    (tmp_path / "data/sequences/08/labels/._000007.label").touch()  # of macOS
    parts = check_dataset(source)
    assert counts(parts) == {}  # what is there can be trained on
    assert total(parts).notes == [
        "4 label files of sequence 01 have no scan (01/000006, 01/000007, 01/000008, ...): "
        "copy the scans again if they should be there"
    ]


def test_a_few_intensities_beyond_the_scale_are_in_order(tmp_path: Path) -> None:
    source = custom(tmp_path / "custom")
    path = source.paths("00/000000")[0]
    for share, noted in ((0.01, False), (0.1, True)):
        points = np.ones((100, 4), dtype=np.float32)
        points[: round(100 * share), 3] = 1.2
        points.tofile(path)
        np.full(100, 10, dtype=np.uint32).tofile(source.paths("00/000000")[1])
        notes = [n for n in total(check_dataset(source, deep=True)).notes if "intensities" in n]
        assert bool(notes) == noted
        assert not notes or "from 1 to 1.2, expected 0 to 1: divide them" in notes[-1]


def test_listed_scans_need_labels_even_where_others_need_none(tmp_path: Path) -> None:
    source = custom(tmp_path / "custom")
    source.paths("01/000000")[1].unlink()
    assert counts(check_dataset(source, labelled=["00/000000"])) == {}
    assert counts(check_dataset(source, labelled=["01/000000"])) == {"missing": 1}


def test_test_split_needs_no_labels_but_sound_points(tmp_path: Path) -> None:
    source = kitti(tmp_path / "kitti")
    write_scan(source.root, "11/000000", None)
    parts = check_dataset(source)
    assert counts(parts) == {}
    assert total(parts).scans == total(parts).labelled + 1
    assert "sequence 12 is missing" in total(parts).notes[0]
    shorten(source.paths("11/000000")[0])
    assert counts(check_dataset(source)) == {"truncated": 1}


@pytest.mark.slow
@pytest.mark.real_data
def test_every_real_scan(real_data: Path) -> None:
    parts = check_dataset(SemanticKitti(real_data / "semantickitti_mini"), deep=True)
    found = total(parts)
    assert (found.problems, found.notes) == ([], [])
    assert (found.scans, found.labelled, found.points) == (35, 35, 4_329_218)
    assert int(found.class_points.sum()) == found.points
