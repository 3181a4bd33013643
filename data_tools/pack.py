"""``rangeseg-data pack``: pack a whole data set into one small file."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools.source import add_source, open_source
from rangeseg.commands.base import Commands, add_command
from rangeseg.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    pack = add_command(
        commands, "pack", run,
        summary="write a data set into one small file, for slow disks and for transport",
        example="rangeseg-data pack semantic_kitti data/semantic_kitti --out kitti.pack\n"
        "  rangeseg train configs/semantic_kitti.yaml --set dataset.root=kitti.pack "
        "--method supervised --labels 10%",
    )  # fmt: skip
    add_source(pack)
    pack.add_argument(
        "--out", metavar="FILE", type=Path, required=True,
        help="output file; other commands take it in place of the data's folder",
    )  # fmt: skip
    pack.add_argument(
        "--split", nargs="+", metavar="NAME", help="only these splits (default: all that exist)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Pack a data set and print a summary."""
    from rangeseg.datasets import key_of
    from rangeseg.datasets.file_source import FileSource
    from rangeseg.datasets.packed.codec import COORDINATE_ERROR_M
    from rangeseg.datasets.packed.source import Packed
    from rangeseg.datasets.packed.write import pack_dataset

    source = open_source(arguments)
    if isinstance(source, Packed):
        raise ConfigError(f"{source.root} is packed already: copy it, or pack the original data")
    assert isinstance(source, FileSource)
    packing = pack_dataset(source, key_of(source), arguments.out, arguments.split)
    print(
        f"{arguments.out}: {packing.scans} scans of {len(packing.sequences)} sequences "
        f"({', '.join(packing.splits)}), {packing.labelled} with labels, {packing.points:,} points"
    )
    for line in packing.left_out:
        print(f"left out: {line}")
    print(
        f"size: {packing.packed_bytes:,} bytes, {packing.raw_bytes / packing.packed_bytes:.2f} "
        f"times smaller than the files ({packing.raw_bytes:,} bytes)\n"
        f"error: coordinates at most {1e3 * COORDINATE_ERROR_M:g} mm; intensities, labels and "
        "order are exact\n"
        f"sha256: {packing.sha256}"
    )
    return 0
