"""Back-projection: give every point of a scan a label from the labelled range image.

In an image of several layers each kept point reads its own label. Points behind them read the label
of a kept point.

An image of floats, e.g. confidences, is back-projected alike; unprojected points get 0. Both
together form complex numbers with labels in the real part.
"""

from __future__ import annotations

import numpy as np

from rangeseg.errors import ConfigError
from rangeseg.geometry.kernel import kernel
from rangeseg.geometry.projection import Projection

NOTHING = np.float32(np.inf)  # range of pixels without a point


def own_pixel(label_image: np.ndarray, projection: Projection) -> np.ndarray:
    """Give each point the label of its own pixel, hidden or not.

    In an image of layers, points behind the kept ones get the last layer's label, the nearest.

    Args:
        label_image: (H,W) or (k,H,W) uint8 labels; those of empty pixels are not used.
        projection: projection of the N points.

    Returns:
        (N,) of the dtype of ``label_image``. In this module an unprojected point gets the most
        frequent label of the pixels (the lower one on a tie; 0 if no pixel is filled).
    """
    default = value_of_unprojected(label_image, projection)
    labels = np.ascontiguousarray(label_image)
    if labels.ndim == 2:
        return _own_pixel(labels, projection.row, projection.col, default)
    found = _own_pixel(labels[-1], projection.row, projection.col, default)
    found[projection.point_index[projection.valid]] = labels[projection.valid]
    return found


def nearest_label(label_image: np.ndarray, projection: Projection, window: int = 5) -> np.ndarray:
    """Give each point the label of the pixel in its window with the nearest range.

    A point hidden behind a pole finds the wall beside the pole. The window wraps around the seam of
    a full turn. On a tie the pixel closest to the point's own wins, then the upper row, then the
    left column.

    Args:
        label_image: (H,W) or (k,H,W) uint8 labels; those of empty pixels are not used.
        projection: projection of the N points.
        window: side of the searched square of pixels, odd.

    Returns:
        (N,) of the dtype of ``label_image``; see ``own_pixel`` for points not projected.

    Raises:
        ConfigError: the window is even or not positive.

    Reference:
        Zhao et al., FIDNet: LiDAR Point Cloud Semantic Segmentation with Fully Interpolation
        Decoding, IROS 2021 (nearest label assignment).
    """
    if label_image.ndim == 3:
        return _fill_hidden(label_image, projection, projection.depth[:, None], window)
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
        *window_places(row_offset, col_offset, labels.shape[1]),
        default,
    )


def nearest_point(
    label_image: np.ndarray, projection: Projection, points: np.ndarray, window: int = 5
) -> np.ndarray:
    """Give each point the label of the pixel in its window with the nearest point in space.

    Like ``nearest_label``, but by distance in three dimensions. Of two pixels at the same range the
    one beside the point wins, not one a window away. On the truth of real scans it keeps more of
    every class (``tests/benchmarks/round_trip.py``).

    Args:
        label_image: (H,W) or (k,H,W) uint8 labels; those of empty pixels are not used.
        projection: projection of the N points.
        points: (N,4) float32, the projected points.
        window: side of the searched square of pixels, odd.

    Returns:
        (N,) of the dtype of ``label_image``; see ``own_pixel`` for points not projected.

    Raises:
        ConfigError: the window is even or not positive.
    """
    if len(points) != len(projection.row):
        raise ValueError(f"{len(points)} points, but a projection of {len(projection.row)}")
    if label_image.ndim == 3:
        return _fill_hidden(label_image, projection, points[:, :3], window)
    row_offset, col_offset = window_offsets(window)
    pixels = _pad_points(points, projection.point_index, window // 2, projection.full_turn)
    return _nearest_point(
        np.ascontiguousarray(label_image),
        projection.point_index,
        projection.row,
        projection.col,
        points,
        pixels.reshape(-1, 4),
        row_offset,
        col_offset,
        *window_places(row_offset, col_offset, pixels.shape[1]),
        value_of_unprojected(label_image, projection),
    )


def _fill_hidden(
    label_image: np.ndarray, projection: Projection, place: np.ndarray, window: int
) -> np.ndarray:
    """Labels (N,) from layers (k,H,W): a kept point's own, the nearest one's for others.

    Args:
        label_image: (k,H,W).
        projection: projection of the N points.
        place: (N,D) float32 coordinates for the distance.
        window: side of the searched square of pixels, odd.
    """
    offsets = window_offsets(window)
    found, index = own_pixel(label_image, projection), projection.point_index
    hidden = projection.row >= 0
    hidden[index[projection.valid]] = False
    _nearest_in_layers(
        np.ascontiguousarray(label_image), index, projection.full_turn, projection.row,
        projection.col, np.ascontiguousarray(place), np.flatnonzero(hidden), *offsets, found,
    )  # fmt: skip
    return found


def value_of_unprojected(label_image: np.ndarray, projection: Projection) -> int:
    """The most common label, computed only if a point needs it; 0 in an image of floats."""
    if label_image.shape != projection.point_index.shape:
        raise ValueError(
            f"labels of {label_image.shape} pixels, "
            f"but a projection onto {projection.point_index.shape}"
        )
    if label_image.dtype.kind == "f":
        return 0
    if not (projection.row < 0).any() or not projection.valid.any():
        return 0
    labels = label_image[projection.valid].real.astype(np.intp, copy=False)
    return int(np.bincount(labels).argmax())


def window_offsets(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column offsets (window * window,) of a window, from its centre outward."""
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"the window must be an odd number of pixels, found {window}")
    row, col = (np.indices((window, window)) - window // 2).reshape(2, -1)
    outward = np.argsort(row**2 + col**2, kind="stable")
    return row[outward], col[outward]


def window_places(
    row_offset: np.ndarray, col_offset: np.ndarray, padded_width: int
) -> tuple[np.ndarray, np.uint64]:
    """Offsets of a window's pixels in a flat padded image, for the kernels.

    A pixel's window begins at ``row * padded_width + col``, its upper left corner. Offsets from
    there are unsigned, so numba need not check for negative indices.

    Returns:
        (window * window,) uint64 offsets, and the padded width.
    """
    places = (row_offset - row_offset.min()) * padded_width + col_offset - col_offset.min()
    return places.astype(np.uint64), np.uint64(padded_width)


def pad_window(
    label_image: np.ndarray, projection: Projection, margin: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pad labels and ranges to (H+2m,W+2m), so that windows need no border checks.

    Columns wrap around the seam of a full turn. Beyond the image, and in empty pixels, the range is
    infinitely far from everything.
    """
    height, width = label_image.shape
    labels = np.empty((height + 2 * margin, width + 2 * margin), dtype=label_image.dtype)
    ranges = np.full(labels.shape, NOTHING, dtype=np.float32)
    _fill_padded(
        np.ascontiguousarray(label_image), projection.depth, projection.point_index,
        projection.full_turn, margin, labels, ranges,
    )  # fmt: skip
    return labels, ranges


@kernel
def _fill_padded(
    label_image: np.ndarray,
    depth: np.ndarray,
    point_index: np.ndarray,
    full_turn: bool,
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
        if not full_turn:
            label_row[:margin], label_row[margin + width :] = 0, 0
            continue
        # A margin may be wider than the image, so fill it outward, turn after turn.
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
def _pad_points(
    points: np.ndarray, point_index: np.ndarray, margin: int, full_turn: bool
) -> np.ndarray:
    """Pad x, y, z of the pixels' points to (H+2m,W+2m,4), like ``pad_window``."""
    height, width = point_index.shape
    pixels = np.full((height + 2 * margin, width + 2 * margin, 4), NOTHING, dtype=np.float32)
    for row in range(height):
        line = pixels[row + margin]
        for col in range(width):
            if point_index[row, col] >= 0:
                i = np.uint32(point_index[row, col])
                for axis in range(3):
                    line[margin + col, axis] = points[i, axis]
        for k in range(margin if full_turn else 0):  # outward, as in _fill_padded
            left, right = margin - 1 - k, margin + width + k
            for axis in range(3):
                line[left, axis], line[right, axis] = (
                    line[left + width, axis],
                    line[right - width, axis],
                )
    return pixels


@kernel
def _nearest_label(
    labels: np.ndarray,
    ranges: np.ndarray,
    point_index: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    depth: np.ndarray,
    places: np.ndarray,
    padded_width: np.uint64,
    default: int,
) -> np.ndarray:
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        row, col = np.uint64(rows[i]), np.uint64(cols[i])
        corner = row * padded_width + col
        best = corner + places[0]
        if point_index[row, col] != i:  # the owner is at no distance from its own pixel
            smallest = NOTHING
            for k in range(places.shape[0]):
                difference = abs(ranges[corner + places[k]] - depth[i])
                if difference < smallest:
                    smallest, best = difference, corner + places[k]
        prediction[i] = labels[best]
    return prediction


@kernel
def _nearest_point(
    labels: np.ndarray,
    point_index: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    points: np.ndarray,
    pixels: np.ndarray,
    row_offset: np.ndarray,
    col_offset: np.ndarray,
    places: np.ndarray,
    padded_width: np.uint64,
    default: int,
) -> np.ndarray:
    prediction = np.full(rows.shape[0], default, dtype=labels.dtype)
    for i in range(rows.shape[0]):
        if rows[i] < 0:
            continue
        row, col = np.uint64(rows[i]), np.uint64(cols[i])
        if point_index[row, col] == i:  # the owner is at no distance from its own pixel
            prediction[i] = labels[row, col]
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        corner, smallest, best = row * padded_width + col, NOTHING, 0
        for k in range(places.shape[0]):
            place = corner + places[k]
            dx, dy, dz = pixels[place, 0] - x, pixels[place, 1] - y, pixels[place, 2] - z
            squared = dx * dx + dy * dy + dz * dz
            if squared < smallest:
                smallest, best = squared, k
        wrapped = (cols[i] + col_offset[best]) % labels.shape[1]
        prediction[i] = labels[rows[i] + row_offset[best], wrapped]
    return prediction


@kernel
def _nearest_in_layers(
    labels: np.ndarray,
    point_index: np.ndarray,
    full_turn: bool,
    rows: np.ndarray,
    cols: np.ndarray,
    place: np.ndarray,
    hidden: np.ndarray,
    row_offset: np.ndarray,
    col_offset: np.ndarray,
    prediction: np.ndarray,
) -> None:
    """For few points, so without padding; ties as without layers, then the nearer layer."""
    layers, height, width = labels.shape
    for i in hidden:
        smallest = NOTHING
        for k in range(row_offset.shape[0]):
            row, col = rows[i] + row_offset[k], cols[i] + col_offset[k]
            if row < 0 or row >= height or (not full_turn and (col < 0 or col >= width)):
                continue
            col %= width
            for layer in range(layers):
                other = point_index[layer, row, col]
                if other < 0:
                    break
                squared = np.float32(0.0)
                for d in range(place.shape[1]):
                    difference = place[other, d] - place[i, d]
                    squared += difference * difference
                if squared < smallest:
                    smallest, prediction[i] = squared, labels[layer, row, col]
