"""Times of functions against each other, in one process and in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rangeseg.system.device import autocast


def medians(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """The median CPU seconds of each function.

    They take turns, so that what else the machine does hits all of them alike. CPU time is what
    the calling thread itself has used: another process does not count, nor do the threads of
    NumPy's matrix products, which spin while they wait for the next one.

    Args:
        functions: name -> what is timed; each is called three times before.
        repeats: rounds.
        clock: ``time.perf_counter`` where they wait for a device or for threads,
            ``time.process_time`` where a library has threads of its own.
    """
    # The C library keeps freed memory from the first large array on; a loader has made a batch by
    # then. Without it every fresh page would cost more than what is written to it.
    np.empty(31 << 20, dtype=np.uint8).fill(0)
    for function in functions.values():
        for _ in range(3):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def clock_of(device: torch.device) -> Callable[[], float]:
    """The clock of work on a device."""
    return time.perf_counter if device.type == "cuda" else time.thread_time


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a large matrix product, in the precision that the device trains in."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device)
    with autocast(device, "auto"):
        a = a.to((a @ a).dtype)

    def multiply() -> None:
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    (seconds,) = medians({"": multiply}, 10, clock_of(device)).values()
    return 2 * size**3 / seconds


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of the same keys as a Markdown table."""
    cells = [[str(key) for key in rows[0]]]
    cells += [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for number, line in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def benchmark_parser(module: str, description: str, repeats: int) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{module}")
    parser.description = description
    parser.add_argument("--repeats", type=int, default=repeats, help=f"rounds (default {repeats})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    return parser


def write_json(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows of a table as JSON, where a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(list(rows), indent=1) + "\n")
