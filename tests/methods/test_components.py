"""Components against a plain flood fill that knows the seam."""

from collections import deque

import pytest
import torch

from rangeseg.methods.components import bounding_boxes, grow


def flood(region: list[list[bool]], start: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Steps from the start to every pixel that is connected to it, by side, corner and seam."""
    height, width = len(region), len(region[0])
    steps = {start: 0}
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for r in (row - 1, row, row + 1):
            for c in ((column - 1) % width, column, (column + 1) % width):
                if 0 <= r < height and region[r][c] and (r, c) not in steps:
                    steps[r, c] = steps[row, column] + 1
                    queue.append((r, c))
    return steps


@pytest.mark.parametrize("reach", [0, 3, 64])
@pytest.mark.parametrize("seed", range(4))
def test_growing_is_a_flood_fill_of_limited_reach(seed: int, reach: int) -> None:
    g = torch.Generator().manual_seed(seed)
    region = torch.rand(1, 9, 14, generator=g) < 0.4
    row, column = divmod(int(region.flatten().int().argmax()), 14)
    start = torch.zeros_like(region)
    start[0, row, column] = True
    expected = torch.zeros_like(region)
    for (r, c), steps in flood(region[0].tolist(), (row, column)).items():
        expected[0, r, c] = steps <= reach
    assert torch.equal(grow(start, region, reach), expected)


def test_growing_crosses_the_seam_but_not_the_poles() -> None:
    region = torch.zeros(1, 4, 8, dtype=torch.bool)
    region[0, 0, 0] = region[0, 0, 7] = region[0, 3, 0] = True
    seed = torch.zeros_like(region)
    seed[0, 0, 0] = True
    grown = grow(seed, region, 20)
    assert grown[0, 0, 7]
    assert not grown[0, 3, 0]
    assert torch.equal(grow(seed, region, 20, full_turn=False), seed)


def test_a_box_encloses_its_component_also_across_the_seam() -> None:
    component = torch.zeros(3, 6, 16, dtype=torch.bool)
    component[0, 1, 3:6] = component[0, 3, 5] = True
    component[1, 2, 14:] = component[1, 2, :3] = component[1, 4, 0] = True
    seed = torch.zeros_like(component)
    seed[0, 1, 4] = seed[1, 2, 15] = True
    expected = torch.zeros_like(component)
    expected[0, 1:4, 3:6] = True
    expected[1, 2:5, 14:] = expected[1, 2:5, :3] = True
    assert torch.equal(bounding_boxes(component, seed), expected)


def test_without_a_seam_a_wide_component_has_one_box() -> None:
    component = torch.zeros(1, 3, 16, dtype=torch.bool)
    component[0, 1, 1:15] = True
    seed = torch.zeros_like(component)
    seed[0, 1, 2] = True
    assert torch.equal(bounding_boxes(component, seed, full_turn=False), component)
