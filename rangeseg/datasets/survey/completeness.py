"""Find missing scans of a published data set, or gaps in the frame numbers of others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

from rangeseg.datasets.base import Official, ScanSource
from rangeseg.errors import DataError
from rangeseg.system.progress import Progress

log = logging.getLogger(__name__)

BENCHMARK_SPLIT = "test"
"""The split whose predictions a benchmark's server accepts."""

_SHOWN = 3  # sequences, or scans


class Listed(Protocol):
    """The scans of one sequence of a split, as listed by a check."""

    split: str
    name: str
    scan_ids: list[str]


@dataclass(frozen=True)
class Completeness:
    """The scans of a split compared with the published data set.

    Attributes:
        split: name of the split.
        present: sequence -> ids of its scans; empty if missing.
        official: published contents.
    """

    split: str
    present: Mapping[str, Sequence[str]]
    official: Official

    @property
    def scans(self) -> int:
        """Number of present scans."""
        return sum(map(len, self.present.values()))

    @property
    def sequences(self) -> int:
        """Number of sequences with scans."""
        return sum(map(bool, self.present.values()))

    @property
    def complete(self) -> bool:
        """Whether the scans are exactly the published ones."""
        counts = (self.sequences, self.scans) == self.official[:2]
        return counts and not self.missing and not self.strangers

    @cached_property
    def missing(self) -> dict[str, list[str]]:
        """Sequence -> ids of its missing scans, where the published ids are known."""
        there = {scan_id for ids in self.present.values() for scan_id in ids}
        missing: dict[str, list[str]] = {}
        for scan_id in self.official.scan_ids:
            if scan_id not in there:
                missing.setdefault(scan_id.partition("/")[0], []).append(scan_id)
        return missing

    @cached_property
    def strangers(self) -> list[str]:
        """Ids of scans that were not published."""
        if not self.official.scan_ids:
            return []
        known = set(self.official.scan_ids)
        return [i for ids in self.present.values() for i in ids if i not in known]

    def difference(self) -> str:
        """Describe present and total numbers, and name missing scans."""
        said = (
            f"{self.scans:,} of {self.official.scans:,} scans, "
            f"{self.sequences} of {self.official.sequences} sequences"
        )
        missing = self.missing
        named = [self._gap(sequence, missing[sequence]) for sequence in list(missing)[:_SHOWN]]
        if len(missing) > _SHOWN:
            named.append(f"and scans of {len(missing) - _SHOWN} more sequences")
        said += f"; missing: {', '.join(named)}" if named else ""
        if strangers := self.strangers:
            more = ", ..." if len(strangers) > _SHOWN else ""
            said += f"; not published: {', '.join(strangers[:_SHOWN])}{more}"
        return said

    def document(self) -> dict[str, Any]:
        """The same for JSON, with the first missing scan of each sequence."""
        return {
            "split": self.split,
            "complete": self.complete,
            "scans": self.scans,
            "official_scans": self.official.scans,
            "sequences": self.sequences,
            "official_sequences": self.official.sequences,
            "missing": [
                {"sequence": sequence, "scans": len(ids), "first": ids[0]}
                for sequence, ids in self.missing.items()
            ],
            "not_published": self.strangers,
        }

    def _gap(self, sequence: str, missing: Sequence[str]) -> str:
        if not self.present.get(sequence):
            return f"sequence {sequence}"
        more = f" and {len(missing) - 1:,} more of {sequence}" if missing[1:] else ""
        return missing[0] + more


def completeness(source: ScanSource, parts: Iterable[Listed]) -> list[Completeness]:
    """Compare each split of a check with the published data set; empty for own data."""
    splits: dict[str, dict[str, list[str]]] = {}
    for part in parts:
        splits.setdefault(part.split, {})[part.name] = part.scan_ids
    return [
        Completeness(split, present, official)
        for split, present in splits.items()
        if split in source.splits and (official := source.official(split)) is not None
    ]


def completeness_lines(source: ScanSource, parts: Iterable[Listed]) -> Iterator[str]:
    """Describe splits that differ from the published ones, without wholly missing ones."""
    for found in completeness(source, parts):
        if found.scans and not found.complete:
            what = "partial" if found.scans < found.official.scans else "not as published"
            so = "training works with it, but figures do not compare with published ones"
            if found.split == BENCHMARK_SPLIT:
                so = "the benchmark's server takes predictions of the whole split alone"
            yield f"the split {found.split} is {what}: {found.difference()}: {so}"


def gap_note(source: ScanSource, part: Listed) -> str | None:
    """Describe skipped frame numbers of a sequence in unpublished data; else None."""
    if part.split not in source.splits or source.official(part.split) is not None:
        return None
    return gap_line(part.name, part.scan_ids)


def gap_line(sequence: str, scan_ids: Sequence[str]) -> str | None:
    """Describe the skipped frame numbers of a sequence; None without gaps or numbering.

    Frames are numbered if their names are whole numbers, mostly consecutive. Times and every tenth
    scan of a recording have no gaps.
    """
    frames = [scan_id.partition("/")[2] for scan_id in scan_ids]
    if not all(frame.isascii() and frame.isdigit() for frame in frames):
        return None
    numbers = sorted(map(int, frames))
    steps = [after - before for before, after in pairwise(numbers)]
    skipped = sum(step - 1 for step in steps if step > 1)
    if not skipped or 2 * steps.count(1) <= len(steps):
        return None
    before = next(number for number, step in zip(numbers, steps, strict=False) if step > 1)
    name = str(before + 1).zfill(len(frames[0]))
    return (
        f"sequence {sequence} skips {skipped:,} frame numbers, the first is {name}: copy the scans "
        "again if they should be there"
    )


def present_scans(source: ScanSource, split: str) -> dict[str, list[str]]:
    """Sequence -> ids of its scans; empty for a missing sequence.

    Raises:
        ConfigError: no such split.
        DataError: the split cannot be listed.
    """
    present: dict[str, list[str]] = {}
    for sequence in source.sequences(split):
        present[sequence] = []
        try:
            present[sequence] = source.sequence_ids(sequence)
        except DataError as error:
            if error.kind != "missing":
                raise
    return present


def check_submission(source: ScanSource, split: str) -> None:
    """Check before prediction that a benchmark's server would accept the split.

    No server accepts other splits, which is logged.

    Raises:
        ConfigError: no such split.
        DataError: scans of the benchmark's split are missing or damaged, by the size of the file.
    """
    official = source.official(split)
    if official is None or split != BENCHMARK_SPLIT:
        log.warning(
            "no benchmark's server accepts the split %s of %s; it is packed all the same",
            split, source.info.name,
        )  # fmt: skip
        return
    found = Completeness(split, present_scans(source, split), official)
    if not found.complete:
        raise DataError(
            f"the split {split} of {source.root} is not complete, and the benchmark's server "
            f"would refuse it: {found.difference()}: copy missing scans there, or predict and pack "
            "the others with --anyway",
            kind="missing",
        )
    _check_files(source, found)


def _check_files(source: ScanSource, found: Completeness) -> None:
    faults: list[str] = []
    with Progress(f"checking {found.split}", found.scans, "scans") as progress:
        for scan_id in (i for ids in found.present.values() for i in ids):
            try:
                source.check_files(scan_id, with_labels=False)
            except DataError as error:
                faults.append(str(error))
            progress.update()
    if faults:
        raise DataError(
            f"{len(faults)} of {found.scans:,} scans of the split {found.split} cannot be read, "
            f"and the benchmark's server wants all: {faults[0]}"
        )
