"""Strips of range images: what stands in their legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.drawing import strips
from rangeseg.drawing.colours import EMPTY, Legend
from rangeseg.drawing.sheets import Panel
from rangeseg.geometry.projection import Projection


@pytest.mark.parametrize(
    ("prediction", "dark"),
    [([0, 8], "no echo / ignored"), ([0, IGNORE], "no echo / ignored / no prediction")],
)
def test_what_is_withheld_is_not_called_ignored(
    prediction: list[int], dark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most pixels of pseudo-labels may be dark, and most of them do have a class."""
    legends: list[Legend] = []

    def keep(title: str, panels: Sequence[Panel], legend: Legend) -> np.ndarray:
        legends.append(legend)
        return np.zeros((1, 1, 3), dtype=np.uint8)

    monkeypatch.setattr(strips, "sheet", keep)
    points = np.array([[5, 0, 0, 0.5], [0, 7, 0, 0.5]], dtype=np.float32)
    place = np.array([0, 1], dtype=np.int32)
    projection = Projection(
        np.zeros(2, dtype=np.int32), place, np.array([5, 7], dtype=np.float32),
        np.array([[0, 1, -1]], dtype=np.int32),
    )  # fmt: skip
    scan = Scan("a", points, np.array([0, 8], dtype=np.uint8))
    classes = SemanticKitti.info.label_map
    predictions = {"prediction": np.array(prediction, dtype=np.uint8)}
    strips.range_panels("t", scan, projection, classes, predictions)
    assert [name for name, colour in legends[0] if (colour == EMPTY).all()] == [dark]
