"""The surface normals that FIDNet reads, computed from the range image alone."""

from __future__ import annotations

import math

import numpy as np

from rangeseg.geometry.kernel import kernel
from rangeseg.geometry.sensor import Sensor

NORMALS = ("normal_x", "normal_y", "normal_z")
"""Their channels: components along the axes of the points."""

_BLUR = np.array([2, 7, 14, 18, 14, 7, 2]) / 64.0
"""OpenCV's Gaussian kernel of seven taps, by which empty pixels are filled smoothly."""

_NEIGHBOURS = np.array(
    [(-2, -1, 3), (-2, 1, 3), (-1, -2, 3), (-1, -1, 2), (-1, 0, 1), (-1, 1, 2), (-1, 2, 3),
     (0, -1, 1)]
)  # fmt: skip
"""Rows down, columns to the right and L1 distance, in the order that breaks ties."""

_FAR = 1 << 30


def surface_normals(ranges: np.ndarray, sensor: Sensor) -> np.ndarray:
    """The direction of each pixel's surface as FIDNet's code computes it.

    An empty pixel takes the range of the nearest filled one, and these are blurred. Prewitt's
    operator gives the slope of the range along rows and columns. The image does not close a circle.
    All angles are those of pixel centres, with rows by inclination.

    The largest component of a vector is ±1, so its length is 1 to √3. Vectors point away from the
    sensor. Across the columns the slope has the sign of FIDNet's code, which is opposite to that of
    the true normal: a wall seen at an angle leans the wrong way. The weights were trained so.

    Departures, in the form *official / ours / why*: the pixel of a scan's first point is 0 / like
    any other / a slip. A pixel nearer than 0.9 m shifts the fill of later pixels / does not / a
    slip that no scan of SemanticKITTI tried here meets.

    Args:
        ranges: (H,W) float32 in metres, 0 where a pixel is empty.
        sensor: the field of view of the image.

    Returns:
        (3,H,W) float32, the channels NORMALS; 0 where a pixel is empty.

    Reference:
        https://github.com/placeforyiming/IROS21-FIDNet-SemanticKITTI
        (dataloader/Dataset_semanticKITTI.py); Borgefors, Distance transformations in digital
        images, CVGIP 1986, as in OpenCV's distanceTransformWithLabels.
    """
    from scipy.ndimage import correlate1d, prewitt

    valid = ranges > 0.0
    if not valid.any():
        return np.zeros((3, *ranges.shape), dtype=np.float32)
    smooth = ranges.ravel()[_nearest_filled(valid)].astype(np.float64)
    for axis in (0, 1):
        smooth = correlate1d(smooth, _BLUR, axis, mode="mirror")
    filled = np.where(valid, ranges, smooth)

    height, width = ranges.shape
    down = math.radians(sensor.fov_up_deg - sensor.fov_down_deg) / height
    right = math.radians(sensor.view_deg) / width
    inclination = math.radians(sensor.fov_up_deg) - down * (np.arange(height)[:, None] + 0.5)
    azimuth = math.radians(sensor.azimuth_left_deg) - right * (np.arange(width) + 0.5)
    # Prewitt's operator adds up three differences, each between pixels two apart.
    across = prewitt(filled, 1, mode="mirror") / (6.0 * right * filled * np.cos(inclination))
    along = prewitt(filled, 0, mode="mirror") / (6.0 * down * filled)

    outward = np.cos(inclination) - np.sin(inclination) * along
    normals = np.stack([
        np.cos(azimuth) * outward + np.sin(azimuth) * across,
        np.sin(azimuth) * outward - np.cos(azimuth) * across,
        np.sin(inclination) + np.cos(inclination) * along,
    ])  # fmt: skip
    normals *= valid / np.abs(normals).max(axis=0)
    found: np.ndarray = normals.astype(np.float32)
    return found


@kernel
def _nearest_filled(valid: np.ndarray) -> np.ndarray:
    """The flat index of the filled pixel nearest to each (H,W), by L1 distance within the image.

    One sweep down and one back. Among equally near pixels the first neighbour's choice stays, as
    in OpenCV.
    """
    height, width = valid.shape
    distance = np.full((height + 4, width + 4), _FAR, dtype=np.int64)  # nothing beyond the border
    nearest = np.zeros((height + 4, width + 4), dtype=np.int64)
    for row in range(height):
        for col in range(width):
            if valid[row, col]:
                distance[row + 2, col + 2] = 0
                nearest[row + 2, col + 2] = row * width + col
    for sweep in (1, -1):
        for step in range(height * width):
            pixel = step if sweep == 1 else height * width - 1 - step
            row, col = pixel // width + 2, pixel % width + 2
            least = distance[row, col]
            if least <= 1:
                continue
            for i in range(_NEIGHBOURS.shape[0]):
                above, left = row + sweep * _NEIGHBOURS[i, 0], col + sweep * _NEIGHBOURS[i, 1]
                if distance[above, left] + _NEIGHBOURS[i, 2] < least:
                    least = distance[above, left] + _NEIGHBOURS[i, 2]
                    nearest[row, col] = nearest[above, left]
            distance[row, col] = least
    return nearest[2:-2, 2:-2].copy()
