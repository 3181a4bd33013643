"""Connected regions of a range image, against a flood fill."""

import numpy as np
import pytest

from rangeseg.geometry.regions import REACH, connected_regions


def flooded(classes: np.ndarray, full_turn: bool) -> np.ndarray:
    """Regions one pixel at a time."""
    height, width = classes.shape
    regions = np.full(classes.shape, -1)
    steps = range(-REACH, REACH + 1)
    for seed in zip(*np.nonzero(classes >= 0), strict=True):
        if regions[seed] >= 0:
            continue
        number, waiting = regions.max() + 1, [seed]
        while waiting:
            row, col = waiting.pop()
            regions[row, col] = number
            for there in [(row + down, col + right) for down in steps for right in steps]:
                if full_turn:
                    there = there[0], there[1] % width
                inside = 0 <= there[0] < height and 0 <= there[1] < width
                if inside and classes[there] == classes[row, col] and regions[there] < 0:
                    waiting.append(there)
    return regions


@pytest.mark.parametrize("full_turn", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_agrees_with_a_flood_fill(share: float, full_turn: bool) -> None:
    rng = np.random.default_rng(0)
    for shape in [(12, 40), (3, 7), (1, 5), (8, 3)]:
        classes = np.where(rng.random(shape) < share, rng.integers(0, 3, shape), -1)
        found, expected = connected_regions(classes, full_turn), flooded(classes, full_turn)
        assert np.array_equal(found < 0, classes < 0)
        pairs = {*zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert {a for a, _ in pairs} - {-1} == set(range(expected.max() + 1))


def test_no_pixel_of_a_class_is_no_region() -> None:
    assert (connected_regions(np.full((4, 8), -1)) == -1).all()
