"""Colours by hand, on a scan of six points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.drawing.colours import EMPTY, RIGHT, UNSURE
from rangeseg.viewer.modes import (
    IGNORED,
    MODES,
    PROPAGATED_MODES,
    describe,
    mode_legend,
    point_colours,
    shown_mode,
    visible_points,
)
from rangeseg.viewer.scans import ScanView

MAP = SemanticKitti.info.label_map
CAR, ROAD, POLE = (100, 150, 245), (255, 0, 255), (255, 240, 150)


def view(**changes: Any) -> ScanView:
    points = np.array(
        [[5, 0, 0, 0], [10, 0, 0, 1], [20, 0, 0, 0.25], [0, 0, 0, 0], [1, 2, np.nan, 0],
         [60, 0, 0, 0.5]], dtype=np.float32,
    )  # fmt: skip
    labels = np.array([0, 8, 17, IGNORE, 8, 8], dtype=np.uint8)
    values: dict[str, Any] = {
        "scan": Scan("08/000001", points, labels),
        "prediction": np.array([0, 0, 17, 8, 8, 17], dtype=np.uint8),
        "confidence": np.array([1, 0.2, 0.9, 0.5, 0, 0.95], dtype=np.float32),
        "covered": np.array([1, 0, 1, 0, 0, 1], dtype=bool),
        "miou": 41.25,
        "propagated": np.array([0, IGNORE, 17, 8, 8, 17], dtype=np.uint8),
        "sources": ("08/000000", "08/000004", "08/000008"),
    }
    return ScanView(**(values | changes))


@pytest.mark.parametrize(
    ("mode", "colours"),
    [
        ("truth", [CAR, ROAD, POLE, IGNORED, ROAD, ROAD]),
        ("prediction", [CAR, CAR, POLE, ROAD, ROAD, POLE]),
        ("error", [RIGHT, ROAD, RIGHT, IGNORED, RIGHT, ROAD]),
        ("coverage", [CAR, UNSURE, POLE, UNSURE, UNSURE, POLE]),
        ("propagated", [CAR, UNSURE, POLE, ROAD, ROAD, POLE]),
        ("propagated_error", [RIGHT, IGNORED, RIGHT, IGNORED, RIGHT, ROAD]),
    ],
)
def test_class_colours_are_those_of_the_table(mode: str, colours: list[Any]) -> None:
    found = point_colours(mode, view(), MAP)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.array([tuple(c) for c in colours]))


@pytest.mark.parametrize("mode", ["intensity", "range", "confidence"])
def test_scales_are_monotonic(mode: str) -> None:
    legend = mode_legend(mode, view(), MAP)
    brightness = [int(np.asarray(colour, dtype=int).sum()) for _, colour in legend]
    assert sorted(brightness, reverse=mode == "range") == brightness
    assert point_colours(mode, view(), MAP).shape == (6, 3)


def test_the_legend_explains_every_colour() -> None:
    for mode in ("truth", "prediction", "error", "coverage", *PROPAGATED_MODES):
        shown = {tuple(c) for c in point_colours(mode, view(), MAP).tolist()}
        explained = {tuple(c.tolist()) for _, c in mode_legend(mode, view(), MAP)}
        assert shown <= explained, mode
        complete = mode_legend(mode, view(), MAP, all_classes=True)
        assert [name for name, _ in complete][:19] == list(MAP.names)


def test_points_without_a_prediction_are_not_only_called_ignored() -> None:
    """Of pseudo-labels most points may be dark, and their class is not ignored."""
    withheld = np.array([0, 0, 17, 8, IGNORE, 17], dtype=np.uint8)
    for prediction, dark in ((withheld, "ignored / no prediction"), (None, "ignored")):
        shown = view() if prediction is None else view(prediction=prediction)
        assert [name for name, _ in mode_legend("error", shown, MAP)][-2:] == ["right", dark]


def test_what_a_scan_lacks_is_shown_by_range() -> None:
    bare = ScanView(Scan("08/000001", view().scan.points))
    assert [shown_mode(mode, bare) for mode in MODES].count("range") == 8
    assert shown_mode("intensity", bare) == "intensity"
    assert describe("error", bare) == "08/000001 · range (error: no labels)"
    assert describe("coverage", bare).endswith("no confidences or pseudo-labels)")


def test_a_line_says_scan_mode_and_miou() -> None:
    assert describe("truth", view()) == "08/000001 · truth · mIoU 41.2 of this scan"
    assert describe("coverage", view()).endswith("50 % covered, 67 % of it right")


def test_a_line_says_where_propagated_labels_come_from_and_how_many_are_right() -> None:
    """Two of the six points are nowhere, and so in no share: of the others three have a label."""
    line = "08/000001 · propagated · labels from 08/000000, 08/000004 and 1 more · 75 % covered"
    assert describe("propagated", view()) == f"{line}, 66.7 % of it right"
    unknown = view(scan=Scan("08/000001", view().scan.points), miou=None)
    assert describe("propagated", unknown) == line
    assert describe("propagated_error", unknown).endswith("range (propagated_error: no labels)")
    bare = describe("propagated", view(propagated=None))
    assert bare == "08/000001 · range (propagated: no propagated labels)"
    one = describe("propagated", view(sources=("5f3b" * 8, "a" * 32)))
    assert f"labels from {'5f3b' * 8} and 1 more · " in one


def test_a_line_says_of_which_points_the_miou_is() -> None:
    assert describe("error", view(judged=0.634)).split(" · ")[2] == (
        "mIoU 41.2 of the 63 % with a prediction"
    )


def test_no_class_looks_like_a_mark() -> None:
    """Class colours are the data sets' own; ours must keep away from them."""
    classes = [SemanticKitti.info.label_map.colours, NuScenes.info.label_map.colours]
    taken = np.concatenate(classes).astype(float)
    for mark in (EMPTY, RIGHT, IGNORED, UNSURE):
        assert np.linalg.norm(taken - mark, axis=1).min() > 40
    for mark, other in ((RIGHT, IGNORED), (RIGHT, EMPTY), (IGNORED, EMPTY), (UNSURE, EMPTY)):
        assert np.linalg.norm(mark.astype(float) - other) > 40


def test_points_that_are_nowhere_are_not_drawn() -> None:
    assert visible_points(view(), False).tolist() == [True, True, True, False, False, True]
    labels = np.array([IGNORE, 8, 17, IGNORE, 8, 8], dtype=np.uint8)
    ignored = view(scan=Scan("a", view().scan.points, labels))
    assert visible_points(ignored, True).tolist() == [False, True, True, False, False, True]
