"""Pixels to points: every point of the scan gets a label from the labelled range image.

An image of floats, the confidence of the labels for instance, goes the same way; points that were
not projected get 0 of it.
"""

from __future__ import annotations

import numpy as np

from rangeseg.errors import ConfigError
from rangeseg.geometry.kernel import kernel
from rangeseg.geometry.projection import Projection

NOTHING = np.float32(np.inf)  # the range where there is no point to compare with


def own_pixel(label_image: np.ndarray, projection: Projection) -> np.ndarray:
    """The label of the pixel that each point fell into, hidden or not.

    Args:
        label_image: (H,W) uint8 labels; what empty pixels say is not used.
        projection: of the N points.

    Returns:
        (N,) of the dtype of ``label_image``. A point that was not projected gets the label that
        most pixels have (the lower one on a tie; 0 where no pixel is filled), here and in the
        other functions of this module.
    """
    default = value_of_unprojected(label_image, projection)
    labels = np.ascontiguousarray(label_image)
    return _own_pixel(labels, projection.row, projection.col, default)


def nearest_label(label_image: np.ndarray, projection: Projection, window: int = 5) -> np.ndarray:
    """The label of the pixel around each point whose range is nearest to the point's.

    A point hidden behind a pole finds the wall beside the pole. The window goes around the seam;
    on a tie the pixel closer to the point's own is preferred, so the own pixel comes first (then
    the upper row, then the column further left).

    Args:
        label_image: (H,W) uint8 labels; what empty pixels say is not used.
        projection: of the N points.
        window: side of the square of pixels that is searched, odd.

    Returns:
        (N,) of the dtype of ``label_image``; see ``own_pixel`` for points not projected.

    Raises:
        ConfigError: a window that is even or not positive.

    Reference:
        Zhao et al., FIDNet: LiDAR Point Cloud Semantic Segmentation with Fully Interpolation
        Decoding, IROS 2021 (nearest label assignment).
    """
    row_offset, col_offset = window_offsets(window)
    default = value_of_unprojected(label_image, projection)
    labels, ranges = pad_window(label_image, projection, window // 2)
    return _nearest_label(
        labels.ravel(),
        ranges.ravel(),
        projection.point_index,
        projection.row,
        projection.col,
        projection.depth,
        labels.shape[1],
        row_offset * labels.shape[1] + col_offset,
        default,
    )


def nearest_point(
    label_image: np.ndarray, projection: Projection, points: np.ndarray, window: int = 5
) -> np.ndarray:
    """The label of the pixel around each point whose own point is nearest in space.

    Like ``nearest_label``, but by the distance in three dimensions: of two pixels at the same
    range the one beside the point is taken, not one a window away. On the real scans' truth it
    keeps more of every class (``tests/benchmarks/round_trip.py``).

    Args:
        label_image: (H,W) uint8 labels; what empty pixels say is not used.
        projection: of the N points.
        points: (N,4) float32, the ones that were projected.
        window: side of the square of pixels that is searched, odd.

    Returns:
        (N,) of the dtype of ``label_image``; see ``own_pixel`` for points not projected.

    Raises:
        ConfigError: a window that is even or not positive.
    """
    row_offset, col_offset = window_offsets(window)
    if len(points) != len(projection.row):
        raise ValueError(f"{len(points)} points, but a projection of {len(projection.row)}")
    return _nearest_point(
        np.ascontiguousarray(label_image),
        projection.point_index,
        projection.row,
        projection.col,
        points,
        row_offset,
        col_offset,
        value_of_unprojected(label_image, projection),
    )


def value_of_unprojected(label_image: np.ndarray, projection: Projection) -> int:
    """The most common label, looked up only where a point needs it; 0 in an image of floats."""
    if label_image.shape != projection.point_index.shape:
        raise ValueError(
            f"labels of {label_image.shape} pixels, "
            f"but a projection onto {projection.point_index.shape}"
        )
    if label_image.dtype.kind == "f":
        return 0
    if not (projection.row < 0).any() or not projection.valid.any():
        return 0
    return int(np.bincount(label_image[projection.valid]).argmax())


def window_offsets(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (window * window,) of a window about its centre, from the centre outward."""
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"the window must be an odd number of pixels, found {window}")
    row, col = (np.indices((window, window)) - window // 2).reshape(2, -1)
    outward = np.argsort(row**2 + col**2, kind="stable")
    return row[outward], col[outward]


def pad_window(
    label_image: np.ndarray, projection: Projection, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and ranges (H+2m,W+2m) with a margin, so that a window needs no look at the borders.

    Columns go around the seam. Beyond the first and last row, and in empty pixels, the range is
    infinitely far from everything.
    """
    height, width = label_image.shape
    labels = np.empty((height + 2 * margin, width + 2 * margin), dtype=label_image.dtype)
    ranges = np.full(labels.shape, NOTHING, dtype=np.float32)
    _fill_padded(
        np.ascontiguousarray(label_image), projection.depth, projection.point_index, margin, labels,
        ranges,
    )  # fmt: skip
    return labels, ranges


@kernel
def _fill_padded(
    label_image: np.ndarray,
    depth: np.ndarray,
    point_index: np.ndarray,
    margin: int,
    labels: np.ndarray,
    ranges: np.ndarray,
) -> None:
    height, width = point_index.shape
    labels[:margin], labels[margin + height :] = 0, 0
    for row in range(height):
        label_row, range_row = labels[row + margin], ranges[row + margin]
        label_row[margin : margin + width] = label_image[row]
        for col in range(width):
            i = point_index[row, col]
            if i >= 0:
                range_row[margin + col] = depth[i]
        # A margin may be wider than the image, so it is filled outward, one turn after the other.
        for k in range(margin):
            left, right = margin - 1 - k, margin + width + k
            label_row[left], label_row[right] = label_row[left + width], label_row[right - width]
            range_row[left], range_row[right] = range_row[left + width], range_row[right - width]


@kernel
def _own_pixel(labels: np.ndarray, rows: np.ndarray, cols: np.ndarray, default: int) -> np.ndarray:
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    for i in range(rows.shape[0]):
        if rows[i] >= 0:
            prediction[i] = labels[rows[i], cols[i]]
    return prediction


@kernel
def _nearest_label(
    labels: np.ndarray,
    ranges: np.ndarray,
    point_index: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    depth: np.ndarray,
    padded_width: int,
    offsets: np.ndarray,
    default: int,
) -> np.ndarray:
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    margin_to_centre = -offsets.min()  # from the upper left corner of a window
    for i in range(rows.shape[0]):
        row, col = rows[i], cols[i]
        if row < 0:
            continue
        own = row * padded_width + col + margin_to_centre
        best = own
        if point_index[row, col] != i:  # the owner is at no distance from its own pixel
            smallest = abs(ranges[own] - depth[i])
            for k in range(1, offsets.shape[0]):
                difference = abs(ranges[own + offsets[k]] - depth[i])
                if difference < smallest:
                    smallest, best = difference, own + offsets[k]
        prediction[i] = labels[best]
    return prediction


@kernel
def _nearest_point(
    labels: np.ndarray,
    point_index: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    points: np.ndarray,
    row_offset: np.ndarray,
    col_offset: np.ndarray,
    default: int,
) -> np.ndarray:
    height, width = labels.shape
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        prediction[i] = labels[rows[i], cols[i]]
        if point_index[rows[i], cols[i]] == i:  # the owner is at no distance from its own pixel
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        smallest = NOTHING
        for k in range(row_offset.shape[0]):
            row = rows[i] + row_offset[k]
            if row < 0 or row >= height:
                continue
            col = cols[i] + col_offset[k]
            while col < 0:
                col += width
            while col >= width:
                col -= width
            owner = point_index[row, col]
            if owner < 0:
                continue
            dx, dy, dz = points[owner, 0] - x, points[owner, 1] - y, points[owner, 2] - z
            squared = dx * dx + dy * dy + dz * dz
            if squared < smallest:
                smallest = squared
                prediction[i] = labels[row, col]
    return prediction
