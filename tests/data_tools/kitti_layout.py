"""Small files in SemanticKITTI's layout, made up for one test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SEQUENCES = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10")


def write_scan(root: Path, scan_id: str, raw_labels: list[int] | None, points: int = 5) -> None:
    """One scan of random points; ``raw_labels`` None writes no label file."""
    sequence, frame = scan_id.split("/")
    folder = root / "sequences" / sequence
    (folder / "velodyne").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    rng = np.random.default_rng(int(frame))
    rng.random((points, 4), dtype=np.float32).tofile(folder / "velodyne" / f"{frame}.bin")
    if raw_labels is not None:
        np.array(raw_labels, dtype=np.uint32).tofile(folder / "labels" / f"{frame}.label")


def write_root(root: Path, frames: int = 2) -> Path:
    """Sequences 00 to 10, as a download without the test split."""
    for sequence in SEQUENCES:
        for frame in range(frames):
            write_scan(root, f"{sequence}/{frame:06d}", [10, 40, 0, 252, 81])
    return root
