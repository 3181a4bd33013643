"""Our kernels against their published references, on one thread, in one process.

    python -m tests.benchmarks.kernels [--scan FILE.bin] [--repeats 20] [--json FILE]

Without ``--scan`` a scan of 64 beams and 2048 columns is simulated. Labels are the simulation's, or
by height for a file: what the kernels do depends on them little.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.engine.metrics import ConfusionMatrix
from rangeseg.geometry.backprojection import NOTHING, nearest_label
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import make_range_image, to_image
from rangeseg.geometry.knn import knn_vote
from rangeseg.geometry.projection import Projection, project_points
from rangeseg.geometry.sensor import HDL_64E
from rangeseg.simulation.generate import SimulationSettings, simulate_scan
from rangeseg.simulation.world import World
from tests.benchmarks.references import (
    confusion_add_at,
    numpy_projection,
    torch_knn_vote,
    torch_nearest_label,
)
from tests.benchmarks.timing import benchmark_parser, medians, print_table, write_json

CHANNELS = ("range", "x", "y", "z", "intensity")
LABELS = SemanticKitti.info.label_map
K = LABELS.num_classes
SCANS = 32
"""Taken in turn where no cache shall hold one until it comes again: 64 MB of points."""


def read_scan(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Points (N,4) float32 and raw labels (N,) uint32."""
    if path is None:
        settings = SimulationSettings(beams=64, columns=2048)
        reading = simulate_scan(World(settings.seed, "00"), 0, settings)
        return reading.points.astype(np.float32), reading.labels.astype(np.uint32)
    points = np.fromfile(path, dtype="<f4").reshape(-1, 4)
    classes = (np.nan_to_num(points[:, 2]) * 2).astype(np.int64) % K
    return points, LABELS.to_raw(classes.astype(np.uint8))


def main() -> int:
    """The table."""
    parser = benchmark_parser("kernels", "Kernels against their references.", repeats=20)
    parser.add_argument("--scan", type=Path, metavar="FILE", help="a .bin of float32 x, y, z, i")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    points, raw = read_scan(arguments.scan)
    rows = [
        {"kernel": name, "reference ms": old * 1e3, "ours ms": new * 1e3, "ratio": old / new,
         "floor ms": floor * 1e3, "times the floor": new / floor, "same result": same}
        for name, old, new, floor, same in measure(points, raw, arguments.repeats)
    ]  # fmt: skip
    print(f"{len(points)} points, 64x2048 unless said, one thread, medians of {arguments.repeats}")
    print_table(rows)
    write_json(arguments.json, rows)
    return 0


def measure(
    points: np.ndarray, raw: np.ndarray, repeats: int
) -> list[tuple[str, float, float, float, str]]:
    """Name, seconds of the reference and of ours, seconds of the floor, share of equal results."""
    found = []

    def compare(
        name: str,
        reference: Callable[[], object],
        ours: Callable[[], object],
        moved: float,
        same: str,
        blocks: int = 1,
    ) -> None:
        half = int(moved) // 8  # of the float32 are read, half are written
        copies = cycle([np.zeros((2, half), dtype=np.float32) + 1.0 for _ in range(blocks)])

        def copy() -> None:
            block = next(copies)
            np.copyto(block[1], block[0])

        seconds = medians({"old": reference, "new": ours, "floor": copy}, repeats)
        found.append((name, seconds["old"], seconds["new"], seconds["floor"], same))

    sensor = HDL_64E.resized(64, 2048, "inclination")
    statistics = {c: SemanticKitti.info.statistics[c] for c in CHANNELS}
    mean, std = (np.array([statistics[c][i] for c in CHANNELS], np.float32) for i in (0, 1))

    def project(points: np.ndarray) -> tuple[np.ndarray, Projection]:
        projection = project_points(points, sensor)
        return make_range_image(points, projection, CHANNELS, statistics), projection

    old, (image, projection) = numpy_projection(points, sensor, mean, std), project(points)
    given = (projection.row, projection.col, projection.depth, projection.point_index)
    moved = points.nbytes + image.nbytes + sum(field.nbytes for field in given)
    same = percent((np.abs(old[0] - image) <= np.spacing(np.abs(image))).all(axis=0))
    compare(
        "projection and 5 normalised channels",
        lambda: numpy_projection(points, sensor, mean, std), lambda: project(points), moved, same,
    )  # fmt: skip
    # Scan after scan, as an evaluation has them; what was made is kept, so that the next one is
    # not written to memory that is still in the cache.
    scans = cycle([points.copy() for _ in range(SCANS)])
    kept: deque[object] = deque(maxlen=SCANS)
    compare(
        "the same, each scan from memory",
        lambda: kept.append(numpy_projection(next(scans), sensor, mean, std)),
        lambda: kept.append(project(next(scans))), moved, same, blocks=SCANS,
    )  # fmt: skip
    kept.clear()

    narrow = HDL_64E.resized(64, 512)
    beams = beam_rows(points, narrow)
    one, six = (project_points(points, narrow, beams, layers) for layers in (1, 6))
    compare(
        "6 layers against 1, 64x512", lambda: project_points(points, narrow, beams),
        lambda: project_points(points, narrow, beams, layers=6),
        points.nbytes + 3 * six.depth.nbytes + six.point_index.nbytes,
        percent(one.point_index == six.front.point_index),
    )  # fmt: skip

    projection = project_points(points, HDL_64E, beam_rows(points, HDL_64E))
    labels = LABELS.to_train(raw)
    image = to_image(np.minimum(labels, K - 1), projection.point_index, 0)
    tensors = [
        torch.from_numpy(image).long(),
        torch.from_numpy(to_image(projection.depth, projection.point_index, NOTHING)),
        torch.from_numpy(projection.row).long(),
        torch.from_numpy(projection.col).long(),
        torch.from_numpy(projection.depth),
    ]
    moved = len(points) * 13 + image.nbytes * 5
    compare(
        "nearest_label 5x5", lambda: torch_nearest_label(*tensors, 5),
        lambda: nearest_label(image, projection), moved,
        percent(torch_nearest_label(*tensors, 5).numpy() == nearest_label(image, projection)),
    )  # fmt: skip
    noise = np.random.default_rng(0).integers(0, K, image.shape).astype(np.uint8)
    for title, labelled in (("", image), (", every label another", noise)):
        tensors[0] = torch.from_numpy(labelled).long()
        same = torch_knn_vote(*tensors, K).numpy() == knn_vote(labelled, projection, K)
        compare(
            f"knn_vote 5/5/1{title}", lambda: torch_knn_vote(*tensors, K),
            lambda labelled=labelled: knn_vote(labelled, projection, K), moved, percent(same),
        )  # fmt: skip

    known = np.minimum(labels, K - 1)
    prediction = np.random.default_rng(0).permutation(known)
    matrix = ConfusionMatrix(K)
    matrix.update(prediction, labels)
    same = matrix.counts == confusion_add_at(prediction, labels, K)
    compare(
        "confusion counts", lambda: confusion_add_at(prediction, labels, K),
        lambda: matrix.update(prediction, labels), 2 * len(labels), percent(same),
    )  # fmt: skip
    table = np.vectorize(lambda raw: LABELS.raw_to_train[raw & 0xFFFF])
    compare(
        "label map", lambda: table(raw), lambda: LABELS.to_train(raw), 5 * len(raw),
        percent(table(raw) == LABELS.to_train(raw)),
    )  # fmt: skip
    return found


def percent(same: np.ndarray) -> str:
    """How much of two results is equal."""
    return f"{100 * same.mean():.3f} %"


if __name__ == "__main__":
    sys.exit(main())
