"""``rangeseg import-weights``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rangeseg.commands.base import Commands, add_command


def add_import_weights(commands: Commands) -> None:
    """Add the command to a parser's subcommands."""
    parser = add_command(
        commands, "import-weights", _import_weights,
        "make a run of a checkpoint that the authors of FIDNet or CENet published",
        "rangeseg import-weights cenet SENet_valid_best --width 512 --out runs/official_cenet\n"
        "  rangeseg evaluate runs/official_cenet",
    )  # fmt: skip
    parser.add_argument("network", choices=("fidnet", "cenet"), help="whose checkpoint it is")
    parser.add_argument(
        "file", metavar="FILE", type=Path,
        help="the authors' file, trained on SemanticKITTI with x, y, z, intensity, range and, "
        "for fidnet, perhaps normals",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="must not exist")
    parser.add_argument(
        "--root", type=Path, default=Path("data/semantic_kitti"),
        help="SemanticKITTI, for `evaluate`; need not be there yet (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=int, metavar="N",
        help="columns of the images it was trained on; cenet: 512, 1024 or 2048 (fidnet: 2048)",
    )  # fmt: skip


def _import_weights(arguments: argparse.Namespace) -> int:
    from rangeseg.runs.import_weights import import_weights

    out = arguments.out
    config = import_weights(arguments.network, arguments.file, out, arguments.root, arguments.width)
    image = config.range_image
    print(
        f"{out}: {arguments.network} for images of {image.height}x{image.width}; "
        f"`rangeseg evaluate {out}` reads {config.dataset.root}"
    )
    return 0
