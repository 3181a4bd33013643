"""Unreadable scans: raise an error, or log, count and skip them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal, NamedTuple

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.errors import DataError
from rangeseg.system.files import writable

OnBadScan = Literal["fail", "skip"]

RECORD = "bad_scans.jsonl"
"""File in the folder of a run: one line per scan that its training skipped."""

_ONE_IN = 100  # scans may be bad

_log = logging.getLogger(__name__)


class BadScan(NamedTuple):
    """A scan that could not be read, and why."""

    scan_id: str
    error: DataError


class BadScans:
    """Skips bad scans and counts them, or raises the first one.

    Up to 1 % of the scans may be skipped (at least one, but not all). Each is logged once. More
    mean a wrong folder or a broken disk, and raise an error.

    Args:
        policy: ``fail`` raises the first one.
        scans: number of scans to process.

    Attributes:
        skipped: scan id -> fault, as far as this process knows.
    """

    def __init__(self, policy: OnBadScan, scans: int) -> None:
        self.policy, self.scans = policy, scans
        self.skipped: dict[str, str] = {}
        self._record: Path | None = None

    @property
    def most(self) -> int:
        """The largest number of scans to skip."""
        return min(max(1, self.scans // _ONE_IN), self.scans - 1)

    def keep_in(self, record: Path) -> None:
        """Keep the skipped scans in a file, for a resumed run and its other processes.

        Raises:
            DataError: it cannot be written.
        """
        self._record = record
        recorded = self._recorded()
        for scan_id in self.skipped.keys() - recorded.keys():
            self._append(scan_id)
        self.skipped |= recorded

    def read(self, source: ScanSource, scan_id: str, with_labels: bool = True) -> Scan | None:
        """Read a scan; None if it is skipped.

        Raises:
            DataError: see ``add``.
        """
        try:
            return source.read_scan(scan_id, with_labels)
        except DataError as error:
            self.add(scan_id, error)
            return None

    def add(self, scan_id: str, error: DataError) -> None:
        """Count a scan that could not be read; one that is known is not counted again.

        Raises:
            DataError: the policy is to fail, too many were skipped, or the file that keeps them
                cannot be written.
        """
        if self.policy == "fail":
            raise error
        if scan_id in self.skipped:
            return
        self.skipped[scan_id] = str(error)
        if scan_id not in self._recorded():
            self._append(scan_id)
        _log.warning("skipped scan %s: %s", scan_id, error)
        skipped = len(self.report())
        if skipped > self.most:
            raise DataError(
                f"{skipped} of {self.scans} scans cannot be read, but at most "
                f"{self.most} may be skipped; the last one: {error}. "
                "`rangeseg-data check` lists all of them",
                error.kind,
            )

    def report(self) -> dict[str, str]:
        """The skipped scans of all processes, sorted by id, with their faults."""
        return dict(sorted((self._recorded() | self.skipped).items()))

    def _recorded(self) -> dict[str, str]:
        """The scans in the file; a line that a kill cut short is left out."""
        if self._record is None or not self._record.is_file():
            return {}
        recorded = {}
        for line in self._record.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                recorded[entry["scan"]] = entry["error"]
            except ValueError:
                continue
        return recorded

    def _append(self, scan_id: str) -> None:
        if self._record is None:
            return
        line = json.dumps({"scan": scan_id, "error": self.skipped[scan_id]})
        remedy = "make room and go on with --resume"
        with writable(self._record, remedy, DataError), self._record.open("a") as file:
            file.write(f"\n{line}\n")  # after a line that a kill may have cut short
