"""The table "Eight labelled crops a step" of ``rangeseg/methods/README.md``, in one command.

    python -m tests.benchmarks.eight_crops [--jobs N] [--csv FILE] [--set KEY=VALUE]

It generates the three simulated data sets below ``data/`` and trains and evaluates the runs that
are missing below ``runs/eight_crops/``, one per core or GPU at a time. It can be stopped and called
again. All 88 runs take about 22 hours on one core with AVX-512 bf16.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from data_tools.cli import main as rangeseg_data
from rangeseg.commands.base import interrupted_code
from rangeseg.commands.report import print_report
from rangeseg.datasets.splits import parse_labels
from rangeseg.runs.config import load_config
from rangeseg.runs.folder import run_folder
from rangeseg.runs.jobs import PlannedRun, find_places, raise_failed, train_missing
from rangeseg.runs.plan import plan_run
from rangeseg.runs.trained import read_result
from rangeseg.system.process import Interrupted

CONFIG = Path(__file__).parents[2] / "configs" / "simulated.yaml"
OUT = Path("runs/eight_crops")
PROPAGATION = (
    "train.propagation.reach=2", "train.propagation.share=null",
    "train.propagation.min_confidence=.5",
)  # fmt: skip


class Data(NamedTuple):
    """A data set, the settings that name it, its split with labels and the commands for it."""

    settings: tuple[str, ...]
    split: str
    commands: tuple[tuple[str, ...], ...]


STREET = Data(("dataset.root=data/simulated",), "test", (("simulate", "data/simulated"),))
NUSCENES = Data(
    ("dataset.name=nuscenes", "dataset.root=data/nuscenes_sim"), "test",
    (
        ("simulate", "data/nuscenes_sim", "--format", "nuscenes"),
        ("index", "nuscenes", "data/nuscenes_sim"),
    ),
)  # fmt: skip
SCRIBBLES = Data(
    (
        "dataset.name=scribble_kitti", "dataset.root=data/scribbles",
        "methods.cutmix_seg.partner=unlabelled",  # as in configs/scribble_kitti.yaml
        "range_image.rows=inclination",  # ScribbleKITTI's sensor has 64 beams, the street's 32
    ),
    "val", (("scribble", "semantic_kitti", "data/simulated", "--out", "data/scribbles"),),
)  # fmt: skip


class Group(NamedTuple):
    """Rows of the table: every method with every ratio.

    Attributes:
        seeds: number of seeds of each row.
        propagated: whether labels are propagated.
    """

    labels: tuple[str, ...]
    methods: tuple[str, ...]
    labelled: str
    seeds: int
    propagated: bool = False
    data: Data = STREET


TABLE = (
    Group(("1%", "10%"), ("supervised",), "plain", 3),
    Group(("1%", "10%"), ("supervised",), "strong", 3),
    Group(("1%", "10%"), ("supervised",), "coin", 3),
    Group(("1%", "10%"), ("supervised",), "strong", 3, True),
    Group(("1%",), ("supervised",), "plain", 1, True),
    Group(("1%",), ("cutmix_seg",), "strong", 3, True),
    Group(("10%",), ("cutmix_seg",), "strong", 1, True),
    Group(("1%",), ("cps", "exchange_mix"), "strong", 1, True),
    Group(("10%",), ("cps", "exchange_mix"), "plain", 3, True),
    Group(("1%",), ("cutmix_seg", "cps", "exchange_mix"), "strong", 3),
    Group(("10%",), ("cutmix_seg", "cps", "exchange_mix"), "plain", 3),
    Group(("20%", "50%"), ("supervised", "cutmix_seg", "cps", "exchange_mix"), "plain", 1),
    Group(("20%", "50%"), ("supervised",), "strong", 1),
    Group(("20%", "50%", "100%"), ("supervised",), "coin", 1),
    Group(("100%",), ("supervised",), "plain", 1),
    Group(("100%",), ("supervised",), "strong", 1),
    Group(("10%",), ("supervised", "cutmix_seg"), "plain", 3, data=NUSCENES),
    Group(("10%",), ("supervised",), "strong", 3, data=NUSCENES),
    Group(("10%",), ("supervised", "cutmix_seg"), "plain", 3, data=SCRIBBLES),
    Group(("10%",), ("supervised",), "strong", 3, data=SCRIBBLES),
)


def planned(group: Group, overrides: Sequence[str] = ()) -> Iterator[PlannedRun]:
    """The runs of a group, in folders that are named by their settings."""
    split = group.data.split
    settings = [
        "train.batch_size=8", f"train.labelled={group.labelled}", f"evaluate.split={split}",
        *group.data.settings, *(PROPAGATION if group.propagated else ()), *overrides,
    ]  # fmt: skip
    config = load_config(CONFIG, settings)
    for seed, labels, method in product(range(group.seeds), group.labels, group.methods):
        run = plan_run(config, method, parse_labels(labels), seed)
        folder = OUT / run_folder(run).relative_to("runs")
        words = ["train", str(CONFIG), "--method", method, "--labels", labels]
        words += ["--seed", str(seed), "--out", str(folder), "--resume"]
        words += [word for setting in settings for word in ("--set", setting)]
        title = str(folder.relative_to(OUT))
        yield PlannedRun(title, folder, split, split, run.dataset.root, tuple(words))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one per core or GPU)")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="also write one line per run")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
        help=f"change a setting of all runs; begin where there is no {OUT}",
    )  # fmt: skip
    parser.set_defaults(html=None)
    arguments = parser.parse_args()
    places = find_places("auto", arguments.jobs)
    for data in dict.fromkeys(group.data for group in TABLE):
        for command in data.commands:
            if code := rangeseg_data(list(command)):
                return code
    runs = [run for group in TABLE for run in planned(group, arguments.overrides)]
    try:
        failed = train_missing(runs, places)
    except Interrupted as stop:
        print(f"stopped; {OUT} is saved: the same command goes on", file=sys.stderr)
        return interrupted_code(stop)
    raise_failed(failed, len(runs))
    print_report([read_result(run.result) for run in runs], arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
