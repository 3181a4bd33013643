"""``rangeseg score``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rangeseg.commands.base import (
    Commands,
    add_command,
    add_config,
    add_on_bad_scan,
    add_picture,
)


def add_score(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    score = add_command(
        commands, "score", _score,
        "score label files that any program wrote, as `evaluate` scores a run",
        "rangeseg score configs/semantic_kitti.yaml predictions --split val",
    )  # fmt: skip
    add_config(score)
    score.add_argument(
        "predictions", metavar="PREDICTIONS", type=Path,
        help="a folder in the layout of the benchmark or of the data set's label files, or with "
        "the files of a split beside each other",
    )  # fmt: skip
    score.add_argument("--split", help="default: evaluate.split of the configuration")
    score.add_argument(
        "--json", action="store_true", help="print the figures as JSON instead of a table"
    )
    add_picture(score)
    add_on_bad_scan(score)


def _score(arguments: argparse.Namespace) -> int:
    from rangeseg.commands.evaluate import print_figures, save_picture
    from rangeseg.engine.scoring import score
    from rangeseg.report.tables import check_report_files
    from rangeseg.runs.config import load_config
    from rangeseg.runs.experiment import Experiment

    check_report_files([arguments.picture])
    experiment = Experiment(load_config(arguments.config, arguments.overrides))
    config, source = experiment.config, experiment.source
    source.check_root()
    policy = arguments.on_bad_scan or config.dataset.on_bad_scan
    split = arguments.split or config.evaluate.split
    result = score(source, arguments.predictions, split, policy, config.evaluate.threads)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_figures(result)
        if withheld := result["withheld_points"]:
            missed = "points have a class but an ignored id as prediction: they are missed"
            print(f"{withheld:,} {missed}")
    save_picture(arguments.picture, str(arguments.predictions), result)
    return 0
