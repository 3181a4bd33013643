"""Does the memory grow over a long training, or over the evaluation of many scans?

    python -m tests.benchmarks.memory [--steps 2000] [--scans 2000]

Trains with two loader processes and a validation every 100 steps, and evaluates, on tiny scans, and
looks at the resident size of each process every half second, from a tenth of the way on (progress
is known every ten seconds). Linux only.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rangeseg.simulation.generate import SimulationSettings, generate_dataset

CONFIG = Path(__file__).parents[2] / "configs" / "simulated.yaml"
SETTINGS = [
    "dataset.name=semantic_kitti", "range_image.rows=inclination", "range_image.width=256",
    "range_image.crop_width=64", "model.width=4", "train.batch_size=2", "train.workers=2",
    "train.validate_every=100",
]  # fmt: skip


def make_data(root: Path, scans: int) -> Path:
    """Simulated scans in which the validation sequence has many names for few scans."""
    settings = SimulationSettings(train_scans=20, val_scans=5, test_scans=2, columns=256)
    generate_dataset(root, settings, workers=1)
    for kind, suffix in (("velodyne", "bin"), ("labels", "label")):
        folder = root / "sequences" / "08" / kind
        for number in range(5, scans):
            os.link(folder / f"{number % 5:06d}.{suffix}", folder / f"{number:06d}.{suffix}")
    return root


def watch(words: list[str], stage: str, log: Path) -> dict[str, np.ndarray]:
    """Run a command; the resident sizes in MiB of its processes during one of its stages.

    The stage counts from a tenth of the way on, up to what the log last says before its end.
    """
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "rangeseg", *words], stdout=subprocess.DEVNULL,
            stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    samples: list[dict[int, float]] = []
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if _is_under_way(log, stage):
            pids = [process.pid, *map(int, children.read_text().split())]
            samples.append({pid: size for pid in pids if (size := _resident(pid)) is not None})
        time.sleep(0.5)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    pids = [pid for pid in samples[0] if all(pid in sample for sample in samples)]
    names = ["main", *(f"worker {i}" for i in range(1, len(pids)))]
    return {n: np.array([s[pid] for s in samples]) for n, pid in zip(names, pids, strict=True)}


def _is_under_way(log: Path, stage: str) -> bool:
    counts = re.findall(rf"^{stage}.*: (\d+)/(\d+) ", log.read_text(), re.MULTILINE)
    if not counts:
        return False
    done, total = map(int, counts[-1])
    return total / 10 <= done < total


def _resident(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmRSS")]
    return int(sizes[0]) / 1024 if sizes else None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--scans", type=int, default=2000, help="that are evaluated")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        few, many = (make_data(Path(folder) / str(n), n) for n in (5, arguments.scans))
        run = Path(folder) / "run"
        settings = [*SETTINGS, f"dataset.root={few}", f"train.steps={arguments.steps}"]
        words = [word for s in settings for word in ("--set", s)]
        words = ["train", str(CONFIG), *words, "--method", "pcr", "--labels", "10%"]
        log = Path(folder) / "log"
        found = {f"{arguments.steps} steps": watch([*words, "--out", str(run)], "train", log)}
        config = run / "config.yaml"
        config.write_text(config.read_text().replace(str(few), str(many)))
        found[f"{arguments.scans} scans"] = watch(["evaluate", str(run)], "evaluate", log)
    print(f"{'over':<12} {'process':<10} {'MiB, median':>12} {'first':>8} {'last':>8} {'range':>7}")
    for over, processes in found.items():
        for name, sizes in processes.items():
            median = float(np.median(sizes))
            spread = 100 * (sizes.max() - sizes.min()) / median
            print(
                f"{over:<12} {name:<10} {median:12.1f} {sizes[0]:8.1f} {sizes[-1]:8.1f} "
                f"{spread:6.1f}%"
            )
