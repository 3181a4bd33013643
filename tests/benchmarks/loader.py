"""From the file to the batch: scans a second on one core, against the same chain in NumPy.

    python -m tests.benchmarks.loader [--root SEMANTIC_KITTI_ROOT] [--repeats 20] [--json FILE]

Each sample is read (from a warm page cache), augmented, projected to 64x2048 with 5 channels,
normalised and collated in batches of 4. Without ``--root`` scans of 64 beams are simulated.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from rangeseg.datasets.batches import TrainingScans, collate
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import SampleKey
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.geometry.augmentation import AugmentationSettings, augment_points
from rangeseg.geometry.beams import beam_rows
from rangeseg.geometry.channels import to_image
from rangeseg.geometry.projection import project_points
from rangeseg.geometry.sensor import HDL_64E
from rangeseg.simulation.generate import SimulationSettings, simulate_scan
from rangeseg.simulation.world import World
from rangeseg.system.process import keep_freed_memory
from tests.benchmarks.references import numpy_projection
from tests.benchmarks.timing import benchmark_parser, medians, print_table, write_json

CHANNELS = ("range", "x", "y", "z", "intensity")
BATCH = 4
INFO = SemanticKitti.info
AUGMENTATION = AugmentationSettings()


def write_scans(root: Path) -> None:
    """A few simulated scans of 64x2048 rays as sequence 00."""
    settings = SimulationSettings(beams=64, columns=2048)
    world = World(settings.seed, "00")
    for folder in ("velodyne", "labels"):
        (root / "sequences" / "00" / folder).mkdir(parents=True)
    for frame in range(BATCH):
        reading = simulate_scan(world, frame, settings)
        place = root / "sequences" / "00"
        reading.points.astype("<f4").tofile(place / "velodyne" / f"{frame:06}.bin")
        reading.labels.astype("<u4").tofile(place / "labels" / f"{frame:06}.label")


def numpy_sample(points_path: Path, label_path: Path, rng: np.random.Generator) -> list[np.ndarray]:
    """The chain that the field's loaders have: NumPy all the way, arctangents of every point."""
    points = np.fromfile(points_path, dtype="<f4").reshape(-1, 4).copy()
    labels = INFO.label_map.to_train(np.fromfile(label_path, dtype="<u4"))
    angle = rng.uniform(-np.pi, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points[:, :2] = points[:, :2] @ rotation.T.astype(np.float32)
    if rng.random() < 0.5:
        points[:, 1] *= -1
    points[:, :3] *= np.float32(rng.uniform(0.95, 1.05))
    points[:, :3] += np.clip(rng.normal(0, 0.01, (len(points), 3)), -0.05, 0.05)
    keep = rng.random(len(points)) >= rng.uniform(0, 0.1)
    points, labels = points[keep], labels[keep]
    mean, std = (np.array([INFO.statistics[c][i] for c in CHANNELS], np.float32) for i in (0, 1))
    sensor = HDL_64E.resized(64, 2048, "inclination")
    image, index = numpy_projection(points, sensor, mean, std)
    return [image, index >= 0, np.where(index >= 0, labels[index], 255).astype(np.uint8)]


def main() -> int:
    """The table."""
    parser = benchmark_parser("loader", "Reading, augmenting and projecting.", repeats=20)
    parser.add_argument("--root", type=Path, help="a SemanticKITTI folder with labelled scans")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as a loader process does
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root
        if root is None:
            root = Path(folder)
            write_scans(root)
        source = SemanticKitti(root)
        present = source.sequence_ids("00") if arguments.root is None else source.scan_ids("train")
        scan_ids = [scan_id for scan_id in present if source.has_labels(scan_id)][:BATCH]
        rows = measure(source, scan_ids, arguments.repeats)
    print(f"{len(scan_ids)} scans a batch, 64x2048, one thread, medians of {arguments.repeats}")
    print_table(rows)
    write_json(arguments.json, rows)
    return 0


def measure(source: SemanticKitti, scan_ids: list[str], repeats: int) -> list[dict[str, object]]:
    """What a scan costs, step by step and as a whole, and what it costs in NumPy."""
    settings = RangeImageSettings(height=64, width=2048, channels=CHANNELS)
    images = RangeImages(source.info, settings)
    scans = TrainingScans(source, images, AUGMENTATION, scan_ids)
    keys = [SampleKey(True, scan_id, (0, n), 0.0) for n, scan_id in enumerate(scan_ids)]
    rng = np.random.default_rng(0)
    scan = source.read_scan(scan_ids[0])
    beams = beam_rows(scan.points, HDL_64E)
    moved = augment_points(scan.points, rng, AUGMENTATION)
    projection = project_points(moved, HDL_64E, beams)
    assert scan.labels is not None
    labels = scan.labels

    def naive() -> list[torch.Tensor]:
        samples = [numpy_sample(*source.paths(i), rng) for i in scan_ids]
        return [torch.from_numpy(np.stack(field)) for field in zip(*samples, strict=True)]

    batch = [scans[key] for key in keys]
    steps = {
        "read": lambda: source.read_scan(scan_ids[0]),
        "rows": lambda: beam_rows(scan.points, HDL_64E),
        "augment": lambda: augment_points(scan.points, rng, AUGMENTATION),
        "project": lambda: project_points(moved, HDL_64E, beams),
        "channels": lambda: images.image(moved, projection),
        "labels": lambda: to_image(labels, projection.point_index, 255),
    }
    # What a scan must move at least: out of its two files, into its part of the batch.
    size = sum(path.stat().st_size for path in source.paths(scan_ids[0]))
    size += sum(field[0].nbytes for field in collate(batch[:1]).fields[0].values())
    block = np.ones((2, size // 8), dtype=np.float32)  # read and written: half each
    steps["floor"] = lambda: np.copyto(block[1], block[0])
    whole = {
        "collate": lambda: collate(batch),
        "all": lambda: collate([scans[key] for key in keys]),
        "all in NumPy": naive,
    }
    seconds = medians(steps, repeats)
    seconds |= {k: v / len(scan_ids) for k, v in medians(whole, repeats).items()}
    return [
        {"step": name, "ms a scan": 1e3 * value, "scans/s": 1 / value,
         "NumPy / this": seconds["all in NumPy"] / value,
         "times the floor": value / seconds["floor"]}
        for name, value in seconds.items()
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
