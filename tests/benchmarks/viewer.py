"""How long the viewer takes: a picture without a window, and a step to the next scan in one.

    python -m tests.benchmarks.viewer [--scan FILE.bin]
    xvfb-run -s '-screen 0 1280x800x24' python -m tests.benchmarks.viewer   # a window for certain

A scan of 64x2048 points, simulated unless one is given, two copies of it in turn. The scans are in
memory, as they are when the window has loaded them ahead. A step is all from the key to the pixels.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rangeseg.datasets.base import Scan
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.viewer.display import has_display
from rangeseg.viewer.save import save_scans
from rangeseg.viewer.scans import ScanView, ScanViews
from rangeseg.viewer.window import Window
from tests.benchmarks.kernels import read_scan
from tests.benchmarks.timing import benchmark_parser, medians, print_table, write_json


def main() -> int:
    """Time both and print the table."""
    parser = benchmark_parser("viewer", __doc__.splitlines()[0], 20)
    parser.add_argument("--scan", type=Path, help="a .bin of float32 x, y, z, i")
    arguments = parser.parse_args()
    views = _views(*read_scan(arguments.scan))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "scan.png"

        def save() -> object:
            return save_scans(views, picture, "truth", False, False, False, 2.0)

        repeats = max(3, arguments.repeats // 4)
        found = medians({"a picture, open3d's start with it": save}, repeats, time.perf_counter)
    print(f"{len(views.read(views.scan_ids[0]).scan.points):,} points")
    rows = [{"what": name, "ms": 1000 * s, "at most": 2000.0} for name, s in found.items()]
    rows.append(
        {"what": _step_name(), "ms": 1000 * _step(views, arguments.repeats), "at most": 100.0}
    )
    print_table(rows)
    write_json(arguments.json, rows)
    return 0


def _views(points: np.ndarray, raw: np.ndarray) -> ScanViews:
    """Two scans with a prediction that is wrong for a tenth of the points."""
    source = SemanticKitti(Path("none"))
    labels = source.info.label_map.to_train(raw, where="the scan")
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < 0.1
    prediction = np.where(wrong, rng.integers(0, 19, len(labels)), labels).astype(np.uint8)
    confidence = rng.random(len(labels), dtype=np.float32)
    found = {
        name: ScanView(Scan(name, points, labels), prediction, confidence, confidence > 0.5, 50.0)
        for name in ("08/000000", "08/000001")
    }
    images = RangeImages(source.info, RangeImageSettings(height=64, width=2048))
    return ScanViews(source, images, "benchmark", list(found), found.__getitem__, True, True)


def _step_name() -> str:
    return f"a step in a window {'on a screen' if has_display() else 'in memory'}"


def _step(views: ScanViews, repeats: int) -> float:
    import open3d

    window = Window(open3d, views, "error", 2.0, lambda line: None, visible=has_display())
    (pane,) = window._canvases
    seconds = []
    for number in range(repeats + 4):
        start = time.perf_counter()
        window.do(("next", "previous")[number % 2])
        pane.hud.follow()
        pane.canvas.visualizer.update_renderer()
        pane.canvas.visualizer.poll_events()  # draws
        seconds.append(time.perf_counter() - start)
        while not window._scans.is_loaded((number + 1) % 2):
            time.sleep(0.01)
    window.close()
    return float(np.median(seconds[4:]))


if __name__ == "__main__":
    sys.exit(main())
