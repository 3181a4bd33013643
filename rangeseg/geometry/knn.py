"""Back-projection by a vote of the k nearest pixels."""

from __future__ import annotations

import numpy as np

from rangeseg.errors import ConfigError
from rangeseg.geometry.backprojection import (
    NOTHING,
    pad_window,
    value_of_unprojected,
    window_offsets,
    window_places,
)
from rangeseg.geometry.kernel import kernel
from rangeseg.geometry.projection import Projection


def knn_vote(
    label_image: np.ndarray,
    projection: Projection,
    num_classes: int,
    neighbours: int = 5,
    window: int = 5,
    sigma: float = 1.0,
    cutoff: float = 1.0,
) -> np.ndarray:
    """Give each point the most frequent label of the nearest pixels in its window.

    A pixel's distance is the difference of ranges in metres, weighted by one minus a Gaussian over
    the window. Departures from RangeNet++'s code: empty pixels and pixels beyond the image do not
    vote (they had range 0). The window wraps around the seam of a full turn. The centre pixel has a
    normal distance (it was 0, so a hidden point always had its occluder's vote). If nothing is
    within the cutoff, the point takes its own pixel's label.

    Args:
        label_image: (H,W) uint8 labels; those of empty pixels are not used.
        projection: projection of the N points.
        num_classes: K; pixels with labels from K on (IGNORE) have no vote.
        neighbours: largest number of voting pixels.
        window: side of the searched square of pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
        cutoff: largest weighted distance in metres of a voting pixel.

    Returns:
        (N,) of the dtype of ``label_image``; see ``own_pixel`` for points not projected. The lower
        label wins a tied vote; ties of the distance are resolved as in ``nearest_label``.

    Raises:
        ConfigError: the window is even, or a setting is not positive.

    Reference:
        Milioto et al., RangeNet++: Fast and Accurate LiDAR Semantic Segmentation, IROS 2019,
        Sec. III-D.
    """
    row_offset, col_offset = window_offsets(window)
    if neighbours < 1 or not sigma > 0.0 or not cutoff > 0.0:
        raise ConfigError(
            f"knn_vote: neighbours, sigma and cutoff must be positive, "
            f"found {neighbours}, {sigma}, {cutoff}"
        )
    default = value_of_unprojected(label_image, projection)
    labels, ranges = pad_window(label_image, projection, window // 2)
    ranges[labels >= num_classes] = NOTHING
    limits = np.iinfo(labels.dtype)
    uniform = _uniform_windows(
        np.where(ranges < NOTHING, labels, limits.max).astype(labels.dtype),
        np.where(ranges < NOTHING, labels, limits.min).astype(labels.dtype),
        np.ascontiguousarray(label_image),
    )
    gaussian = np.exp(-(row_offset**2 + col_offset**2) / (2.0 * sigma**2))
    return _knn_vote(
        labels.ravel(),
        ranges.ravel(),
        uniform,
        projection.row,
        projection.col,
        projection.depth,
        *window_places(row_offset, col_offset, labels.shape[1]),
        (1.0 - gaussian / gaussian.sum()).astype(np.float32),
        neighbours,
        np.float32(cutoff),
        default,
    )


@kernel
def _uniform_windows(lowest: np.ndarray, highest: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(H,W) bool: all possible voters in a pixel's window agree with its own label.

    Then that label wins. ``lowest`` and ``highest`` are the padded labels, with the largest and
    smallest number for pixels without a vote.
    """
    height, width = labels.shape
    window = lowest.shape[0] - height + 1
    low, high = lowest[:, :width].copy(), highest[:, :width].copy()
    for row in range(lowest.shape[0]):
        for shift in range(1, window):
            for col in range(width):
                low[row, col] = min(low[row, col], lowest[row, col + shift])
                high[row, col] = max(high[row, col], highest[row, col + shift])
    uniform = np.ones((height, width), dtype=np.bool_)
    for row in range(height):
        for shift in range(window):
            for col in range(width):
                label = labels[row, col]
                agree = (low[row + shift, col] >= label) & (high[row + shift, col] <= label)
                uniform[row, col] &= agree
    return uniform


@kernel
def _knn_vote(
    labels: np.ndarray,
    ranges: np.ndarray,
    uniform: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    depth: np.ndarray,
    places: np.ndarray,
    padded_width: np.uint64,
    weights: np.ndarray,
    neighbours: int,
    cutoff: np.float32,
    default: int,
) -> np.ndarray:
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    # Distances are not negative, so their bits order alike. A key holds these bits above the
    # pixel's place in the window. Such whole numbers sort without branches, and the place resolves
    # ties.
    distances = np.empty(places.shape[0], dtype=np.float32)
    bits = distances.view(np.int32)
    distances[0], distances[-1] = cutoff, NOTHING
    limit = np.int64(min(bits[0] + 1, bits[-1])) << 16
    nearest = np.empty(neighbours, dtype=np.int64)  # the keys of the voters, ascending
    voters = np.empty(neighbours, dtype=labels.dtype)
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        row, col = np.uint64(rows[i]), np.uint64(cols[i])
        corner = row * padded_width + col
        prediction[i] = labels[corner + places[0]]
        if uniform[row, col]:
            continue
        for k in range(places.shape[0]):
            distances[k] = abs(ranges[corner + places[k]] - depth[i]) * weights[k]
        for rank in range(neighbours):
            nearest[rank] = limit
        for k in range(places.shape[0]):
            key = np.int64(bits[k]) << 16 | k
            if key < nearest[-1]:
                for rank in range(neighbours):
                    held = nearest[rank]
                    nearest[rank] = min(held, key)
                    key = max(held, key)
        count = 0
        while count < neighbours and nearest[count] < limit:
            voters[count] = labels[corner + places[nearest[count] & 0xFFFF]]
            count += 1
        most = 0
        for a in range(count):
            votes = 0
            for b in range(count):
                votes += voters[a] == voters[b]
            if votes > most or (votes == most and voters[a] < prediction[i]):
                prediction[i], most = voters[a], votes
    return prediction
