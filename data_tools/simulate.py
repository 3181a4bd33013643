"""``rangeseg-data simulate``: make a simulated data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import ConfigError

SIMULATION_OPTIONS = {
    "seed": "another seed, other streets",
    "train-scans": "scans of the train split",
    "val-scans": "scans of the val split",
    "test-scans": "scans of the test split",
    "beams": "lasers of the sensor; the image has range_image.height rows",
    "columns": "firings in one turn; the image is range_image.width wide",
}


def add(commands: Commands) -> None:
    """Add the command."""
    simulate = add_command(
        commands, "simulate", run,
        summary="make a simulated data set in SemanticKITTI's layout",
        example="rangeseg-data simulate data/simulated --train-scans 200 --workers 2",
    )  # fmt: skip
    simulate.add_argument("root", metavar="ROOT", type=Path, help="the folder that is made")
    for option, text in SIMULATION_OPTIONS.items():
        simulate.add_argument(f"--{option}", type=int, metavar="N", help=text)
    simulate.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    """Make a simulated data set."""
    from pydantic import ValidationError

    from rangeseg.simulation.generate import SimulationSettings, generate_dataset

    given = {
        option.replace("-", "_"): value
        for option in SIMULATION_OPTIONS
        if (value := getattr(arguments, option.replace("-", "_"))) is not None
    }
    try:
        settings = SimulationSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise ConfigError(f"{option} {first['input']}: {first['msg']}") from None
    generate_dataset(arguments.root, settings, arguments.workers)
    print(f"{arguments.root}: simulated data set written")
    return 0
