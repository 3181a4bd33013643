"""Every method over several seeds, at equal steps, in one table.

    python -m tests.benchmarks.methods configs/simulated.yaml --labels 1% --seeds 5 --split test

Trains supervised plain, supervised strong (the control), and every other method on the strong
labelled branch, ``--jobs`` at a time with one thread each, and prints the report. Run again it
goes on where it stopped. ``--labels`` may name a split file; a ratio is drawn anew with each seed,
the same for all methods.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rangeseg.engine.report import report
from rangeseg.methods import METHODS
from rangeseg.progress import Progress
from rangeseg.runs import read_result, result_path


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()

    rows = [("supervised", "plain"), *[(method, "strong") for method in METHODS]]
    runs = {}
    for seed in range(arguments.seeds):  # seed by seed: an early look compares like with like
        for method, labelled in rows:
            folder = arguments.out / f"{method}_{labelled}" / f"seed{seed}"
            command = [sys.executable, "-m", "rangeseg", "train", str(arguments.config)]
            command += ["--method", method, "--labels", arguments.labels, "--seed", str(seed)]
            settings = [f"train.labelled={labelled}", f"evaluate.split={arguments.split}"]
            for setting in [*settings, *arguments.overrides]:
                command += ["--set", setting]
            runs[folder] = [*command, "--out", str(folder), "--resume"]
    train_all(runs, arguments.split, arguments.jobs)
    print(report(read_result(result_path(folder, arguments.split)) for folder in runs))


def train_all(runs: dict[Path, list[str]], split: str, jobs: int) -> None:
    """Run the commands of all runs without a result, ``jobs`` at a time."""
    waiting = [folder for folder in runs if not result_path(folder, split).is_file()]
    running: dict[Path, subprocess.Popen[bytes]] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with Progress("runs", len(runs), "run", initial=len(runs) - len(waiting)) as progress:
        while waiting or running:
            while waiting and len(running) < jobs:
                folder = waiting.pop(0)
                folder.parent.mkdir(parents=True, exist_ok=True)
                with folder.with_suffix(".log").open("w") as log:
                    running[folder] = subprocess.Popen(
                        runs[folder], env=environment, stdout=log, stderr=log
                    )
            time.sleep(1)
            for folder in [f for f, process in running.items() if process.poll() is not None]:
                if running.pop(folder).returncode != 0:
                    for process in running.values():
                        process.terminate()
                    sys.exit(f"{folder} failed: see {folder.with_suffix('.log')}")
                progress.update(note=str(folder))


if __name__ == "__main__":
    main()
