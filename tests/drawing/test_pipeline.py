"""The picture of a scan's way."""

import numpy as np

from rangeseg.drawing.colours import EMPTY
from rangeseg.drawing.pipeline import PIXELS_PER_M, from_above


def test_the_view_from_above_looks_to_the_right_and_down() -> None:
    points = np.array(
        [[2, 0, 0, 0], [0, 1, 0, 0], [0, 1, 2, 0], [500, 0, 0, 0], [np.nan, 0, 0, 0]],
        dtype=np.float32,
    )
    colours = np.arange(1, 16, dtype=np.uint8).reshape(5, 3)
    picture = from_above(points, colours, 60, 100)
    ahead, left = picture[30, 50 + 2 * PIXELS_PER_M], picture[30 - PIXELS_PER_M, 50]
    assert ahead.tolist() == colours[0].tolist()
    assert left.tolist() == colours[2].tolist()  # the higher of the two
    assert (picture != EMPTY).any(axis=2).sum() == 8  # two points of 2x2 pixels, the rest outside
