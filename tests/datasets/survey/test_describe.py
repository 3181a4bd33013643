"""A first description of a folder: what is found, guessed and left open."""

from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.custom import Custom
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.survey.complete_layout import guess_columns
from rangeseg.datasets.survey.describe import rounded, with_sensor
from rangeseg.datasets.survey.draft import distinct_colours, draft_description
from rangeseg.datasets.survey.statistics import measure_scans
from rangeseg.errors import DataError
from tests.datasets.own_scans import (
    BEAMS,
    raw_labels,
    turn,
    write_labels,
    write_points,
    write_root,
)


@pytest.mark.parametrize("order", ["firings", "beams"])
@pytest.mark.parametrize("columns", [4, 5, 6, 7, 9])
def test_guess_columns(columns: int, order: str, tmp_path: Path) -> None:
    points, beam = turn(order=order)
    rng = np.random.default_rng(0)
    more = np.concatenate([beam[:, None], rng.uniform(0, 99, (len(beam), 4))], axis=1)
    values = np.concatenate([points, more[:, : columns - 4]], axis=1)
    values[::100, 3] = 65535  # a few echoes that blind the sensor
    values[::31] = np.nan
    assert guess_columns(write_points(tmp_path, "01/0", values), Layout()) == columns
    assert guess_columns(write_points(tmp_path, "01/1", values, ".npy"), Layout()) == columns


def test_points_without_intensity(tmp_path: Path) -> None:
    points, _ = turn()
    for suffix in (".bin", ".npy"):
        path = write_points(tmp_path, "01/0", points[:, :3], suffix)
        assert guess_columns(path, Layout()) == 3


def test_what_repeats_nothing_has_four_columns(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (500, 5))
    assert guess_columns(write_points(tmp_path, "01/0", noise), Layout()) == 4
    assert guess_columns(write_points(tmp_path, "01/1", np.zeros((1, 4))), Layout()) == 4


def test_a_folder_is_described(tmp_path: Path) -> None:
    root = write_root(tmp_path)
    (root / "sequences" / "calibration").mkdir()
    draft = draft_description(root, Layout(), most=100)
    description = draft.description
    assert list(draft.sequences) == ["01", "02", "03"]
    assert draft.left_out == ["calibration"]
    assert description.sequences == {"train": ("01", "02"), "val": ("03",)}
    assert [(c.name, c.ids) for c in description.classes] == [
        ("class_7", (7,)), ("class_8", (8,)), ("class_9", (9,)),
    ]  # fmt: skip
    assert description.ignored_ids == (0,)  # although no label is: pseudo-labels need one
    raw = np.concatenate([raw_labels(turn(s * 100 + f)[0]) for s in (1, 2, 3) for f in range(4)])
    assert draft.raw_ids == {i: int((raw == i).sum()) for i in (7, 8, 9)}


def test_what_the_files_tell(tmp_path: Path) -> None:
    points, beam = turn()
    values = np.concatenate([points * [1, 1, 1, 255], 15.0 - beam[:, None]], axis=1)
    for scan_id in ("a/1", "b/1"):
        write_points(tmp_path, scan_id, values, ".npy")
    raw = raw_labels(points).astype(np.uint16)
    raw[:9] = 0
    write_labels(tmp_path, "b/1", raw)
    layout = Layout(points_suffix=".npy")
    description = draft_description(tmp_path, layout, most=100).description
    assert description.layout.columns == 5
    assert description.layout.ring_column == 4
    assert description.layout.label_type == "uint16"
    assert description.ignored_ids == (0,)

    measured = measure_scans(Custom(tmp_path, description), ["a/1", "b/1"])
    described = with_sensor(description, measured)
    assert described.layout.intensity_max == 255
    assert described.layout.ring_zero == "lowest"
    assert described.sensor.rows == "file_order"
    assert described.sensor.beams == BEAMS
    scan = Custom(tmp_path, described).read_scan("b/1")
    np.testing.assert_array_equal(scan.ring, beam)
    np.testing.assert_allclose(scan.points, points, rtol=1e-5)


def test_the_ending_of_nuscenes_is_found(tmp_path: Path) -> None:
    points, beam = turn()
    values = np.concatenate([points, beam[:, None]], axis=1)
    for scan_id in ("a/1", "b/1"):
        write_points(tmp_path, scan_id, values, ".pcd.bin")
        write_labels(tmp_path, scan_id, raw_labels(points))
    draft = draft_description(tmp_path, Layout(), most=9)
    assert draft.description.layout.points_suffix == ".pcd.bin"
    assert draft.description.layout.columns == 5
    assert draft.sequences == {"a": ["a/1"], "b": ["b/1"]}
    assert set(draft.raw_ids) == {7, 8, 9}
    write_points(tmp_path, "a/2", values)  # not of all: the names are what they are
    assert draft_description(tmp_path, Layout(), most=9).sequences["a"] == ["a/1.pcd", "a/2"]


def test_what_is_stated_is_not_guessed(tmp_path: Path) -> None:
    points, beam = turn()
    values = np.concatenate([points, beam[:, None]], axis=1)
    write_points(tmp_path, "a/1", values)
    stated = Layout(columns=5, ring_column=None, label_type="uint8")
    description = draft_description(tmp_path, stated, most=9).description
    assert description.layout == stated


def test_one_sequence_and_no_labels(tmp_path: Path) -> None:
    write_points(tmp_path, "day/1", turn()[0])
    draft = draft_description(tmp_path, Layout(), most=9)
    assert draft.raw_ids == {}
    assert [c.name for c in draft.description.classes] == ["class_0"]
    assert draft.description.sequences == {"train": ("day",), "val": ("day-val",)}


def test_folders_that_hold_no_scans(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder sequences/"):
        draft_description(tmp_path, Layout(), most=9)
    write_root(tmp_path, scans=1)
    with pytest.raises(DataError, match=r"files lidar/FRAME\.npy; .*01 holds labels/0.*velodyne/"):
        draft_description(tmp_path, Layout(points_folder="lidar", points_suffix=".npy"), most=9)


def test_labels_that_are_none(tmp_path: Path) -> None:
    points, _ = turn()
    write_points(tmp_path, "01/0", points)
    write_labels(tmp_path, "01/0", np.arange(len(points), dtype=np.uint32))
    with pytest.raises(DataError, match=r"3071 different ids .* at most 253 can be classes"):
        draft_description(tmp_path, Layout(), most=9)
    write_labels(tmp_path, "01/0", np.zeros(len(points) - 1, dtype=np.uint32))
    with pytest.raises(DataError, match=r"3071 labels but 0\.bin has 3072 points"):
        draft_description(tmp_path, Layout(), most=9)


def test_statistics_are_rounded() -> None:
    channels = {"x": (12.3456, 7.891), "y": (-0.0012345, 0.0004321), "z": (3.0, 0.0)}
    assert rounded(channels) == {"x": [12.3, 7.89], "y": [-0.00123, 0.000432], "z": [3.0, 1.0]}


def test_colours_differ() -> None:
    colours = np.array(distinct_colours(60))
    assert colours.min() >= 0
    assert colours.max() <= 255
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert apart[~np.eye(60, dtype=bool)].min() > 20
