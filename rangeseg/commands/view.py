"""The arguments of ``rangeseg view``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from rangeseg.commands.base import Commands, add_command, add_device
from rangeseg.errors import ConfigError


def add_view(commands: Commands) -> None:
    """Add ``rangeseg view``.

    Args:
        commands: result of ``parser.add_subparsers(required=True)``.
    """
    view = add_command(
        commands, "view", _view,
        "look at scans, predictions, propagated labels and training batches: a window, or pictures",
        "rangeseg view runs/simulated/cutmix_seg/1pct/seed0\n"
        "  rangeseg view predictions --mode error --save errors.png\n"
        "  rangeseg view propagated --side-by-side\n"
        "  rangeseg view net.onnx drive/ --video drive.gif\n"
        "  rangeseg view configs/simulated.yaml --method cutmix_seg --batch --save batch.png\n"
        "\nkeys of the window: n b scans, 1-9 colours, s side by side, i l p h q (h explains)",
    )  # fmt: skip
    view.add_argument(
        "target", metavar="RUN|PREDICTIONS|PROPAGATED|CONFIG", type=Path,
        help="the folder of a run, a folder that `predict` or `rangeseg-data propagate` wrote, "
        "or a YAML file, see configs/; with PATH also a file that `export` wrote",
    )  # fmt: skip
    view.add_argument(
        "paths", metavar="PATH", type=Path, nargs="*",
        help="with a RUN: files of scans, or folders of them, in place of a split",
    )  # fmt: skip

    scans = view.add_argument_group("which scans")
    scans.add_argument(
        "--split",
        help="default: the split of the run, predictions or file; all scans of propagated labels",
    )
    scans.add_argument(
        "--scan", metavar="ID", nargs="+", default=[], help="only these scans, e.g. 08/000123"
    )
    scans.add_argument(
        "--count", metavar="N", type=int, help="number of scans at most (default: all, in a GIF 50)"
    )
    scans.add_argument(
        "--predictions", metavar="DIR", type=Path,
        help="with a CONFIG: a folder of predictions in the benchmark's format",
    )  # fmt: skip
    scans.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
        help="with a CONFIG: change a setting, e.g. --set dataset.root=DIR",
    )  # fmt: skip
    scans.add_argument(
        "--layout", nargs="+", metavar="KEY=VALUE", default=[],
        help="with PATH: what the files hold, as for predict",
    )  # fmt: skip

    looks = view.add_argument_group("how they look")
    looks.add_argument(
        "--mode",
        help="truth, prediction, error, intensity, range, confidence, coverage (by "
        "pseudo-labels), propagated or propagated_error (labels carried along the poses); "
        "default: prediction if there is one, else propagated, else truth",
    )
    looks.add_argument(
        "--side-by-side", action="store_true",
        help="truth beside prediction, or beside propagated labels",
    )  # fmt: skip
    looks.add_argument("--panel", action="store_true", help="strips of range images, with --save")
    looks.add_argument("--hide-ignored", action="store_true", help="hide points of ignored classes")
    looks.add_argument("--point-size", type=float, default=2.0, help="pixels (%(default)s)")
    looks.add_argument(
        "--min-confidence", metavar="P", type=float, default=0.9,
        help="least confidence of a pseudo-label, for the mode coverage (%(default)s)",
    )  # fmt: skip

    files = view.add_argument_group("pictures instead of a window; no display is needed")
    kind = files.add_mutually_exclusive_group()
    kind.add_argument(
        "--save", metavar="PNG|DIR", type=Path,
        help="a picture of the first scan, or a folder with one picture per scan",
    )  # fmt: skip
    kind.add_argument("--video", metavar="GIF", type=Path, help="scans as an animation")

    batches = view.add_argument_group("a training batch of a RUN, or of a CONFIG and a method")
    batches.add_argument(
        "--batch", action="store_true",
        help="the student's images, the source of their pixels, its targets; with --save",
    )  # fmt: skip
    batches.add_argument("--method", help="as for train, with a CONFIG")
    batches.add_argument(
        "--labels", metavar="RATIO|FILE", help="as for train, with a CONFIG (default: 10%%)"
    )
    batches.add_argument("--seed", type=int, help="as for train, with a CONFIG (default: 0)")
    add_device(view)


def _view(arguments: argparse.Namespace) -> int:
    _refuse_idle(arguments)
    from rangeseg.commands.options import parse_layout
    from rangeseg.viewer.view import ViewRequest, view_batch, view_scans

    say = partial(print, flush=True)  # a window's lines are read while it is open
    request = ViewRequest(
        target=arguments.target,
        paths=arguments.paths,
        layout=parse_layout(arguments.layout),
        overrides=arguments.overrides,
        predictions=arguments.predictions,
        split=arguments.split,
        scans=arguments.scan,
        count=arguments.count,
        mode=arguments.mode,
        side_by_side=arguments.side_by_side,
        hide_ignored=arguments.hide_ignored,
        point_size=arguments.point_size,
        min_confidence=arguments.min_confidence,
        device=arguments.device,
        save=arguments.save,
        video=arguments.video,
    )
    if arguments.batch:
        view_batch(request, arguments.method, arguments.labels, arguments.seed, say)
    else:
        view_scans(request, arguments.panel, say)
    return 0


def _refuse_idle(arguments: argparse.Namespace) -> None:
    """Refuse options without effect: a wrong picture is worse than none."""
    looks = ("mode", "side_by_side", "hide_ignored")
    if arguments.batch:
        names = ["split", "scan", "count", "predictions", "layout", "panel", *looks]
        idle = dict.fromkeys(names, "is for scans: a batch is always shown whole")
    else:
        idle = dict.fromkeys(["method", "labels", "seed"], "goes with --batch")
        if arguments.panel:
            idle |= dict.fromkeys(looks, "is for points: strips show truth and errors at once")
    if arguments.batch and arguments.paths:
        raise ConfigError("--batch is of the run's own data: leave PATH out")
    if arguments.layout and not arguments.paths:
        idle["layout"] = "is for files of scans: name them behind the run"
    for name, why in idle.items():
        value = getattr(arguments, name)
        if value is not None and value is not False and value != []:  # --seed 0 is given
            raise ConfigError(f"--{name.replace('_', '-')} {why}")
