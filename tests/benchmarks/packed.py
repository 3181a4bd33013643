"""A packed data set against its folder: bytes, and what reading a scan costs.

    python -m tests.benchmarks.packed [--root SEMANTIC_KITTI_ROOT] [--repeats 50] [--json FILE]

Files are in the page cache, so the times are those of the processor: reading, checking, decoding.
Without ``--root`` scans of 64 beams are simulated.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.packed.codec import decode_scan, encode_scan
from rangeseg.datasets.packed.write import pack_dataset
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from tests.benchmarks.timing import benchmark_parser, medians, print_table, write_json

SIMULATED = SimulationSettings(beams=64, columns=2048, train_scans=10, val_scans=1, test_scans=2)


def main() -> int:
    """Two tables."""
    parser = benchmark_parser("packed", "A packed data set against its folder.", repeats=50)
    parser.add_argument("--root", type=Path, help="a SemanticKITTI folder with labelled scans")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, name = arguments.root, "semantic_kitti"
        if root is None:
            root, name = Path(folder) / "street", "simulated"
            generate_dataset(root, SIMULATED)
        source, path = open_dataset(name, root), Path(folder) / "data.pack"
        assert isinstance(source, SemanticKitti)
        packing = pack_dataset(source, name, path)
        packed = open_dataset(name, path)
        sizes = measure_sizes(source, [i for ids in packing.sequences.values() for i in ids])
        scan_id = next(iter(packing.sequences.values()))[0]
        times = measure_times(source, packed, scan_id, arguments.repeats)
    print_table(sizes)
    print(f"\nscan {scan_id}, one thread, medians of {arguments.repeats}")
    print_table(times)
    write_json(arguments.json, [*sizes, *times])
    return 0


def measure_sizes(source: SemanticKitti, scan_ids: list[str]) -> list[dict[str, object]]:
    """Bytes of all scans with their labels and without."""
    points = with_labels = without = 0
    for scan_id in scan_ids:
        scan = source.read_scan(scan_id)
        points += len(scan.points)
        with_labels += len(encode_scan(scan))
        without += len(encode_scan(Scan(scan_id, scan.points)))
    return [
        {"bytes a point": name, "files": float(raw), "pack": size / points,
         "files / pack": raw * points / size}
        for name, raw, size in (("points", 16, without), ("points and labels", 20, with_labels))
    ]  # fmt: skip


def measure_times(
    source: SemanticKitti, packed: ScanSource, scan_id: str, repeats: int
) -> list[dict[str, object]]:
    """What a scan costs from its files, from the pack, and to be packed."""
    points_path, label_path = source.paths(scan_id)
    scan = source.read_scan(scan_id)
    content = np.frombuffer(encode_scan(scan), dtype=np.uint8).copy()
    raw = np.fromfile(label_path, dtype="<u4")
    to_train = source.info.label_map.to_train
    steps = {
        "np.fromfile, label map": lambda: (
            np.fromfile(points_path, dtype="<f4").reshape(-1, 4),
            to_train(np.fromfile(label_path, dtype="<u4")),
        ),
        "read_scan of the folder": lambda: source.read_scan(scan_id),
        "read_scan of the pack": lambda: packed.read_scan(scan_id),
        "... its checksum": lambda: zlib.crc32(content.data),
        "... its decoding": lambda: decode_scan(content, scan_id, len(raw), True),
        "packing": lambda: encode_scan(scan),
    }
    seconds = medians(steps, repeats)
    return [
        {"step": name, "ms a scan": 1e3 * value, "scans/s": 1 / value}
        for name, value in seconds.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
