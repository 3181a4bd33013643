"""The training step: precision, layout, compilation, and what each method costs.

    python -m tests.benchmarks.training [--device D] [--compile MODE ...] [--json FILE]

Random batches that stay on the device: no loading. On a GPU FIDNet of full width at 64x2048 with
2 + 2 scans, elsewhere crops of the simulated street's size. The step is that of the trainer:
losses, gradients, clipping, optimiser, EMA. Both sides of a ratio take turns in one process.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from rangeseg.datasets.splits import parse_labels
from rangeseg.engine.compiling import CompileMode, compiled
from rangeseg.engine.optimiser import Optimiser
from rangeseg.methods import METHODS
from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.runs.config import load_config
from rangeseg.runs.experiment import Experiment
from rangeseg.runs.plan import plan_run
from rangeseg.system.device import Precision, autocast, choose_device, device_name, to_device
from rangeseg.system.device import channels_last as preferred_layout
from tests.benchmarks.timing import (
    benchmark_parser,
    clock_of,
    matrix_rate,
    medians,
    print_table,
    write_json,
)

CONFIG = Path(__file__).parents[2] / "configs" / "semantic_kitti.yaml"
SMALL = (
    "range_image.height=32", "range_image.width=512", "range_image.crop_width=128",
    "range_image.rows=inclination", "model.width=16",
)  # fmt: skip
BATCH = 2


class Trainee:
    """A method at its steps, as the trainer has it."""

    def __init__(
        self,
        name: str,
        overrides: tuple[str, ...],
        device: torch.device,
        precision: Precision = "auto",
        channels_last: bool = True,
        mode: CompileMode = "none",
    ) -> None:
        config = plan_run(load_config(CONFIG, overrides), name, parse_labels("10%"), 0)
        experiment = Experiment(config)
        classes = experiment.source.info.label_map.num_classes
        method = experiment.method()
        self.method = (to_device(method, device) if channels_last else method.to(device)).train()
        train = config.train
        self.optimiser = Optimiser(
            method, 1 << 20, train.learning_rate, train.weight_decay, train.warm_up, train.clip_norm
        )
        self.device, self.precision, self.mode = device, precision, mode
        self.generator = torch.Generator(device)
        size = config.range_image
        layers = () if size.layers == 1 else (size.layers,)
        shape = (BATCH, *layers, size.height, size.crop_width or size.width)
        self.batch = _batch(shape, len(size.channels), classes, device, channels_last)
        self.step = 0

    def __call__(self) -> None:
        """One step, waited for."""
        self.step += 1
        context = StepContext(1000, 1001, self.generator.manual_seed(self.step))
        if self.mode != "none":
            torch.compiler.cudagraph_mark_step_begin()
        with autocast(self.device, self.precision):
            losses = self.method(self.batch, context)
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()
        self.method.after_batch()
        self.method.after_step(context)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _batch(
    shape: tuple[int, ...],
    channels: int,
    classes: int,
    device: torch.device,
    channels_last: bool,
) -> TrainingBatch:
    scans, *size = shape

    def fields() -> dict[str, torch.Tensor]:
        valid = torch.rand(shape) < 0.8
        image = torch.randn(scans, channels, *size) * valid[:, None]
        layout = preferred_layout(image) if channels_last else torch.contiguous_format
        return {
            "image": image.to(device, memory_format=layout),
            "valid": valid.to(device),
        }

    labels = torch.randint(0, classes, shape, dtype=torch.uint8).to(device)
    return TrainingBatch({**fields(), "labels": labels}, fields())


def measure_steps(
    trainees: Mapping[str, Trainee], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of a step of each; compiled networks are compiled first."""
    steps: dict[str, Callable[[], None]] = dict(trainees)
    return medians(steps, repeats, clock_of(device))


def step_table(
    overrides: tuple[str, ...], device: torch.device, modes: list[CompileMode], repeats: int
) -> list[dict[str, object]]:
    """The supervised step in several ways, with the share of the device's matrix rate."""
    ways = {
        "float32, contiguous": Trainee("supervised", overrides, device, "float32", False),
        "bfloat16, contiguous": Trainee("supervised", overrides, device, "bfloat16", False),
        "bfloat16, channels_last": Trainee("supervised", overrides, device, "bfloat16"),
    }
    for mode in modes:
        way = f"bfloat16, channels_last, compiled ({mode})"
        ways[way] = Trainee("supervised", overrides, device, "bfloat16", mode=mode)
    with FlopCounterMode(display=False) as counter:
        ways["bfloat16, channels_last"]()
    operations = counter.get_total_flops()
    peak = matrix_rate(device)
    with ExitStack() as stack:
        for trainee in ways.values():
            stack.enter_context(compiled(trainee.method, trainee.mode))
        seconds = measure_steps(ways, repeats, device)
    slowest, plain = seconds["float32, contiguous"], seconds["bfloat16, contiguous"]
    return [
        {
            "supervised step": way, "ms": 1e3 * s, "float32 / this": slowest / s,
            "eager bfloat16 / this": plain / s, "TFLOP/s": operations / s / 1e12,
            "share of the matrix rate": operations / s / peak,
        }
        for way, s in seconds.items()
    ]  # fmt: skip


def method_table(
    overrides: tuple[str, ...], device: torch.device, mode: CompileMode, repeats: int
) -> list[dict[str, object]]:
    """Each method against the supervised step, in turn with it."""
    rows = []
    base = Trainee("supervised", overrides, device, mode=mode)
    for name in METHODS:
        if name == "supervised":
            continue
        trainee = Trainee(name, overrides, device, mode=mode)
        with compiled(base.method, mode), compiled(trainee.method, mode):
            seconds = measure_steps({"supervised": base, name: trainee}, repeats, device)
        ratio = seconds[name] / seconds["supervised"]
        rows.append({"method": name, "ms": 1e3 * seconds[name], "this / supervised": ratio})
    return rows


def memory_table(overrides: tuple[str, ...], device: torch.device) -> list[dict[str, object]]:
    """Peak memory and time of a step with and without activation checkpointing; CUDA only."""
    rows = []
    for on in (False, True):
        trainee = Trainee("cutmix_seg", overrides, device)
        for network in trainee.method.trained_networks():
            network.activation_checkpointing = on  # type: ignore[assignment]
        gc.collect()  # the trainee before refers to itself
        torch.cuda.reset_peak_memory_stats(device)
        (seconds,) = measure_steps({"": trainee}, 5, device).values()
        peak = torch.cuda.max_memory_allocated(device) / 2**30
        rows.append({"activation checkpointing": on, "GiB": peak, "ms": 1e3 * seconds})
    return rows


def parse() -> argparse.Namespace:
    """The options."""
    parser = benchmark_parser("training", "The training step on its device.", repeats=20)
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument(
        "--compile", nargs="+", metavar="MODE", default=[],
        help="also torch.compile with these modes: default, reduce-overhead, max-autotune",
    )  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """The tables."""
    arguments = parse()
    device = choose_device(arguments.device)
    overrides = () if device.type == "cuda" else SMALL
    if device.type == "cpu":
        torch.set_num_threads(1)
    print(f"{device_name(device)}, {BATCH} + {BATCH} scans, medians of {arguments.repeats}\n")
    rows = step_table(overrides, device, arguments.compile, arguments.repeats)
    print_table(rows)
    print()
    mode = arguments.compile[0] if arguments.compile else "none"
    methods = method_table(overrides, device, mode, arguments.repeats)
    print_table(methods)
    rows += methods
    if device.type == "cuda":
        print()
        memory = memory_table(overrides, device)
        print_table(memory)
        rows += memory
    write_json(arguments.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
