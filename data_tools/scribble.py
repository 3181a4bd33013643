"""``rangeseg-data scribble``: draw scribble-like labels from full ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import from_options
from rangeseg.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    scribble = add_command(
        commands, "scribble", run,
        summary="draw scribble-like labels from full ones: not the published ScribbleKITTI",
        example="rangeseg-data scribble semantic_kitti data/semantic_kitti --out data/scribbles "
        "--workers 8\n"
        "  rangeseg train configs/scribble_kitti.yaml --set dataset.root=data/scribbles "
        "--method supervised --labels 10%",
    )  # fmt: skip
    scribble.add_argument(
        "dataset", metavar="DATASET", choices=["semantic_kitti"],
        help="semantic_kitti, fully labelled",
    )  # fmt: skip
    scribble.add_argument("root", metavar="ROOT", type=Path, help="the data's folder; only read")
    scribble.add_argument(
        "--out", metavar="DIR", type=Path, required=True,
        help="root of the new data set scribble_kitti: links to ROOT's scans and labels, and "
        "the drawn scribbles; the same call completes one that was begun",
    )  # fmt: skip
    scribble.add_argument(
        "--fraction", type=float, metavar="SHARE",
        help="share of the labelled points that keep their label (default: 0.08)",
    )  # fmt: skip
    scribble.add_argument("--seed", type=int, metavar="N", help="another seed, other strokes")
    scribble.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="worker processes (default: draw in this process)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Draw scribbles for the training sequences of a data set."""
    from rangeseg.datasets.scribbles import ScribbleSettings, scribble_dataset
    from rangeseg.datasets.semantic_kitti import SemanticKitti

    if arguments.workers < 0:
        raise ConfigError(f"--workers {arguments.workers}: give 0 or the number of processes")
    given = {name: getattr(arguments, name) for name in ScribbleSettings.model_fields}
    settings = from_options(ScribbleSettings, given)
    source = SemanticKitti(arguments.root)
    scans = scribble_dataset(source, arguments.out, settings, arguments.workers)
    print(
        f"{arguments.out}: scribbles of {scans} training scans, drawn from full labels "
        "(not the published ScribbleKITTI)"
    )
    return 0
