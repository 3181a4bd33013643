"""What the range image itself costs: perfect labels, taken to pixels and back to all points.

    python -m tests.benchmarks.round_trip SEMANTIC_KITTI_ROOT [MAX_SCANS]

No network takes part: the figures are the ceiling of any network with that image size, row rule
and back-projection. Each is the point mIoU in per cent over all scans of train and val
together and, in brackets, the mean over the scans of the mIoU over the classes in each.
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
SIZES = ((64, 2048), (64, 512))

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


def round_trip(scans: Iterable[Scan], sensor: Sensor) -> dict[str, RoundTrip]:
    """Point mIoU of each way back to the points.

    Points whose truth is ignored do not count, and neither do those that found an ignored pixel:
    a network never predicts ignore, so what it would say there is not known here.
    """
    pooled = {name: ConfusionMatrix(NUM_CLASSES) for name in BACK_PROJECTIONS}
    mious: dict[str, list[float]] = {name: [] for name in BACK_PROJECTIONS}
    for scan in scans:
        assert scan.labels is not None
        projection = project_points(scan.points, sensor, beam_rows(scan.points, sensor))
        image = to_image(scan.labels, projection.point_index, IGNORE)
        for name, back_project in BACK_PROJECTIONS.items():
            prediction = back_project(image, projection, scan.points)
            known = prediction != IGNORE
            alone = ConfusionMatrix(NUM_CLASSES)
            alone.update(prediction[known], scan.labels[known])
            pooled[name].counts += alone.counts
            mious[name].append(100 * alone.miou("nuscenes"))
    return {
        name: RoundTrip(100 * pooled[name].miou("nuscenes"), float(np.mean(mious[name])))
        for name in BACK_PROJECTIONS
    }


def main() -> None:
    """Print the table."""
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    limit = int(sys.argv[2]) if len(sys.argv) == 3 else None
    print(f"{'rows':<12} {'size':<8}", *(f"{name:>15}" for name in BACK_PROJECTIONS))
    for height, width in SIZES:
        for rule in ROW_RULES:
            sensor = HDL_64E.resized(height, width, rule)
            result = round_trip(read_scans(Path(sys.argv[1]), limit), sensor)
            cells = [f"{r.pooled:7.2f} ({r.scans:.2f})" for r in result.values()]
            print(f"{rule:<12} {f'{height}x{width}':<8}", *cells)


if __name__ == "__main__":
    main()
