"""``rangeseg-data import``: convert bags and foreign files to a folder of scans."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import parse_layout
from rangeseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rangeseg.datasets.importing.write import Imported, Job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "import", run,
        summary="write ROS bags, .mcap recordings and files of scans into a folder of sequences",
        example="rangeseg-data import drive1.bag drive2.mcap --out data/mine\n"
        "  rangeseg-data import bags/ros2_drive --topic /lidar/points --every 5 --out data/mine\n\n"
        "Each source becomes a sequence with points, ring, times, and the LiDAR's poses\n"
        "where tf or odometry holds them. The same call completes an interrupted import.\n"
        "At the end it prints the next command, which describes the folder.",
    )  # fmt: skip
    parser.add_argument(
        "sources", metavar="SOURCE", type=Path, nargs="+",
        help="a ROS 1 bag, a ROS 2 bag (its folder, .db3, .mcap), a file or folder of scans "
        "(.pcd, .ply, .las, .npy, .bin), or a folder of these",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="ROOT", type=Path, required=True,
        help="output folder; each source is written to ROOT/sequences/NAME",
    )  # fmt: skip
    parser.add_argument(
        "--topic", metavar="T", help="topic to read from bags with several topics of points"
    )
    parser.add_argument(
        "--every", metavar="N", type=int, default=1, help="keep each N-th scan only (default: 1)"
    )
    parser.add_argument(
        "--layout", nargs="+", metavar="KEY=VALUE", default=[],
        help="content of the source where its names do not tell, e.g. fields=intensity:signal, or "
        "columns=5 of raw files; the keys of dataset.description.layout",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Import all sources, and print a summary and the next command."""
    from rangeseg.datasets.importing.sources import find_recordings
    from rangeseg.datasets.importing.write import import_recording, plan_import
    from rangeseg.system.files import sole_user

    root, every = arguments.out, arguments.every
    if every < 1:
        raise ConfigError(f"--every {every}: keep at least each first scan")
    layout = parse_layout(arguments.layout)
    recordings = find_recordings(arguments.sources, arguments.topic, layout)
    jobs = plan_import(root, recordings, every, layout)
    faults = []
    with sole_user(root, "imports"):
        for job in jobs:
            if job.done:
                print(f"{job.folder}: was complete already")
                continue
            imported = import_recording(job, every)
            _print(job, imported)
            faults += [imported.fault] if imported.fault else []
    print(f"next: {_next_command(root, jobs[0].columns.names)}")
    if faults:
        more = f" (and {len(faults) - 1} more sources)" if faults[1:] else ""
        raise DataError(f"{faults[0]}; what could be read is kept{more}", "truncated")
    return 0


def _print(job: Job, imported: Imported) -> None:
    frames, recording = imported.frames, job.recording
    there = f", {imported.kept} of them there already" if imported.kept else ""
    labelled = f", {imported.labelled} with labels" if imported.labelled else ""
    print(f"{job.folder}: {frames} scans of {recording.described}{there}{labelled}")
    columns = job.columns
    print(f"  columns: {' '.join(columns.names)}")
    if columns.unused:
        print(f"  fields left out: {', '.join(columns.unused)}")
    if "intensity" not in columns.roles:
        print(
            "  intensity: no such field, written as 0 (or name it: --layout fields=intensity:NAME)"
        )
    hint = "; `rangeseg-data poses` estimates them" if imported.poses.startswith("none") else ""
    print(f"  poses: {imported.poses}{hint}")
    if imported.empty:
        print(f"  left out: {imported.empty} {recording.unit} without a point")
    if imported.late:
        print(f"  order: {imported.late} scans are older than the one before: look at times.txt")


def _next_command(root: Path, columns: tuple[str, ...]) -> str:
    layout = f"columns={len(columns)}"
    for role in ("ring", "time"):
        if role in columns:
            layout += f" {role}_column={columns.index(role)}"
    return f"rangeseg-data stats custom {shlex.quote(str(root))} --layout {layout} > mine.yaml"
