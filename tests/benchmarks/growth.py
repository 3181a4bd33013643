"""Does anything grow with the number of scans? Time per scan at 100, 1,000 and 10,000 of them.

    python -m tests.benchmarks.growth [--scans 100 1000 10000] [--json FILE]

A few small scans under many names (hard links), in KITTI's layout. CPU time of all threads, so that
other work on the machine does not count; the network is a single product.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from rangeseg.datasets.batches import TrainingScans
from rangeseg.datasets.range_images import RangeImages, RangeImageSettings
from rangeseg.datasets.sampler import StepSampler
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.datasets.splits import labelled_and_unlabelled, parse_labels
from rangeseg.engine.evaluation import evaluate
from rangeseg.engine.inference import EvaluateSettings, Predictor
from rangeseg.engine.prediction_files import PredictionSettings, write_predictions
from rangeseg.engine.torch_backend import TorchBackend
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.simulation.generate import SimulationSettings, simulate_scan
from rangeseg.simulation.world import World
from tests.benchmarks.timing import benchmark_parser, print_table, write_json

DIFFERENT = 20
ENOUGH = 2000
BATCH = 2
IMAGE = RangeImageSettings(height=32, width=128, rows="inclination")
CLASSES = SemanticKitti.info.label_map.num_classes


class TwoSequences(SemanticKitti):
    """All training scans in one sequence and all validation scans in another."""

    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {"train": ("00",), "val": ("08",)}


class Trivial(nn.Module):
    """A network that costs nothing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = image[:, :1] * torch.linspace(-1, 1, CLASSES)[:, None, None]
        return logits.contiguous(memory_format=torch.channels_last)  # as those of a real one


def make_scans() -> list[dict[str, bytes]]:
    """The content of the files of a few simulated scans, by their folder."""
    settings = SimulationSettings(beams=16, columns=128)
    world = World(settings.seed, "00")
    readings = [simulate_scan(world, frame, settings) for frame in range(DIFFERENT)]
    return [
        {"velodyne": r.points.astype("<f4").tobytes(), "labels": r.labels.astype("<u4").tobytes()}
        for r in readings
    ]


def make_data(root: Path, scans: int, contents: list[dict[str, bytes]]) -> TwoSequences:
    """Two sequences of as many scans."""
    for sequence in ("00", "08"):
        for kind, suffix in (("velodyne", ".bin"), ("labels", ".label")):
            folder = root / "sequences" / sequence / kind
            folder.mkdir(parents=True)
            for number, content in enumerate(contents):
                (folder / f"{number:06}{suffix}").write_bytes(content[kind])
            give_names(folder, suffix, scans)
    return TwoSequences(root)


def give_names(folder: Path, suffix: str, scans: int) -> None:
    """Links to the first files, until there are as many as scans."""
    for number in range(DIFFERENT, scans):
        os.link(folder / f"{number % DIFFERENT:06}{suffix}", folder / f"{number:06}{suffix}")


def microseconds(work: Callable[[], int]) -> float:
    """CPU time of one unit; the work says how many it had, and is done again where they are few."""
    start, units = time.process_time(), 0
    while units < ENOUGH:
        units += work()
    return 1e6 * (time.process_time() - start) / units


def resident() -> float:
    """MiB that the process holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmRSS"))


def measure(source: TwoSequences, out: Path) -> dict[str, float]:
    """Microseconds of each piece of work, by the scan, and the resident size afterwards."""
    images = RangeImages(source.info, IMAGE)
    settings = EvaluateSettings()
    backend = TorchBackend(Trivial(), torch.device("cpu"), "float32")
    predictor = Predictor(backend, images, settings, CLASSES)
    labelled, unlabelled = labelled_and_unlabelled(source, parse_labels("10%"), 0)
    steps = len(unlabelled) // BATCH
    scans = TrainingScans(source, images, AugmentationSettings(), labelled, unlabelled)
    keys = [key for step in _steps(labelled, unlabelled, range(steps - 1)) for key in step]
    chosen = [keys[i] for i in np.linspace(0, len(keys) - 1, ENOUGH).astype(int)]

    def read_items() -> int:
        for key in chosen:
            scans[key]
        return len(chosen)

    on_val = PredictionSettings(split="val")

    def export() -> int:
        return write_predictions(predictor, source, on_val, out, {}, resume=True)[0]

    # What a finished export leaves.
    few = _first_scans(source, DIFFERENT)
    write_predictions(predictor, few, on_val, out, {}, resume=True)
    give_names(out / "sequences" / "08" / "predictions", ".label", len(source.scan_ids("val")))

    return {
        "list": microseconds(lambda: len(source.scan_ids("train"))),
        "draw labels": microseconds(lambda: sum(map(len, _draw(source)))),
        "keys of a step": microseconds(
            lambda: len([*_steps(labelled, unlabelled, range(0, 2 * steps))])
        ),
        "training item": microseconds(read_items),
        "evaluate": microseconds(lambda: int(evaluate(predictor, source, "val")["scans"])),
        "resumed export": microseconds(export),
        "resident MiB": resident(),
    }


def _draw(source: TwoSequences) -> tuple[list[str], list[str]]:
    return labelled_and_unlabelled(source, parse_labels("10%"), 1)


def _steps(labelled: list[str], unlabelled: list[str], steps: range) -> StepSampler:
    return StepSampler(labelled, unlabelled, BATCH, 0, steps)


def _first_scans(source: TwoSequences, count: int) -> TwoSequences:
    first = TwoSequences(source.root)
    ids = source.sequence_ids("08")[:count]
    first.sequence_ids = lambda sequence: ids  # type: ignore[method-assign]
    return first


def main() -> int:
    """The table."""
    parser = benchmark_parser("growth", "Time per scan over numbers of scans.", repeats=1)
    parser.add_argument("--scans", type=int, nargs="+", default=[100, 1000, 10000])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        contents = make_scans()
        for scans in (min(arguments.scans), *arguments.scans):  # the first to compile
            place = Path(folder) / f"{len(rows)}_{scans}"
            source = make_data(place, scans, contents)
            rows.append({"scans": scans, **measure(source, place / "out")})
    print("microseconds of CPU time by the scan (the step), resident size afterwards")
    print_table(rows[1:])
    write_json(arguments.json, rows[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
