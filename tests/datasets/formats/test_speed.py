"""What a binary PCD costs beside raw float32, measured side by side."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.scan_files import read_points
from tests.datasets.formats.files import FORMATS


@pytest.mark.slow
def test_binary_pcd_within_twice_the_time_of_raw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (120_000, 4)).astype(np.float32)
    ring = rng.integers(0, 64, len(points)).astype(np.uint16)
    best = {}
    for name in ("raw", "pcd_points"):
        suffix, write = FORMATS[name]
        write(tmp_path / f"0{suffix}", points, ring)
        best[tmp_path / f"0{suffix}"] = np.inf
    for _ in range(60):
        for path in best:
            begin = time.perf_counter()
            read_points(path, Layout())
            best[path] = min(best[path], time.perf_counter() - begin)
    raw, pcd = best.values()
    assert pcd < 2 * raw
