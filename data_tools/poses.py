"""``rangeseg-data poses``: estimate the LiDAR's poses from its scans."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.commands.options import from_options
from rangeseg.errors import DataError

if TYPE_CHECKING:
    from rangeseg.datasets.base import ScanSource
    from rangeseg.motion.odometry import Drive


def add(commands: Commands) -> None:
    """Add the command."""
    poses = add_command(
        commands, "poses", run,
        summary="estimate the LiDAR's poses from its scans, for data without poses (KISS-ICP)",
        example="rangeseg-data poses semantic_kitti data/semantic_kitti --out poses\n"
        "  rangeseg-data propagate semantic_kitti data/semantic_kitti --labels 1% --poses poses "
        "--out propagated",
    )  # fmt: skip
    add_source(poses)
    poses.add_argument(
        "--out", metavar="DIR", type=Path, required=True,
        help="output folder, one SEQUENCE.txt each; the same call completes an interrupted one",
    )  # fmt: skip
    which = poses.add_mutually_exclusive_group()
    which.add_argument(
        "--split", nargs="+", metavar="NAME", help="only these splits (default: all that exist)"
    )
    which.add_argument("--sequences", nargs="+", metavar="NAME", help="only these sequences")
    poses.add_argument(
        "--voxel-size", type=float, metavar="M",
        help="metres between the points of the map; smaller is slower (default: 0.75)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Estimate poses, and print how reliable they are."""
    from rangeseg.motion.kiss import NEAR_M
    from rangeseg.motion.odometry import (
        JUMP_M,
        JUMP_SHARE,
        LEAST_OVERLAP,
        OdometrySettings,
        estimate_poses,
    )
    from rangeseg.report.tables import markdown_table

    settings = from_options(OdometrySettings, {"voxel_size": arguments.voxel_size})
    source = open_source(arguments)
    sequences, left_out = _sequences(source, arguments.split, arguments.sequences)
    drives = estimate_poses(source, sequences, arguments.out, settings)
    if done := len(sequences) - len(drives):
        print(f"{arguments.out}: {done} of {len(sequences)} sequences were there already")
    if drives:
        header = ["sequence", "scans", "metres", "jumps", "largest change", "least overlap"]
        print(markdown_table(header, [_row(drive) for drive in drives]))
        print(
            "change: metres a frame by which a step differs from the one before; a jump is more "
            f"than {JUMP_M:g} m and {JUMP_SHARE:.0%} of the step\n"
            f"overlap: share of a scan's points within {NEAR_M:g} m of the scan before; below "
            f"{LEAST_OVERLAP:.0%} the pose is unsure"
        )
    for line in left_out:
        print(f"left out: {line}")
    return 0


def _sequences(
    source: ScanSource, splits: list[str] | None, names: list[str] | None
) -> tuple[list[str], list[str]]:
    """List the sequences to process, and why others are left out."""
    if names is not None:
        return list(dict.fromkeys(names)), []
    found: dict[str, None] = {}
    left_out: list[str] = []
    for split in splits or source.splits:
        missing: list[DataError] = []
        try:
            wanted = source.sequences(split)
        except DataError as error:
            wanted, missing = (), [error]
        for sequence in wanted:
            try:
                source.sequence_ids(sequence)
                found[sequence] = None
            except DataError as error:
                missing.append(error)
        for fault in missing:
            if fault.kind != "missing" or (splits is not None and len(missing) >= len(wanted)):
                raise fault
        if missing:
            many = f"{len(missing)} of {len(wanted)} sequences of the split {split}"
            left_out.append(
                f"{many}: {missing[0]}" if wanted else f"the split {split}: {missing[0]}"
            )
    if not found:
        raise DataError(left_out[0] if left_out else f"{source.root} has no sequence", "missing")
    return list(found), left_out


def _row(drive: Drive) -> list[str]:
    import numpy as np

    change, jumps = drive.changes()
    largest = least = "–"
    if np.isfinite(change).any():
        worst = int(np.nanargmax(change))
        largest = f"{change[worst]:.2f} m at {drive.scan_ids[worst]}"
    if np.isfinite(drive.overlap).any():
        worst = int(np.nanargmin(drive.overlap))
        least = f"{drive.overlap[worst]:.0%} at {drive.scan_ids[worst]}"
    scans, metres = str(len(drive.scan_ids)), f"{drive.metres():.0f}"
    return [drive.sequence, scans, metres, str(jumps.sum()), largest, least]
