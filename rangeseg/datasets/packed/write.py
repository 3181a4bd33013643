"""Pack a data set into one file."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.packed.codec import encode_scan
from rangeseg.datasets.packed.index import FOOTER, MAGIC, PackedScan, PackedSplit, PackIndex
from rangeseg.datasets.packed.source import meaning
from rangeseg.errors import ConfigError, DataError
from rangeseg.system.files import writable, writing
from rangeseg.system.progress import Progress


@dataclass
class Packing:
    """A summary of the packed data.

    Attributes:
        splits: names of the splits.
        sequences: sequence -> ids of its scans.
        left_out: missing sequences and the reason, a line per split.
        labelled: number of scans with labels.
        points: points of all scans.
        raw_bytes: size of their files.
        packed_bytes: size of the pack.
        sha256: checksum of the pack, hexadecimal.
    """

    splits: dict[str, PackedSplit] = field(default_factory=dict)
    sequences: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    labelled: int = 0
    points: int = 0
    raw_bytes: int = 0
    packed_bytes: int = 0
    sha256: str = ""

    @property
    def scans(self) -> int:
        """Number of scans."""
        return sum(map(len, self.sequences.values()))


def pack_dataset(
    source: FileSource, name: str, path: Path, splits: Sequence[str] | None = None
) -> Packing:
    """Write a data set into one file, atomically.

    Missing sequences are left out if their split has others.

    Args:
        source: the data set.
        name: its key in DATASETS.
        path: path of the file; folders are created.
        splits: names; None packs all that exist.

    Raises:
        ConfigError: no such split, or the file exists or cannot be written.
        DataError: there is nothing to pack, or a scan cannot be read.
    """
    if path.exists():
        raise ConfigError(f"{path} exists and is not overwritten: choose another --out")
    packing = _plan(source, splits)
    with writable(path, "make room, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            _write(_Counted(file), source, name, packing)
    return packing


def _plan(source: FileSource, splits: Sequence[str] | None) -> Packing:
    """List the sequences to pack and the missing ones."""
    packing = Packing()
    for split in dict.fromkeys(splits or source.splits):
        try:
            sequences = source.sequences(split)
        except DataError as error:
            if error.kind != "missing" or splits is not None:
                raise
            packing.left_out.append(f"the split {split}: {error}")
            continue
        missing = []
        for sequence in sequences:
            try:
                packing.sequences[sequence] = source.sequence_ids(sequence)
            except DataError as error:
                if error.kind != "missing":
                    raise
                missing.append(str(error))
        none_there = len(missing) == len(sequences)
        if none_there and splits is not None:
            why = missing[0] if missing else "it has none"
            raise DataError(f"no sequence of the split {split} is there: {why}", "missing")
        if missing:
            packing.left_out.append(
                f"{len(missing)} of {len(sequences)} sequences of the split {split}: {missing[0]}"
            )
        if none_there:
            continue
        packing.splits[split] = PackedSplit(
            sequences=sequences, submission=source.submission_files(split)
        )
    if not packing.sequences:
        why = packing.left_out[0] if packing.left_out else "it has no sequence"
        raise DataError(f"there is nothing to pack in {source.root}: {why}", "missing")
    return packing


class _Counted:
    """A file that tracks its length and digest."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self.sha256 = file, 0, hashlib.sha256()

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self.sha256.update(content)
        self.size += len(content)


def _write(file: _Counted, source: FileSource, name: str, packing: Packing) -> None:
    """Write all scans and the index, and count them."""
    split_of = {s: split for split, found in packing.splits.items() for s in found.sequences}
    file.write(MAGIC)
    packed: dict[str, tuple[PackedScan, ...]] = {}
    with Progress(f"packing {source.info.name}", packing.scans, "scans") as progress:
        for sequence, scan_ids in packing.sequences.items():
            entries = []
            poses, times = _poses(source, sequence, packing), source.times(sequence)
            for scan_id in scan_ids:
                entry = _write_scan(file, source, scan_id, split_of[sequence], packing)
                pose = poses.get(scan_id)
                entries.append(entry._replace(pose=pose, time=times.get(scan_id)))
                progress.update()
            packed[sequence] = tuple(entries)
    # Store only a folder's own sensor; the sensor of `custom` is in its description.
    general = getattr(type(source), "info", source.info)
    sensor = None if source.info.sensor == general.sensor else source.info.sensor
    index = PackIndex(
        dataset=name, name=source.info.name, meaning=meaning(source),
        sensor=sensor, splits=packing.splits, sequences=packed,
    )  # fmt: skip
    text = index.model_dump_json().encode()
    digest = hashlib.sha256(text).digest()
    footer = FOOTER.pack(file.size, len(text), digest, MAGIC)
    file.write(text + footer)
    packing.packed_bytes, packing.sha256 = file.size, file.sha256.hexdigest()


def _poses(source: FileSource, sequence: str, packing: Packing) -> dict[str, tuple[float, ...]]:
    """The finite poses of a sequence, in rows; missing poses are noted only if damaged."""
    try:
        poses = source.poses(sequence)
    except DataError as error:
        if error.kind != "missing":
            packing.left_out.append(f"the poses of sequence {sequence}: {error}")
        return {}
    rows = {i: tuple(pose[:3].ravel().tolist()) for i, pose in poses.items()}
    return {i: row for i, row in rows.items() if all(map(math.isfinite, row))}


def _write_scan(
    file: _Counted, source: FileSource, scan_id: str, split: str, packing: Packing
) -> PackedScan:
    labelled, needed = source.has_labels(scan_id), source.needs_labels(scan_id)
    scan = source.read_scan(scan_id, labelled)
    points_path, label_path = source.paths(scan_id)
    packing.raw_bytes += points_path.stat().st_size
    if labelled and label_path is not None:
        packing.raw_bytes += label_path.stat().st_size
    content = encode_scan(scan)
    entry = PackedScan(
        scan_id, source.prediction_file(scan_id, split), file.size, len(content),
        len(scan.points), zlib.crc32(content), labelled, needed, None, None,
    )  # fmt: skip
    file.write(content)
    packing.labelled += labelled
    packing.points += len(scan.points)
    return entry
