"""The index of a packed data set: the place of each scan in the file, and its metadata.

The file is MAGIC, the scans from ``codec``, the index as JSON, and FOOTER. The footer holds the
index's offset, length and SHA-256, and MAGIC again. The index holds the CRC-32 of every scan, so
damage anywhere is found.
"""

from __future__ import annotations

import hashlib
import struct
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints, ValidationError

from rangeseg.datasets.formats.files import MOST_POINTS, reason
from rangeseg.errors import ConfigError, DataError
from rangeseg.geometry.sensor import Sensor
from rangeseg.settings import Below, Settings

MAGIC = b"rangeseg pack 3\n"
FOOTER = struct.Struct("<QQ32s16s")

Size = Annotated[int, Field(ge=0, le=1 << 50)]
Name = Annotated[str, StringConstraints(pattern=r"\A\w+\z")]  # files are named by it


_Number = Annotated[float, Field(allow_inf_nan=False)]


class PackedScan(NamedTuple):
    """One scan of a pack.

    Attributes:
        scan_id: id in the data set.
        prediction: path of its prediction for the benchmark.
        start: offset in the file.
        size: in bytes.
        points: number of points.
        checksum: CRC-32 of the bytes.
        labelled: whether it has labels.
        needs_labels: whether missing labels are a fault.
        pose: the LiDAR's pose, the first three rows of the matrix, row by row; None if unknown.
        time: time in seconds, None if unknown.
    """

    scan_id: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    prediction: Below
    start: Size
    size: Size
    points: Annotated[int, Field(ge=1, le=MOST_POINTS)]
    checksum: Size
    labelled: bool
    needs_labels: bool
    pose: tuple[_Number, ...] | None
    time: _Number | None


class PackedSplit(Settings):
    """All sequences of a split, packed or not, and its ``submission_files``."""

    sequences: tuple[str, ...]
    submission: dict[Below, str]


class PackIndex(Settings):
    """The content of a pack.

    Attributes:
        dataset: the packed data set, a key of DATASETS.
        name: name in its info.
        meaning: see ``source.meaning``.
        sensor: sensor of the folder, where it differs from the data set class's.
        splits: splits by name.
        sequences: name -> scans in the order of time.
    """

    dataset: str
    name: Name
    meaning: dict[str, str]
    sensor: Sensor | None
    splits: dict[str, PackedSplit]
    sequences: dict[str, tuple[PackedScan, ...]]

    @cached_property
    def scans(self) -> dict[str, PackedScan]:
        """All scans by their id."""
        return {scan.scan_id: scan for scans in self.sequences.values() for scan in scans}


def read_index(path: Path) -> PackIndex:
    """The index of a pack.

    Raises:
        DataError: the file cannot be read, is damaged, or is no pack.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
            size = file.seek(0, 2)
            if magic != MAGIC:
                raise DataError(
                    f"{path} is neither a folder nor a file from this version's `rangeseg-data "
                    "pack`: give the root of the data, or pack them"
                )
            end = max(len(MAGIC), size - FOOTER.size)
            file.seek(end)
            footer = file.read(FOOTER.size)
            if len(footer) != FOOTER.size or footer[-len(MAGIC) :] != MAGIC:
                raise _damaged(path, "its end is missing", "truncated")
            start, length, digest, _ = FOOTER.unpack(footer)
            if not len(MAGIC) <= start <= end == start + length:
                raise _damaged(path, "its index is not where it should be")
            file.seek(start)
            text = file.read(length)
    except OSError as error:
        raise DataError(f"{path} {reason(error)}") from None
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "the checksum of its index is wrong")
    try:
        index = PackIndex.model_validate_json(text)
    except (ValidationError, ConfigError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise _damaged(path, f"its index: {what}") from None
    if any(scan.start + scan.size > start for scan in index.scans.values()):
        raise _damaged(path, "a scan ends after the last one")
    return index


def _damaged(path: Path, what: str, kind: Literal["truncated", "other"] = "other") -> DataError:
    return DataError(f"{path} is damaged ({what}): copy it again, or pack the data again", kind)
