"""The ``rangeseg`` command: parse, call, print. Heavy imports are inside the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rangeseg.commands.base import (
    add_command,
    add_config,
    add_device,
    interrupted_code,
    make_parser,
    run_command,
)
from rangeseg.commands.compare import add_comparisons
from rangeseg.commands.view import add_view


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the words after ``rangeseg``; None takes those of the process.

    Returns:
        0 success, 1 unexpected, 2 usage or configuration, 3 data or checkpoint, 130 or 143
        interrupted after saving.
    """
    return run_command(build_parser(), argv)


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``rangeseg``, for a shell to complete by too."""
    parser = make_parser(
        "rangeseg",
        "Semi-supervised LiDAR segmentation in the range view.",
        "rangeseg demo",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = add_command(
        commands, "demo", _demo,
        "simulate, train two methods on 1 %% of the labels, evaluate, draw (3 to 7 minutes)",
        "rangeseg demo",
    )  # fmt: skip
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="default: %(default)s")
    demo.add_argument("--steps", type=int, help="of each training (default: 1200)")

    train = add_command(
        commands, "train", _train,
        "train a method on a share of the labels, then evaluate it",
        "rangeseg train configs/simulated.yaml --method cutmix_seg --labels 1%",
    )  # fmt: skip
    add_config(train)
    train.add_argument(
        "--method", required=True,
        help="supervised, cutmix_seg, cps ...: the README has all, a wrong name lists them",
    )  # fmt: skip
    train.add_argument(
        "--labels", required=True, metavar="RATIO|FILE",
        help="share of labelled scans (1%%, 10%%), drawn with the seed, or a split file",
    )  # fmt: skip
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    train.add_argument("--out", type=Path, help="default: runs/DATASET/METHOD/LABELS/seedN")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_on_bad_scan(train)
    add_device(train)

    evaluate = add_command(
        commands, "evaluate", _evaluate,
        "evaluate a trained run: mIoU per point, per raw point, per pixel",
        "rangeseg evaluate runs/simulated/cutmix_seg/1pct/seed0 --split test",
    )  # fmt: skip
    evaluate.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run")
    evaluate.add_argument("--split", help="default: evaluate.split of the run")
    _add_on_bad_scan(evaluate)
    add_device(evaluate)

    predict = add_command(
        commands, "predict", _predict,
        "write predictions in the benchmark's format, or pseudo-labels",
        "rangeseg predict runs/semantic_kitti/cps/10pct/seed0 --split test --out predictions --zip",
    )  # fmt: skip
    predict.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run")
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if need be")
    predict.add_argument("--split", default="test", help="default: %(default)s")
    predict.add_argument("--zip", action="store_true", help="also make DIR.zip for the benchmark")
    predict.add_argument(
        "--confidence", action="store_true",
        help="also write DIR/confidence/...: a float16 per point, the class's probability",
    )  # fmt: skip
    predict.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="pseudo-labels: points below this probability get the ignored label",
    )  # fmt: skip
    predict.add_argument("--resume", action="store_true", help="keep the files that are there")
    _add_on_bad_scan(predict)
    add_device(predict)

    add_comparisons(commands)
    add_view(commands)

    config = add_command(
        commands, "config", _config,
        "check a configuration and print it with every default written out",
        "rangeseg config configs/simulated.yaml --set train.steps=2000",
    )  # fmt: skip
    add_config(config)

    doctor = add_command(
        commands, "doctor", _doctor,
        "what this machine has of what rangeseg needs, and what to do about the rest",
        "rangeseg doctor",
    )  # fmt: skip
    doctor.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?",
        help="whose data are looked for (default: those of all configurations that are shipped)",
    )  # fmt: skip
    return parser


def _add_on_bad_scan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-bad-scan", choices=("fail", "skip"),
        help="skip: report a scan that cannot be read and leave it out, up to 1 %% of all "
        "(default: dataset.on_bad_scan, which is fail)",
    )  # fmt: skip


def _demo(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.demo import run_demo

    print(run_demo(arguments.out, arguments.steps))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.config import load_config
    from rangeseg.runs.train import plan_run, run_folder, train_run
    from rangeseg.system.distributed import joined

    overrides = list(arguments.overrides)
    if arguments.on_bad_scan is not None:
        overrides.append(f"dataset.on_bad_scan={arguments.on_bad_scan}")
    folder = arguments.out
    try:
        with joined(arguments.device, "the same command with --resume goes on") as device:
            values = load_config(arguments.config, overrides)
            config = plan_run(values, arguments.method, arguments.labels, arguments.seed)
            folder = folder or run_folder(config)
            result = train_run(config, folder, device, arguments.resume)
    except KeyboardInterrupt as stop:
        if folder is None:
            raise
        print(
            f"stopped; what was done is saved in {folder}: the same command with --resume goes on",
            file=sys.stderr,
        )
        return interrupted_code(stop)
    _print_result(result, folder)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.trained import evaluate_run
    from rangeseg.system.distributed import joined

    with joined(arguments.device, "the same command evaluates it anew") as device:
        result = evaluate_run(arguments.run_folder, arguments.split, device, arguments.on_bad_scan)
    _print_result(result, arguments.run_folder)
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from rangeseg.engine.export import STAMP, ExportSettings
    from rangeseg.errors import ConfigError
    from rangeseg.runs.trained import predict_run
    from rangeseg.system.distributed import joined

    least, out = arguments.min_confidence, arguments.out
    again = f"the same command with --resume completes {out}"
    try:
        with joined(arguments.device, again) as device:
            if least is not None and not 0 <= least <= 1:
                raise ConfigError(f"--min-confidence {least}: give a probability from 0 to 1")
            settings = ExportSettings(
                split=arguments.split, confidence=arguments.confidence, min_confidence=least
            )
            scans, skipped, archive = predict_run(
                arguments.run_folder, settings, out, device, arguments.resume, arguments.zip,
                arguments.on_bad_scan,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        print(f"stopped; {again}", file=sys.stderr)
        return interrupted_code(stop)
    print(f"{out}: {'pseudo-labels' if least is not None else 'predictions'} of {scans} scans")
    if skipped:
        print(f"{out}: {len(skipped)} skipped scans have none; {STAMP} names them")
    if archive is not None:
        print(f"{archive}: the same, packed as the benchmark expects it")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.config import load_config

    print(load_config(arguments.config, arguments.overrides).resolved(), end="")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.doctor import examine

    for line in examine(arguments.config):
        print(line, flush=True)
    return 0


def _print_result(result: dict[str, Any], folder: Path) -> None:
    from rangeseg.report.tables import markdown_table
    from rangeseg.runs.trained import result_path

    rows = [[n, "–" if v is None else f"{v:.1f}"] for n, v in result["iou"].items()]
    print(markdown_table(["class", "IoU %"], rows))
    miou, protocol = result["miou"], result["protocol"]
    skipped = f", {len(result['skipped_scans'])} skipped" if result["skipped_scans"] else ""
    print(
        f"\nmIoU on {protocol['split']} ({result['scans']} scans{skipped}): "
        f"point {miou['point']:.2f}, raw point {miou['point_raw']:.2f}, pixel {miou['pixel']:.2f}"
    )
    print(f"result: {result_path(folder, protocol['split'])}")
