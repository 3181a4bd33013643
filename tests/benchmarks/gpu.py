"""All that only a GPU can prove, in one run of at most 8 minutes.

    python -m tests.benchmarks.gpu [--seconds 480] [--json FILE] [--small]

In this order, each part with a table of its own: the network at 64x2048; how long a training waits
for its data; an ONNX file checked against the network; a training that is stopped and resumed;
memory; every method's step, eager, compiled and in CUDA graphs, and FRNet's, eager. Then short
trainings of full width, on simulated scans of 64x2048, for as long as time is left. A part that
fails is named, and the next one begins. ``--small`` tries all of it on a CPU at a tiny size: its
figures mean nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rangeseg.cli import main as rangeseg
from rangeseg.engine.checkpoint import CHECKPOINT
from rangeseg.engine.compiling import CompileMode, compiled
from rangeseg.engine.metrics_log import METRICS, read_metrics
from rangeseg.methods import METHODS
from rangeseg.simulation.generate import SimulationSettings, generate_dataset
from rangeseg.system.device import choose_device, device_name
from tests.benchmarks.inference import gpu_rows, network_rows
from tests.benchmarks.timing import print_table, write_json
from tests.benchmarks.training import SMALL, Trainee, measure_steps, memory_table

CONFIG = str(Path(__file__).parents[2] / "configs" / "semantic_kitti.yaml")
MODES: tuple[CompileMode, ...] = ("none", "default", "reduce-overhead")
TINY = (
    *SMALL, "range_image.crop_width=64", "model.width=4", "train.lovasz_weight=0",
    "train.workers=0",
)  # fmt: skip
FRNET = "model.name=frnet", "range_image.width=512"
Row = dict[str, object]


@dataclass(frozen=True)
class Bench:
    """What all parts share.

    Attributes:
        device: what is measured.
        folder: for data and runs.
        small: whether all is tiny.
        end: of the time there is, by ``time.monotonic``.
    """

    device: torch.device
    folder: Path
    small: bool
    end: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings of all trainings."""
        return TINY if self.small else ()

    def words(
        self, run: str, method: str, steps: int, settings: Sequence[str], seed: int = 0
    ) -> list[str]:
        """The command that trains and evaluates a run, without the program."""
        out = self.folder / run
        words = ["train", CONFIG, "--method", method, "--labels", "20%", "--out", str(out)]
        words += ["--device", self.device.type, "--seed", str(seed)]
        always = (
            f"dataset.root={self.folder / 'data'}", f"train.steps={steps}",
            "train.validate_every=0", "train.precise_batch_norm=10", "train.log_every=1",
        )  # fmt: skip
        for setting in (*self.overrides, *always, *settings):
            words += ["--set", setting]
        return words

    def train(
        self, run: str, method: str, steps: int, *settings: str, seed: int = 0
    ) -> list[dict[str, Any]]:
        """Train and evaluate a run; returns the lines of its metrics.

        Raises:
            RuntimeError: the command failed.
        """
        words = self.words(run, method, steps, settings, seed)
        with redirect_stdout(sys.stderr):
            code = rangeseg(words)
        if code != 0:
            raise RuntimeError(f"rangeseg {' '.join(words)} ended with {code}")
        return read_metrics(self.folder / run)


def simulate(bench: Bench) -> None:
    """Scans to train on, in SemanticKITTI's layout."""
    size = {"beams": 32, "columns": 256} if bench.small else {"beams": 64, "columns": 2048}
    scans = {"train_scans": 20, "val_scans": 2 if bench.small else 20, "test_scans": 8}
    generate_dataset(bench.folder / "data", SimulationSettings.model_validate({**size, **scans}))


def steps(bench: Bench) -> list[Row]:
    """Each method's step in bfloat16, eager, compiled and in CUDA graphs; FRNet's, eager."""
    precision = "float32" if bench.small else "bfloat16"
    repeats, rows = (1 if bench.small else 10), []
    named = {name: (name, bench.overrides) for name in METHODS}
    named["supervised, FRNet 64x512"] = "supervised", (*bench.overrides, *FRNET)
    for name, (method, overrides) in named.items():
        seconds: dict[CompileMode, float] = {}
        for mode in MODES[: 1 if bench.small else None]:
            if mode != "none" and (bench.left < 120 or name not in METHODS):
                continue  # the trainings need the rest, and FRNet takes minutes to compile
            trainee = Trainee(method, overrides, bench.device, precision, mode=mode)
            with compiled(trainee.method, mode):
                (seconds[mode],) = measure_steps({name: trainee}, repeats, bench.device).values()
        row: Row = {"step": name, "eager ms": 1e3 * seconds["none"]}
        for mode in MODES[1:]:
            row[f"eager / {mode}"] = seconds["none"] / seconds[mode] if mode in seconds else "-"
        rows.append(row)
    return rows


def memory(bench: Bench) -> list[Row]:
    """Peak memory with and without activation checkpointing."""
    return memory_table(bench.overrides, bench.device) if bench.device.type == "cuda" else []


def data_wait(bench: Bench) -> list[Row]:
    """The share of a training's time that the device waits for scans."""
    count, rows = (2 if bench.small else 60), []
    for workers in (0,) if bench.small else (2, 8):
        lines = bench.train(f"wait{workers}", "cutmix_seg", count, f"train.workers={workers}")
        last = lines[-1]
        rows.append(
            {"loader processes": workers, "share of waiting": last["data_wait"],
             "scans/s": last["scans_per_second"]}
        )  # fmt: skip
    return rows


def inference(bench: Bench) -> list[Row]:
    """The network alone, by batch size."""
    return network_rows(4, 1) if bench.small else gpu_rows(128, 5)


def export(bench: Bench) -> list[Row]:
    """An ONNX file of a run; the command checks it against PyTorch, and fails if it disagrees."""
    run = bench.folder / "exported"
    bench.train("exported", "supervised", 2 if bench.small else 20)
    file = bench.folder / "net.onnx"
    with redirect_stdout(sys.stderr):
        code = rangeseg(["export", str(run), "--out", str(file)])
    if code != 0:
        raise RuntimeError(f"rangeseg export ended with {code}")
    return [{"export": "labels and logits agree", "MB": file.stat().st_size / 1e6}]


def resume(bench: Bench) -> list[Row]:
    """The weights of a training that was stopped halfway, against one that was not."""
    count = 4 if bench.small else 40
    settings = (
        "train.deterministic=true", "train.workers=0", "train.precision=float32",
        "train.compile=none",
    )  # fmt: skip
    bench.train("straight", "cutmix_seg", count, *settings)
    words = [
        sys.executable,
        "-m",
        "rangeseg",
        *bench.words("stopped", "cutmix_seg", count, settings),
    ]
    metrics = bench.folder / "stopped" / METRICS
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (metrics.is_file() and metrics.stat().st_size):
        time.sleep(0.01)
    process.terminate()
    stopped_at = process.wait()
    code = subprocess.run([*words, "--resume"], stdout=subprocess.DEVNULL).returncode
    if code != 0:
        raise RuntimeError(f"--resume ended with {code}")
    straight, again = (
        torch.load(bench.folder / run / CHECKPOINT, map_location="cpu", weights_only=True)
        for run in ("straight", "stopped")
    )
    apart = max(_apart(straight["method"], again["method"]).values())
    return [
        {"resume": f"{count} steps", "code of the stop": stopped_at, "largest difference": apart}
    ]


def _apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {
        name: float((one[name].double() - other[name].double()).abs().max())
        for name in one
        if one[name].is_floating_point() and one[name].numel()
    }


def table(bench: Bench) -> list[Row]:
    """Point mIoU after short trainings of full width, while there is time for another."""
    rows: list[Row] = []
    count, longest = 2 if bench.small else 300, 0.0
    for seed, method in itertools.product((0, 1, 2), ("supervised", "cutmix_seg")):
        if bench.left < 1.3 * longest or (bench.small and rows):
            break
        begin, run = time.monotonic(), f"{method}{seed}"
        bench.train(run, method, count, "train.labelled=plain", seed=seed)
        result = json.loads((bench.folder / run / "result.json").read_text())
        longest = max(longest, time.monotonic() - begin)
        rows.append(
            {"trained": method, "seed": seed, "steps": count, "point mIoU": result["miou"]["point"],
             "seconds": time.monotonic() - begin}
        )  # fmt: skip
    return rows


PARTS: tuple[Callable[[Bench], list[Row]], ...] = (
    inference, data_wait, export, resume, memory, steps, table,
)  # fmt: skip


def main() -> int:
    """A table for each part; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.description = "All that only a GPU can prove."
    parser.add_argument("--seconds", type=float, default=480, help="there are (default 480)")
    parser.add_argument("--small", action="store_true", help="a dry run at a tiny size, on a CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables as JSON too")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    device = choose_device("cpu" if arguments.small else "cuda")
    found: list[Row] = []
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, Path(folder), arguments.small, end)
        print(device_name(device), flush=True)
        simulate(bench)
        for part in PARTS:
            try:
                rows = part(bench)
            except Exception:  # the other parts are still worth their time
                traceback.print_exc()
                rows, failed = [{part.__name__: "failed, see above"}], True
            if rows:
                print(f"\n{part.__name__}, {bench.left:.0f} s left")
                print_table(rows)
                sys.stdout.flush()
            found += rows
            write_json(arguments.json, found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
