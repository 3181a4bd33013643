"""Connected regions of one class in a range image."""

from __future__ import annotations

import numpy as np

REACH = 2
"""Largest distance of pixels in a region, in rows and columns: one lost echo splits no object."""


def connected_regions(classes: np.ndarray, full_turn: bool = True) -> np.ndarray:
    """Number the regions of same-class pixels at most two pixels apart.

    Args:
        classes: (H,W) int; negative for pixels of no region.
        full_turn: whether the first and the last column are neighbours.

    Returns:
        (H,W) int32 number of the region, from 0; -1 for a negative class.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    height, width = classes.shape
    row, col = np.nonzero(classes >= 0)
    number = np.full(classes.shape, -1, dtype=np.int32)
    number[row, col] = np.arange(len(row))
    links: list[np.ndarray] = []
    for down, right in _STEPS:
        below, beside = row + down, col + right
        inside = below < height
        if not full_turn:
            inside &= (beside >= 0) & (beside < width)
        here, there = number[row[inside], col[inside]], (below[inside], beside[inside] % width)
        same = classes[there] == classes[row[inside], col[inside]]
        links.append(np.stack([here[same], number[there][same]]))
    ends = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), (ends[0], ends[1])), 2 * (len(row),))
    number[row, col] = connected_components(graph, directed=False)[1]
    return number


_STEPS = [
    (down, right)
    for down in range(REACH + 1)
    for right in range(-REACH, REACH + 1)
    if down > 0 or right > 0
]
"""Offsets to half of the neighbours: the other half links back."""
