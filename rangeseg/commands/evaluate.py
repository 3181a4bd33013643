"""``rangeseg evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rangeseg.commands.base import (
    Commands,
    add_backend,
    add_command,
    add_device,
    add_on_bad_scan,
    add_tta,
)


def add_evaluate(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    evaluate = add_command(
        commands, "evaluate", _evaluate,
        "evaluate a trained run: mIoU per point, per raw point, per pixel",
        "rangeseg evaluate runs/simulated/cutmix_seg/1pct/seed0 --split test",
    )  # fmt: skip
    evaluate.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run")
    evaluate.add_argument("--split", help="default: evaluate.split of the run")
    add_tta(evaluate)
    add_on_bad_scan(evaluate)
    add_device(evaluate)
    add_backend(evaluate, "torch")


def _evaluate(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.trained import evaluate_run
    from rangeseg.system.distributed import joined

    with joined(arguments.device, "the same command evaluates it again") as device:
        result = evaluate_run(
            arguments.run_folder, arguments.split, device, arguments.on_bad_scan, arguments.tta,
            arguments.backend,
        )  # fmt: skip
    print_result(result, arguments.run_folder)
    return 0


def print_result(result: dict[str, Any], folder: Path) -> None:
    """Print a result as tables: IoU of each class, then the three figures.

    Args:
        result: what ``result.json`` holds.
        folder: of the run.
    """
    from rangeseg.report.rows import init_text, propagation_text
    from rangeseg.runs.folder import result_path

    print_figures(result)
    protocol = result["protocol"]
    if (propagation := protocol["propagation"]) is not None:
        carried = f"{propagation['scans']} scans were given labels"
        print(f"propagation: {propagation_text(propagation)}, {carried}")
    if (init := protocol["init"]) is not None:
        print(f"begun from: {init_text(init)}, {init['taken']} of {init['tensors']} tensors")
    if views := protocol.get("tta"):
        print(f"test-time augmentation: {views} views of each scan, averaged")
    print(f"result: {result_path(folder, protocol['split'])}")


def print_figures(result: dict[str, Any]) -> None:
    """Print the IoU of each class, then each kind of mIoU.

    Args:
        result: what ``evaluate`` or ``score`` of the engine returned.
    """
    from rangeseg.report.comparison import KINDS
    from rangeseg.report.tables import markdown_table

    rows = [[n, "–" if v is None else f"{v:.1f}"] for n, v in result["iou"].items()]
    print(markdown_table(["class", "IoU %"], rows))
    skipped = f", {len(result['skipped_scans'])} skipped" if result["skipped_scans"] else ""
    figures = ", ".join(f"{KINDS[kind]} {miou:.2f}" for kind, miou in result["miou"].items())
    print(f"\nmIoU on {result['protocol']['split']} ({result['scans']} scans{skipped}): {figures}")
