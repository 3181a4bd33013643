"""Check a data set file by file, and report all problems at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from rangeseg.datasets.base import Scan, ScanSource
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.survey.completeness import gap_note
from rangeseg.datasets.survey.judge import first_scans, judge_source
from rangeseg.datasets.survey.misnamed_labels import misnamed_labels
from rangeseg.datasets.survey.statistics import field_of_view_warning
from rangeseg.errors import ConfigError, DataError, DataFault
from rangeseg.system.progress import Progress

_OUTLIERS = 0.02
"""Accepted share of intensities beyond 0..1: a scale need not fit the brightest echoes."""


@dataclass(frozen=True)
class Problem:
    """A fault that makes training or evaluation fail, in one scan or (None) in many."""

    message: str
    kind: DataFault
    scan_id: str | None = None


@dataclass
class Tally:
    """Findings in one scan or in many.

    Only a deep check counts points that are NaN, empty or of a class.

    Attributes:
        labelled: scans with sound labels.
        points: of all sound scans.
        empty_returns: points at (0, 0, 0).
        class_points: (256,) points per train id, ignored ones at 255.
    """

    scans: int = 0
    labelled: int = 0
    points: int = 0
    nan_points: int = 0
    empty_returns: int = 0
    class_points: np.ndarray = field(default_factory=lambda: np.zeros(IGNORE + 1, dtype=np.int64))
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def count(self, kind: DataFault) -> int:
        """Number of problems of a kind."""
        return sum(problem.kind == kind for problem in self.problems)


@dataclass
class Part:
    """One sequence of a split and its findings; ``none`` if the split has none."""

    split: str
    name: str
    scan_ids: list[str] = field(default_factory=list)
    found: Tally = field(default_factory=Tally)


def check_dataset(
    source: ScanSource,
    splits: Sequence[str] | None = None,
    deep: bool = False,
    labelled: Sequence[str] | None = None,
    workers: int | None = None,
) -> list[Part]:
    """Check every scan; a fault in one does not stop the others.

    In the split ``test`` no scan needs labels.

    Args:
        source: the data set.
        splits: names of the splits; None takes all, without a missing test split, which training
            does not need.
        deep: read every point and label; otherwise check only file sizes where the data set allows
            it.
        labelled: the only scans of the train split that need labels; None asks ``needs_labels``.
        workers: number of threads; None takes a few more than cores.

    Returns:
        The sequences of all splits; the same for any number of workers.

    Raises:
        DataError: the root is not such a data set.
        ConfigError: no such split, or no worker.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers cannot check anything: give at least one")
    source.check_root()
    parts: list[Part] = []
    required: set[str] = set()
    for split in dict.fromkeys(splits or source.splits):
        of_split = _parts(source, split, needed=splits is not None or split != "test")
        present = [scan_id for part in of_split for scan_id in part.scan_ids]
        if split != "test" and present:
            chosen = labelled if split == "train" else None
            need = list(filter(source.needs_labels, present)) if chosen is None else chosen
            if not need:
                of_split[0].found.problems.append(
                    Problem(
                        f"no scan of the split {split} has labels: copy the labels of some there",
                        "missing",
                    )
                )
            required.update(need)
        parts += of_split
    _judge(source, parts)
    _check_scans(source, parts, required, deep, workers)
    if deep:
        _check_field_of_view(source, parts)
    return parts


def _judge(source: ScanSource, parts: Sequence[Part]) -> None:
    """Add verdicts on the first scans of each sequence to the first part with scans."""
    sequences = {part.name: part.scan_ids for part in parts if part.scan_ids}
    if not sequences:
        return
    found = next(part.found for part in parts if part.scan_ids)
    for verdict in judge_source(source, first_scans(sequences)):
        if verdict.refused:
            found.problems.append(Problem(str(verdict), "other"))
        else:
            found.notes.append(str(verdict))


def _parts(source: ScanSource, split: str, needed: bool) -> list[Part]:
    """The sequences of a split with their scans; a missing one is a problem if needed."""
    parts, faults = [], []
    try:
        parts = [Part(split, sequence) for sequence in source.sequences(split)]
    except DataError as error:
        faults.append(Problem(str(error), error.kind))
    for part in parts:
        try:
            part.scan_ids = source.sequence_ids(part.name)
            _note_stray_labels(source, part)
            found = misnamed_labels(source, part.name), gap_note(source, part)
            part.found.notes += filter(None, found)
        except DataError as error:
            faults.append(Problem(str(error), error.kind))
            if needed:
                part.found.problems.append(faults[-1])
            else:
                part.found.notes.append(str(error))
    if any(part.scan_ids for part in parts):
        return parts
    if not needed:
        return []
    # One line instead of eleven equal ones.
    why = faults[0].message if faults else "it has no sequence"
    problem = Problem(f"no sequence of the split {split} can be read: {why}", "missing")
    return [Part(split, "none", found=Tally(problems=[problem]))]


def _note_stray_labels(source: ScanSource, part: Part) -> None:
    """Note label files without a scan, which may not have been copied."""
    if stray := source.labels_without_scan(part.name):
        more = ", ..." if len(stray) > 3 else ""
        part.found.notes.append(
            f"{len(stray)} label files of sequence {part.name} have no scan "
            f"({', '.join(stray[:3])}{more}): copy the scans again if they should be there"
        )


def _check_scans(
    source: ScanSource,
    parts: Sequence[Part],
    required: Collection[str],
    deep: bool,
    workers: int | None,
) -> None:
    def check(scan_id: str) -> Tally:
        return _check_scan(source, scan_id, deep, scan_id in required)

    scan_ids = [scan_id for part in parts for scan_id in part.scan_ids]
    owners = [part for part in parts for _ in part.scan_ids]
    pool = ThreadPoolExecutor(workers)
    try:
        with Progress(f"checking {source.info.name}", len(scan_ids), "scans") as progress:
            for part, found in zip(owners, pool.map(check, scan_ids), strict=True):
                part.found.add(found)
                progress.update()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C do not wait for the rest


def _check_field_of_view(source: ScanSource, parts: Sequence[Part]) -> None:
    """Note if the first scan of a split does not fit the data set's sensor."""
    firsts = {part.split: part for part in reversed(parts) if part.scan_ids}
    for part in firsts.values():
        try:
            scan = source.read_scan(part.scan_ids[0], with_labels=False)
        except DataError:
            continue  # was counted above
        if warning := field_of_view_warning(scan.points, source.info.sensor):
            part.found.notes.append(f"{scan.scan_id}: {warning}")


def _check_scan(source: ScanSource, scan_id: str, deep: bool, required: bool) -> Tally:
    """Check one scan; record faults as problems instead of raising them."""
    found = Tally(scans=1)
    try:
        # Check existing labels even if they are not needed.
        with_labels = required or source.has_labels(scan_id)
        if deep:
            scan = source.read_scan(scan_id, with_labels)
            points = len(scan.points)
            _look_inside(scan, found)
        else:
            points = source.check_files(scan_id, with_labels)
    except DataError as error:
        found.problems.append(Problem(str(error), error.kind, scan_id))
    else:
        found.points, found.labelled = points, int(with_labels)
    return found


def _look_inside(scan: Scan, found: Tally) -> None:
    """Count classes, NaN points and empty returns; note faults that a network would not report."""
    finite = np.isfinite(scan.points).all(axis=1)
    empty = (scan.points[:, :3] == 0).all(axis=1)
    found.nan_points = int(np.count_nonzero(~finite))
    found.empty_returns = int(np.count_nonzero(empty))
    intensity = scan.points[finite & ~empty, 3]
    if not len(intensity):
        found.notes.append(f"{scan.scan_id} has no point with a position: it teaches nothing")
    elif ((intensity < 0.0) | (intensity > 1.0)).mean() > _OUTLIERS:
        found.notes.append(
            f"{scan.scan_id} has intensities from {intensity.min():g} to {intensity.max():g}, "
            "expected 0 to 1: divide them by their scale, 255 for most sensors (data set 'custom': "
            "layout.intensity_max, which `rangeseg-data stats` measures)"
        )
    if scan.labels is not None:
        found.class_points += np.bincount(scan.labels, minlength=IGNORE + 1)
        if len(intensity) and (scan.labels == IGNORE).all():
            found.notes.append(f"{scan.scan_id} has only ignored labels: it teaches nothing")
