"""``rangeseg predict``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rangeseg.commands.base import (
    Commands,
    add_backend,
    add_command,
    add_device,
    add_on_bad_scan,
    add_tta,
    interrupted_code,
)


def add_predict(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
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
        "--anyway", action="store_true",
        help="with --zip: predict and pack what there is, also if the benchmark would refuse it",
    )  # fmt: skip
    predict.add_argument(
        "--confidence", action="store_true",
        help="also write DIR/confidence/...: a float16 per point, the class's probability",
    )  # fmt: skip
    predict.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="pseudo-labels: points below this probability get the ignored label",
    )  # fmt: skip
    predict.add_argument("--resume", action="store_true", help="keep the files that are there")
    add_tta(predict)
    add_on_bad_scan(predict)
    add_device(predict)
    add_backend(predict, "auto")


def _predict(arguments: argparse.Namespace) -> int:
    from rangeseg.engine.prediction_files import STAMP, PredictionSettings
    from rangeseg.errors import ConfigError
    from rangeseg.runs.trained import predict_run
    from rangeseg.system.distributed import joined

    least, out = arguments.min_confidence, arguments.out
    again = f"the same command with --resume completes {out}"
    try:
        with joined(arguments.device, again) as device:
            if arguments.anyway and not arguments.zip:
                raise ConfigError("--anyway packs an incomplete split: add --zip")
            if least is not None and not 0 <= least <= 1:
                raise ConfigError(f"--min-confidence {least}: give a probability from 0 to 1")
            settings = PredictionSettings(
                split=arguments.split, confidence=arguments.confidence, min_confidence=least
            )
            scans, skipped, archive = predict_run(
                arguments.run_folder, settings, out, device, arguments.resume, arguments.zip,
                arguments.on_bad_scan, arguments.anyway, arguments.tta,
                arguments.backend,
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
