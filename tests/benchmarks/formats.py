"""What a format costs beside raw float32: the same points, read by the same function.

python -m tests.benchmarks.formats [--points 120000]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import measured, read_points
from tests.datasets.formats.files import FORMATS


def main() -> int:
    """Write a scan in every format, and print how long each takes to be read, in times of raw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (options.points, 4)).astype(np.float32)
    ring = rng.integers(0, 64, options.points).astype(np.uint16)
    with TemporaryDirectory() as folder:
        files = {}
        for name, (suffix, write) in FORMATS.items():
            files[name] = Path(folder) / f"{name}{suffix}"
            write(files[name], points, ring)
        seconds: dict[str, list[float]] = {name: [] for name in files}
        for number in range(options.rounds):
            for name, path in files.items():  # side by side, so that all meet the same load
                if number % 10 and name not in ("raw", "npy", "pcd_points", "pcd_binary"):
                    continue
                begin = time.perf_counter()
                measured(read_points(path, Layout()).points, 255.0)
                seconds[name].append(time.perf_counter() - begin)
    raw = min(seconds["raw"])
    print(f"{options.points:,} points of x, y, z, intensity (most of them also a ring)")
    for name, taken in sorted(seconds.items(), key=lambda item: min(item[1])):
        print(f"{name:<24}{min(taken) / raw:>8.2f} times raw")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
