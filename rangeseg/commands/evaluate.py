"""``rangeseg evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rangeseg.commands.base import (
    Commands,
    add_backend,
    add_command,
    add_corrupt,
    add_device,
    add_on_bad_scan,
    add_picture,
    add_tta,
)
from rangeseg.errors import ConfigError


def add_evaluate(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    evaluate = add_command(
        commands, "evaluate", _evaluate,
        "evaluate a trained run: mIoU per point, per raw point, per pixel",
        "rangeseg evaluate runs/simulated/cutmix_seg/1pct/seed0 --split test --picture test.png\n"
        "  rangeseg evaluate runs/simulated/cutmix_seg/1pct/seed0 --corrupt beams:2\n"
        "  rangeseg evaluate runs/simulated/cutmix_seg/1pct/seed0 --corrupt all",
    )  # fmt: skip
    evaluate.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run")
    evaluate.add_argument("--split", help="default: evaluate.split of the run")
    add_corrupt(
        evaluate,
        "evaluate on worse scans",
        "; all: a table of seven of these; existing results are reused",
    )
    add_picture(evaluate)
    add_tta(evaluate)
    add_on_bad_scan(evaluate)
    add_device(evaluate)
    add_backend(evaluate, "torch")


def _evaluate(arguments: argparse.Namespace) -> int:
    from rangeseg.datasets.corruption import ALL, parse_corruption
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.robustness import evaluate_corrupted
    from rangeseg.runs.trained import evaluate_run
    from rangeseg.system.distributed import joined, on_rank_zero

    run, picture, corrupt = arguments.run_folder, arguments.picture, arguments.corrupt
    options = arguments.on_bad_scan, arguments.tta, arguments.backend
    with joined(arguments.device, "the same command evaluates it again") as device:
        if corrupt == ALL:
            if picture is not None:
                raise ConfigError(f"--picture {picture} draws one result: name one corruption")
            print_robustness(evaluate_corrupted(run, arguments.split, device, *options))
            return 0
        corruption = None if corrupt is None else parse_corruption(corrupt)
        on_rank_zero(lambda: check_report_files([picture]))
        result = evaluate_run(run, arguments.split, device, *options, corruption)
        on_rank_zero(lambda: save_picture(picture, str(run), result))
    print_result(result, run)
    return 0


def print_robustness(results: list[dict[str, Any]]) -> None:
    """Print the table of a run on corrupted scans.

    Args:
        results: one per corruption; the first is of the clean scans.
    """
    from rangeseg.report.robustness import robustness_table
    from rangeseg.report.tables import markdown_table

    print(markdown_table(*robustness_table(results)))
    print(
        f"\nin per cent, {results[0]['protocol']['split']} ({results[0]['scans']} scans), over the "
        "points that are left; kept: point mIoU as a share of that without corruption"
    )


def print_result(result: dict[str, Any], folder: Path) -> None:
    """Print a result as tables: IoU of each class, then the three figures.

    Args:
        result: content of ``result.json``.
        folder: folder of the run.
    """
    from rangeseg.datasets.corruption import parse_corruption
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
    corruption = None
    if corrupt := protocol.get("corruption"):
        corruption = parse_corruption(corrupt)
        print(f"corruption: {corrupt}; lost points are not judged")
    print(f"result: {result_path(folder, protocol['split'], corruption)}")


def save_picture(path: Path | None, title: str, result: dict[str, Any]) -> None:
    """Draw a result where ``--picture`` names a file.

    Args:
        path: path of the picture; None draws none.
        title: name of the run or predictions.
        result: what ``evaluate`` or ``score`` of the engine returned.
    """
    if path is None:
        return
    from rangeseg.drawing.figures import save_figures

    protocol = result["protocol"]
    corruption = f", {protocol['corruption']}" if "corruption" in protocol else ""
    point, scans = result["miou"]["point"], result["scans"]
    judged = f"{protocol['dataset']} {protocol['split']} ({scans} scans{corruption})"
    save_figures(path, f"{title}: point mIoU {point:.2f} on {judged}", result)


def print_figures(result: dict[str, Any]) -> None:
    """Print the IoU of each class, each kind of mIoU, and further point metrics.

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
    distances = [
        f"{name} {'–' if found['miou'] is None else format(found['miou'], '.1f')}"
        for name, found in result["distance"].items()
    ]
    print(f"point mIoU by distance, over the classes there: {', '.join(distances)}")
    error = ""
    if calibration := result.get("calibration"):
        error = f", expected calibration error {calibration['ece']:.2f}"
    print(f"frequency-weighted IoU {result['fwiou']:.2f}, accuracy {result['accuracy']:.2f}{error}")
