"""What the range image itself costs: perfect labels, taken to pixels and back to all points.

    python -m tests.benchmarks.round_trip SEMANTIC_KITTI_ROOT [MAX_SCANS]

No network takes part: the figures are the ceiling of any network with that image size, row rule,
number of layers and back-projection. Each is the point mIoU in per cent over all scans of train
and val together and, in brackets, the mean over the scans of the mIoU over the classes in each.
Before them is the share of points without a pixel or layer of their own, in per cent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.geometry.backprojection import nearest_label, nearest_point, own_pixel
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_64E, RowRule, Sensor

NUM_CLASSES = SemanticKitti.info.label_map.num_classes
ROW_RULES: tuple[RowRule, ...] = ("inclination", "scan_order")
SIZES = ((64, 2048, 1), *((64, 512, layers) for layers in (1, 3, 4, 5, 6)))
"""Height, width and layers."""

BackProjection = Callable[[np.ndarray, Projection, np.ndarray], np.ndarray]
BACK_PROJECTIONS: dict[str, BackProjection] = {
    "own pixel": lambda image, projection, points: own_pixel(image, projection),
    "nearest_label": lambda image, projection, points: nearest_label(image, projection),
    "nearest_point": nearest_point,
    "knn_vote": lambda image, projection, points: knn_vote(image, projection, NUM_CLASSES),
}


def read_scans(root: Path, limit: int | None = None) -> Iterator[Scan]:
    """The labelled scans of a SemanticKITTI root, at most ``limit`` evenly spaced ones."""
    source = SemanticKitti(root)
    scan_ids = source.scan_ids("train") + source.scan_ids("val")
    every = 1 if limit is None else max(1, -(-len(scan_ids) // limit))
    for scan_id in scan_ids[::every]:
        yield source.read_scan(scan_id)


@dataclass(frozen=True)
class RoundTrip:
    """What is left of perfect labels, in per cent.

    Attributes:
        pooled: point mIoU of the confusion over all scans, the protocol's figure.
        scans: mean over the scans of the mIoU over the classes in each.
    """

    pooled: float
    scans: float


def left_out(scans: Iterable[Scan], sensor: Sensor, layers: int = 1) -> float:
    """The share of projected points that no pixel or layer shows, in per cent."""
    shown = projected = 0
    for scan in scans:
        beams = beam_rows(scan.points, sensor)
        projection = project_points(scan.points, sensor, beams, layers)
        shown += int(projection.valid.sum())
        projected += int((projection.row >= 0).sum())
    return 100.0 * (1.0 - shown / projected)


def round_trip(scans: Iterable[Scan], sensor: Sensor, layers: int = 1) -> dict[str, RoundTrip]:
    """Point mIoU of each way back to the points; with layers there is no vote of pixels.

    Points whose truth is ignored do not count, and neither do those that found an ignored pixel:
    a network never predicts ignore, so what it would say there is not known here.
    """
    ways = {n: way for n, way in BACK_PROJECTIONS.items() if layers == 1 or n != "knn_vote"}
    pooled = {name: ConfusionMatrix(NUM_CLASSES) for name in ways}
    mious: dict[str, list[float]] = {name: [] for name in ways}
    for scan in scans:
        assert scan.labels is not None
        beams = beam_rows(scan.points, sensor)
        projection = project_points(scan.points, sensor, beams, layers)
        image = to_image(scan.labels, projection.point_index, IGNORE)
        for name, back_project in ways.items():
            prediction = back_project(image, projection, scan.points)
            known = prediction != IGNORE
            alone = ConfusionMatrix(NUM_CLASSES)
            alone.update(prediction[known], scan.labels[known])
            pooled[name].counts += alone.counts
            mious[name].append(100 * alone.miou("nuscenes"))
    return {
        name: RoundTrip(100 * pooled[name].miou("nuscenes"), float(np.mean(mious[name])))
        for name in ways
    }


def main() -> None:
    """Print the table."""
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    root, limit = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else None
    print(f"{'rows':<12} {'size':<11} {'left out':>8}", *(f"{n:>15}" for n in BACK_PROJECTIONS))
    for height, width, layers in SIZES:
        for rule in ROW_RULES:
            sensor = HDL_64E.resized(height, width, rule)
            result = round_trip(read_scans(root, limit), sensor, layers)
            cells = [f"{left_out(read_scans(root, limit), sensor, layers):8.2f}"]
            cells += [f"{r.pooled:7.2f} ({r.scans:.2f})" for r in result.values()]
            print(f"{rule:<12} {f'{height}x{width}x{layers}':<11}", *cells)


if __name__ == "__main__":
    main()
