"""``rangeseg train``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rangeseg.commands.base import (
    Commands,
    add_command,
    add_config,
    add_device,
    add_on_bad_scan,
    interrupted_code,
)


def add_train(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
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
    add_on_bad_scan(train)
    add_device(train)


def _train(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.evaluate import print_result
    from rangeseg.datasets.splits import parse_labels
    from rangeseg.runs.as_published import warn_of_our_branch
    from rangeseg.runs.config import load_config
    from rangeseg.runs.folder import run_folder
    from rangeseg.runs.plan import plan_run
    from rangeseg.runs.train import train_run
    from rangeseg.system.distributed import joined

    overrides = list(arguments.overrides)
    if arguments.on_bad_scan is not None:
        overrides.append(f"dataset.on_bad_scan={arguments.on_bad_scan}")
    folder = arguments.out
    try:
        with joined(arguments.device, "the same command with --resume goes on") as device:
            values = load_config(arguments.config, overrides)
            warn_of_our_branch(arguments.config, values)
            labels = parse_labels(arguments.labels)
            config = plan_run(values, arguments.method, labels, arguments.seed)
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
    print_result(result, folder)
    return 0
