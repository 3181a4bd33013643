"""``rangeseg export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command


def add_export(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    export = add_command(
        commands, "export", _export,
        "write the network of a run as one ONNX file, checked against PyTorch",
        "rangeseg export runs/semantic_kitti/cps/10pct/seed0 --out net.onnx",
    )  # fmt: skip
    export.add_argument("run_folder", metavar="RUN", type=Path, help="the folder of a run")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="must not exist")
    export.add_argument(
        "--half", action="store_true",
        help="weights and activations in float16, input and output in float32: half the size, and "
        "faster on a GPU",
    )  # fmt: skip


def _export(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.export import export_run

    agreement = export_run(arguments.run_folder, arguments.out, arguments.half)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; {agreement}")
    return 0
