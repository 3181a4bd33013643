"""``rangeseg-data simulate``: generate a simulated data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import from_options

SIMULATION_OPTIONS = {
    "seed": "another seed, other streets",
    "train-scans": "scans of the train split",
    "val-scans": "scans of the val split",
    "test-scans": "scans of the test split",
    "beams": "lasers of the sensor; the image has range_image.height rows",
    "columns": "firings in one turn; the image is range_image.width wide",
    "spacing": "metres driven between two scans; a car at 10 scans a second: 1.5 (default: 9 to "
    "14)",
}


def add(commands: Commands) -> None:
    """Add the command."""
    simulate = add_command(
        commands, "simulate", run,
        summary="generate a simulated data set in SemanticKITTI's layout",
        example="rangeseg-data simulate data/simulated --train-scans 200 --workers 2",
    )  # fmt: skip
    simulate.add_argument(
        "root", metavar="ROOT", type=Path, help="its folder; one that was begun is completed"
    )
    for option, text in SIMULATION_OPTIONS.items():
        kind = float if option == "spacing" else int
        simulate.add_argument(f"--{option}", type=kind, metavar="N", help=text)
    simulate.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    """Generate a simulated data set; without options, complete one that was begun."""
    from rangeseg.datasets.simulated import Simulated, ensure_simulated
    from rangeseg.simulation.generate import SimulationSettings, generate_dataset

    given = {name: getattr(arguments, name) for name in SimulationSettings.model_fields}
    if any(value is not None for value in given.values()):
        settings = from_options(SimulationSettings, given)
        generate_dataset(arguments.root, settings, arguments.workers)
    else:
        ensure_simulated(Simulated(arguments.root), arguments.workers)
    print(f"{arguments.root}: simulated data set written")
    return 0
