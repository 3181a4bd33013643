"""What our kernels are compared with, written from the published descriptions.

Each does what ours does (circular azimuth, empty pixels far from everything), so that the results
can be held against each other; the way it is computed is that of its source.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rangeseg.geometry.sensor import Sensor


def numpy_projection(
    points: np.ndarray, sensor: Sensor, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Range image (5,H,W): range, x, y, z, intensity; and the point of each pixel (H,W).

    The order of work of RangeNet++ (Milioto et al. 2019, Sec. III-A, lidar-bonnetal): all angles
    in NumPy, points sorted by falling depth, so that the nearest is written last.
    """
    fov_down = np.float32(np.radians(sensor.fov_down_deg))
    fov = np.float32(np.radians(sensor.fov_up_deg)) - fov_down
    depth = np.linalg.norm(points[:, :3], 2, axis=1)
    azimuth = -np.arctan2(points[:, 1], points[:, 0])
    inclination = np.arcsin(points[:, 2] / depth)
    u = 0.5 * (azimuth / np.float32(np.pi) + 1.0) * np.float32(sensor.width)
    v = (1.0 - (inclination - fov_down) / fov) * np.float32(sensor.height)
    col = np.clip(np.floor(u), 0, sensor.width - 1).astype(np.int32)
    row = np.clip(np.floor(v), 0, sensor.height - 1).astype(np.int32)

    order = np.argsort(depth)[::-1]
    row, col = row[order], col[order]
    size = (sensor.height, sensor.width)
    index = np.full(size, -1, dtype=np.int32)
    ranges = np.full(size, -1, dtype=np.float32)
    xyz = np.full((*size, 3), -1, dtype=np.float32)
    intensity = np.full(size, -1, dtype=np.float32)
    index[row, col] = order
    ranges[row, col] = depth[order]
    xyz[row, col] = points[order, :3]
    intensity[row, col] = points[order, 3]
    image = np.concatenate([ranges[None], xyz.transpose(2, 0, 1), intensity[None]])
    image = (image - mean[:, None, None]) / std[:, None, None]
    return image * (index >= 0), index


def _windows(image: Tensor, fill: float, window: int) -> Tensor:
    """(H,W) -> (window·window, H·W), around the seam, ``fill`` above and below."""
    margin = window // 2
    image = torch.cat([image[:, -margin:], image, image[:, :margin]], dim=1)
    image = F.pad(image, (0, 0, margin, margin), value=fill)
    return F.unfold(image[None, None], (window, window))[0]


def _outward(window: int) -> Tensor:
    row, col = (np.indices((window, window)) - window // 2).reshape(2, -1)
    return torch.from_numpy(np.argsort(row**2 + col**2, kind="stable"))


def torch_nearest_label(
    labels: Tensor, ranges: Tensor, row: Tensor, col: Tensor, depth: Tensor, window: int
) -> Tensor:
    """The label of the pixel of the window whose range is nearest to the point's.

    FIDNet's nearest label assignment (Zhao et al. 2021, Sec. III-D) in whole-array operations.

    Args:
        labels: (H,W) int64.
        ranges: (H,W) float32, infinite where no point is.
        row: (N,) int64 of the points.
        col: (N,) int64 of the points.
        depth: (N,) float32 of the points.
        window: its side.
    """
    pixel = row * labels.shape[1] + col
    outward = _outward(window)
    near = _windows(ranges, float("inf"), window)[outward][:, pixel]
    said = _windows(labels.float(), 0.0, window)[outward][:, pixel]
    best = (near - depth).abs().argmin(dim=0, keepdim=True)
    return said.gather(0, best)[0].long()


def torch_knn_vote(
    labels: Tensor,
    ranges: Tensor,
    row: Tensor,
    col: Tensor,
    depth: Tensor,
    num_classes: int,
    window: int = 5,
    neighbours: int = 5,
    sigma: float = 1.0,
    cutoff: float = 1.0,
) -> Tensor:
    """The vote of the nearest pixels: unfold, weigh, top-k, scatter (RangeNet++, Sec. III-D).

    Arguments as in ``torch_nearest_label``.
    """
    pixel = row * labels.shape[1] + col
    outward = _outward(window)
    offset = torch.arange(window) - window // 2
    squared = offset[:, None] ** 2 + offset**2
    gaussian = torch.exp(-squared.double() / (2 * sigma**2))
    weight = (1 - gaussian / gaussian.sum()).float().flatten()[outward]
    near = _windows(ranges, float("inf"), window)[outward][:, pixel]
    said = _windows(labels.float(), 0.0, window)[outward][:, pixel].long()
    distance = (near - depth).abs() * weight[:, None]
    nearest, place = distance.topk(neighbours, dim=0, largest=False, sorted=True)
    voters = said.gather(0, place)
    voters = torch.where(nearest <= cutoff, voters, num_classes)
    votes = torch.zeros((num_classes + 1, len(pixel)), dtype=torch.int32)
    votes.scatter_add_(0, voters, torch.ones_like(voters, dtype=torch.int32))
    most, winner = votes[:num_classes].max(dim=0)
    return torch.where(most > 0, winner, labels[row, col])


def confusion_add_at(prediction: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,K) counts as semantic-kitti-api makes them: ``np.add.at`` on pairs."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    known = labels < num_classes
    np.add.at(counts, (labels[known], prediction[known]), 1)
    return counts
