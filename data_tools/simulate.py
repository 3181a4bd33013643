"""``rangeseg-data simulate``: generate a simulated data set."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import from_options

SIMULATION_OPTIONS = {
    "format": "of the files: kitti, or nuscenes with its HDL-32E and 2 key frames a second "
    "(default: kitti)",
    "seed": "another seed, other streets",
    "train-scans": "scans of the train split",
    "val-scans": "scans of the val split",
    "test-scans": "scans of the test split",
    "beams": "lasers of the sensor; the image has range_image.height rows",
    "columns": "firings in one turn; the image is range_image.width wide",
    "spacing": "metres driven between two scans; a car at 10 scans a second: 1.5 (default: 9 to "
    "14; nuscenes: 5)",
}


def add(commands: Commands) -> None:
    """Add the command."""
    simulate = add_command(
        commands, "simulate", run,
        summary="generate a simulated data set in SemanticKITTI's layout or nuScenes' format",
        example="rangeseg-data simulate data/simulated --train-scans 200 --workers 2\n"
        "  rangeseg-data simulate data/nuscenes_sim --format nuscenes",
    )  # fmt: skip
    simulate.add_argument(
        "root", metavar="ROOT", type=Path, help="output folder; run again to complete it"
    )
    for option, text in SIMULATION_OPTIONS.items():
        kind = {"format": str, "spacing": float}.get(option, int)
        metavar = "NAME" if option == "format" else "N"
        simulate.add_argument(f"--{option}", type=kind, metavar=metavar, help=text)
    simulate.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    """Generate a simulated data set; without options, complete an interrupted one."""
    from rangeseg.simulation.generate import SimulationSettings, generate_dataset, read_stamp

    root = arguments.root
    given = {name: getattr(arguments, name) for name in SimulationSettings.model_fields}
    settings = from_options(SimulationSettings, given)
    if all(value is None for value in given.values()) and (stamp := read_stamp(root)):
        settings = stamp.settings
    generate_dataset(root, settings, arguments.workers)
    print(f"{root}: simulated data set written")
    if settings.format == "nuscenes":
        print(f"next: rangeseg-data index nuscenes {shlex.quote(str(root))}")
    return 0
