"""Strips of range images: what stands in their legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.drawing import strips
from rangeseg.drawing.colours import EMPTY, RIGHT, UNSURE, Legend, range_colours
from rangeseg.drawing.sheets import Panel
from rangeseg.geometry.projection import Projection

CLASSES = SemanticKitti.info.label_map
CAR, ROAD = 0, 8


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sequence[Panel], Legend]]:
    """The panels and the legend of each sheet that would be drawn."""
    kept: list[tuple[Sequence[Panel], Legend]] = []

    def keep(title: str, panels: Sequence[Panel], legend: Legend) -> np.ndarray:
        kept.append((panels, legend))
        return np.zeros((1, 1, 3), dtype=np.uint8)

    monkeypatch.setattr(strips, "sheet", keep)
    return kept


def three_pixels() -> tuple[Scan, Projection]:
    """A car, a road and a pixel without an echo, in one row."""
    points = np.array([[5, 0, 0, 0.5], [0, 7, 0, 0.5]], dtype=np.float32)
    place = np.array([0, 1], dtype=np.int32)
    projection = Projection(
        np.zeros(2, dtype=np.int32), place, np.array([5, 7], dtype=np.float32),
        np.array([[0, 1, -1]], dtype=np.int32),
    )  # fmt: skip
    return Scan("a", points, np.array([CAR, ROAD], dtype=np.uint8)), projection


@pytest.mark.parametrize(
    ("prediction", "dark"),
    [([CAR, ROAD], "no echo / ignored"), ([CAR, IGNORE], "no echo / ignored / no prediction")],
)
def test_what_is_withheld_is_not_called_ignored(
    prediction: list[int], dark: str, drawn: list[tuple[Sequence[Panel], Legend]]
) -> None:
    """Most pixels of pseudo-labels may be dark, and most of them do have a class."""
    predictions = {"prediction": np.array(prediction, dtype=np.uint8)}
    strips.range_panels("t", *three_pixels(), CLASSES, predictions)
    ((_, legend),) = drawn
    assert [name for name, colour in legend if (colour == EMPTY).all()] == [dark]


@pytest.mark.parametrize(
    ("labels", "shown", "wrong"),
    [
        ([CAR, IGNORE], [CLASSES.colours[CAR], UNSURE], [RIGHT, UNSURE]),
        ([ROAD, ROAD], [CLASSES.colours[ROAD]] * 2, [CLASSES.colours[CAR], RIGHT]),
    ],
)
def test_propagated_labels_and_their_errors(
    labels: list[int], shown: list[np.ndarray], wrong: list[np.ndarray],
    drawn: list[tuple[Sequence[Panel], Legend]],
) -> None:  # fmt: skip
    scan, projection = three_pixels()
    given = "propagated", np.array(labels, dtype=np.uint8)
    strips.range_panels("t", scan, projection, CLASSES, {}, propagated=given)
    strips.range_panels("t", Scan("a", scan.points), projection, CLASSES, {}, propagated=given)
    (panels, legend), (without_truth, _) = drawn
    strip, errors = (panel.image[0, :: len(panel.image[0]) // 3] for panel in panels[3:])
    np.testing.assert_array_equal(strip, [*shown, EMPTY])
    np.testing.assert_array_equal(errors, [*wrong, EMPTY])
    assert "no propagated label" in [name for name, _ in legend]
    assert [panel.title for panel in without_truth][2:] == ["propagated"]


def test_each_layer_has_a_strip_of_ranges(drawn: list[tuple[Sequence[Panel], Legend]]) -> None:
    scan, projection = three_pixels()
    both = np.array([[[0, -1, -1]], [[1, -1, -1]]], dtype=np.int32)  # one pixel, two points
    strips.range_panels("t", scan, replace(projection, point_index=both), CLASSES, {})
    strips.range_panels("t", scan, projection, CLASSES, {})
    (layers, _), (pixels, _) = drawn
    assert len(layers) == len(pixels) + 1
    assert layers[1].title.startswith("range of layer 2: a further point of 33 % of the pixels")
    near, far = (panel.image[0, :: len(panel.image[0]) // 3] for panel in layers[:2])
    colours = range_colours(np.array([5, 7, 0]), np.array([True, True, False]))
    np.testing.assert_array_equal(near, colours[[0, 2, 2]])
    np.testing.assert_array_equal(far, colours[[1, 2, 2]])
