"""LabelMap on a small map of its own; the data sets' tables are tested with the data sets."""

from __future__ import annotations

import numpy as np
import pytest

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.datasets.scan_files import ignore_empty
from rangeseg.errors import DataError


@pytest.fixture
def label_map() -> LabelMap:
    return LabelMap(
        names=("tree", "wall"),
        colours=((0, 200, 0), (90, 80, 70)),
        raw_to_train={0: IGNORE, 7: 0, 300: 1, 301: 1},
    )


def test_raw_ids_become_train_ids(label_map: LabelMap) -> None:
    labels = label_map.to_train(np.array([301, 7, 0, 300], dtype=np.uint32))
    assert labels.tolist() == [1, 0, IGNORE, 1]
    assert labels.dtype == np.uint8


def test_the_instance_in_the_upper_half_is_dropped(label_map: LabelMap) -> None:
    raw = np.array([7 | (5 << 16), 300 | (0xFFFF << 16)], dtype=np.uint32)
    assert label_map.to_train(raw).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_any_unsigned_content_is_understood(label_map: LabelMap, dtype: type) -> None:
    assert label_map.to_train(np.array([7, 0], dtype=dtype)).tolist() == [0, IGNORE]


def test_an_unknown_id_is_an_error_and_never_class_0(label_map: LabelMap) -> None:
    raw = np.array([7, 8, 8, 500], dtype=np.uint32)
    with pytest.raises(
        DataError,
        match=r"^a\.label: unknown raw id 8 \(2 points\), 500 \(1 points\).*from 0 to 301",
    ):
        label_map.to_train(raw, where="a.label")


def test_no_raw_id_outside_the_map_is_accepted(label_map: LabelMap) -> None:
    accepted = []
    for raw in (*range(1024), *range(1024, 1 << 16, 997), (1 << 16) - 1):
        try:
            label_map.to_train(np.array([raw], dtype=np.uint32))
            accepted.append(raw)
        except DataError:
            continue
    assert accepted == [0, 7, 300, 301]


def test_predictions_are_written_as_the_class_own_raw_id(label_map: LabelMap) -> None:
    raw = label_map.to_raw(np.array([1, 0, 1], dtype=np.uint8))
    assert raw.tolist() == [300, 7, 300]
    assert raw.dtype == np.uint32


def test_colours_and_number_of_classes(label_map: LabelMap) -> None:
    assert label_map.num_classes == 2
    assert label_map.colours.tolist() == [[0, 200, 0], [90, 80, 70]]
    assert label_map.colours.dtype == np.uint8


def test_points_without_a_position_are_ignored() -> None:
    """Each coordinate alone, either zero, and NaN of any sign; the intensity does not matter."""
    rng = np.random.default_rng(0)
    kinds = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e6, 1.0], np.float32)
    points = kinds[rng.integers(0, len(kinds), (5000, 4))]
    points[:1000, :3] = kinds[rng.integers(0, 2, (1000, 3))]
    labels = rng.integers(0, 20, 5000).astype(np.uint8)
    position = points[:, :3]
    known = np.isfinite(position).all(1) & (position != 0).any(1)
    expected = np.where(known, labels, IGNORE)
    ignore_empty(points, labels)
    assert np.array_equal(labels, expected)
    assert 0.05 < known.mean() < 0.95
