"""``rangeseg predict``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.commands.base import (
    Commands,
    add_backend,
    add_command,
    add_device,
    add_on_bad_scan,
    add_tta,
    interrupted_code,
)
from rangeseg.errors import ConfigError

if TYPE_CHECKING:
    from rangeseg.engine.prediction_files import PredictionSettings

Done = tuple[int, dict[str, str], Path | None]
"""The number of scans, the skipped scans and the archive."""


def add_predict(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    predict = add_command(
        commands, "predict", _predict,
        "write predictions for files of scans or a benchmark, or pseudo-labels",
        "rangeseg predict runs/semantic_kitti/cps/10pct/seed0 --split test --out results --zip\n"
        "  rangeseg predict runs/mine/cps/10pct/seed0 drive/ --out labels\n"
        "  rangeseg predict net.onnx scan.pcd --out coloured --format ply",
    )  # fmt: skip
    predict.add_argument(
        "network", metavar="RUN", type=Path,
        help="the folder of a run, or with PATH a file that `rangeseg export` wrote",
    )  # fmt: skip
    predict.add_argument(
        "paths", metavar="PATH", type=Path, nargs="*",
        help="files of scans, or folders of them (nested too), in any supported format, "
        "in place of a split",
    )  # fmt: skip
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    predict.add_argument("--split", help="without PATH: split of the run's data set (test)")
    predict.add_argument("--zip", action="store_true", help="also make DIR.zip for the benchmark")
    predict.add_argument(
        "--format", choices=("label", "ply", "pcd"), default="label",
        help="with PATH: raw ids as .label files, or points with label and colour "
        "(default: %(default)s)",
    )  # fmt: skip
    predict.add_argument(
        "--layout", nargs="+", metavar="KEY=VALUE", default=[],
        help="with PATH: how the files differ from the run's data set, e.g. "
        "intensity_max=255; the keys of dataset.description.layout",
    )  # fmt: skip
    predict.add_argument(
        "--anyway", action="store_true",
        help="with --zip: pack an incomplete split, which the benchmark would refuse; with PATH: "
        "predict scans that contradict the layout",
    )  # fmt: skip
    predict.add_argument(
        "--confidence", action="store_true",
        help="also write DIR/confidence/...: a float16 per point, the class's probability",
    )  # fmt: skip
    predict.add_argument(
        "--min-confidence", type=float, metavar="P",
        help="pseudo-labels: points below this probability get the ignored label",
    )  # fmt: skip
    predict.add_argument("--resume", action="store_true", help="keep existing files")
    add_tta(predict)
    add_on_bad_scan(predict)
    add_device(predict)
    add_backend(predict, "auto")


def _predict(arguments: argparse.Namespace) -> int:
    from rangeseg.engine.prediction_files import STAMP, PredictionSettings

    _check(arguments)
    least, out = arguments.min_confidence, arguments.out
    again = f"the same command with --resume completes {out}"
    settings = PredictionSettings(
        split=arguments.split or "test", confidence=arguments.confidence, min_confidence=least,
        format=arguments.format,
    )  # fmt: skip
    predict = _of_files if arguments.paths else _of_split
    try:
        scans, skipped, archive = predict(arguments, settings, again)
    except KeyboardInterrupt as stop:
        print(f"stopped; {again}", file=sys.stderr)
        return interrupted_code(stop)
    print(f"{out}: {'pseudo-labels' if least is not None else 'predictions'} of {scans} scans")
    if skipped:
        print(f"{out}: {len(skipped)} skipped scans have none; {STAMP} names them")
    if archive is not None:
        print(f"{archive}: the same, packed as the benchmark expects it")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    least = arguments.min_confidence
    if least is not None and not 0 <= least <= 1:
        raise ConfigError(f"--min-confidence {least}: give a probability from 0 to 1")
    if arguments.paths:
        if arguments.split is not None or arguments.zip:
            raise ConfigError(
                f"{'--zip' if arguments.zip else '--split'} is for the run's data set: leave it "
                "out, or PATH"
            )
        return
    if arguments.network.is_file():
        raise ConfigError(
            f"{arguments.network} is a file, which knows no data set: name the files or folders "
            "of scans, or give the folder of a run"
        )
    if arguments.anyway and not arguments.zip:
        raise ConfigError("--anyway packs an incomplete split: add --zip")
    if arguments.format != "label" or arguments.layout:
        option = "--layout" if arguments.layout else "--format"
        raise ConfigError(f"{option} is for files of scans: name them behind RUN")


def _of_split(arguments: argparse.Namespace, settings: PredictionSettings, again: str) -> Done:
    from rangeseg.runs.predict_split import predict_split
    from rangeseg.system.distributed import joined

    with joined(arguments.device, again) as device:
        return predict_split(
            arguments.network, settings, arguments.out, device, arguments.resume, arguments.zip,
            arguments.on_bad_scan, arguments.anyway, arguments.tta, arguments.backend,
        )  # fmt: skip


def _of_files(arguments: argparse.Namespace, settings: PredictionSettings, again: str) -> Done:
    from rangeseg.commands.options import parse_layout
    from rangeseg.runs.predict_files import predict_files

    with _device(arguments, again) as device:
        scans, skipped = predict_files(
            arguments.network, arguments.paths, settings, arguments.out, arguments.resume,
            parse_layout(arguments.layout), arguments.anyway, arguments.on_bad_scan or "fail",
            device, arguments.backend, arguments.tta,
        )  # fmt: skip
    return scans, skipped, None


@contextmanager
def _device(arguments: argparse.Namespace, again: str) -> Iterator[str]:
    """The device for the network. An exported file needs no torch and runs in one process."""
    if not arguments.network.is_dir():
        yield arguments.device
        return
    from rangeseg.system.distributed import joined

    with joined(arguments.device, again) as device:
        yield str(device)
