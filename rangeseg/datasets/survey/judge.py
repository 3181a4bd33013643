"""Judge a data set by the first scans of its sequences."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.evidence import Evidence, gather_evidence
from rangeseg.datasets.survey.verdicts.base import NAMES, Verdict
from rangeseg.datasets.survey.verdicts.frame import judge_frame
from rangeseg.datasets.survey.verdicts.intensity import judge_intensity
from rangeseg.datasets.survey.verdicts.labels import judge_classes, judge_labels
from rangeseg.datasets.survey.verdicts.numbers import judge_numbers
from rangeseg.datasets.survey.verdicts.sensor import judge_sensor
from rangeseg.errors import DataError, unknown_name

_SCANS = 3  # scans per sequence
_MANY_SEQUENCES = 16  # sequences; with more, one scan each is enough
_LABELLED, _UNLABELLED = 3, 1  # scans before a training: less than a second on KITTI

_log = logging.getLogger(__name__)


def judge_files(found: Evidence) -> Iterator[Verdict]:
    """Judge whether points and labels are readable: ``number_type``, ``label_type``."""
    numbers = list(_unless_accepted(judge_numbers(found), found.layout))
    yield from numbers
    if not numbers:
        labels = _unless_accepted(judge_labels(found), found.layout)
        yield from (verdict for verdict in labels if verdict.name == "label_type")


def judge_scan(found: Evidence) -> Iterator[Verdict]:
    """Give all verdicts on one scan, without those that depend on faulty data."""
    layout = found.layout
    if numbers := list(_unless_accepted(judge_numbers(found), layout)):
        yield from numbers
        return
    yield from _unless_accepted(judge_labels(found), layout)
    frame = list(_unless_accepted(judge_frame(found), layout))
    yield from frame
    if not any(verdict.refused for verdict in frame):
        yield from _unless_accepted(judge_sensor(found), layout)
    yield from _unless_accepted(judge_intensity(found), layout)


def judge_source(
    source: ScanSource,
    scans: Mapping[str, Sequence[str]],
    judge: Callable[[Evidence], Iterable[Verdict]] = judge_scan,
    sensor: bool = True,
    labels: bool = True,
) -> list[Verdict]:
    """Judge a data set; a verdict holds for a sequence if half of its scans show it.

    Args:
        source: the data set.
        scans: sequence -> ids of the scans to inspect.
        judge: function that judges one scan.
        sensor: whether the data set's sensor is its own, and no placeholder.
        labels: the same of its classes.

    Returns:
        One verdict per name, refused ones first, each with its number of sequences.

    Raises:
        ConfigError: ``layout.accept`` names no verdict.
    """
    for name in getattr(getattr(source, "layout", None), "accept", ()):
        if name not in NAMES:
            raise unknown_name("verdict in layout.accept", name, list(NAMES))
    owners = [name for name, scan_ids in scans.items() for _ in scan_ids]
    scan_ids = [scan_id for of_sequence in scans.values() for scan_id in of_sequence]

    def look(scan_id: str) -> tuple[Evidence, list[Verdict]]:
        found = gather_evidence(source, scan_id, sensor, labels)
        verdicts = list(judge(found))
        without = replace(found, points=found.points[:0], label_bytes=None, coordinates=None)
        return without, verdicts  # release the points of earlier scans

    with ThreadPoolExecutor(max_workers=2) as pool:
        looked = list(pool.map(look, scan_ids))
    verdicts = _in_sequences(owners, [verdicts for _, verdicts in looked], len(scans))
    if judge is judge_scan and looked:
        one = judge_classes([found for found, _ in looked])
        verdicts += _unless_accepted(one, looked[0][0].layout)
    return sorted(verdicts, key=lambda verdict: not verdict.refused)


def first_scans(sequences: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The first scans of each sequence, for ``check`` and ``stats``."""
    most = _SCANS if len(sequences) <= _MANY_SEQUENCES else 1
    return {name: list(scan_ids[:most]) for name, scan_ids in sequences.items()}


def training_scans(labelled: Sequence[str], unlabelled: Sequence[str]) -> dict[str, list[str]]:
    """A few scans to judge before a training, by sequence."""
    chosen = evenly_spaced(labelled, _LABELLED) + evenly_spaced(unlabelled, _UNLABELLED)
    found: dict[str, list[str]] = defaultdict(list)
    for scan_id in chosen:
        sequence, slash, _ = scan_id.partition("/")
        found[sequence if slash else ""].append(scan_id)
    return dict(found)


def refuse(verdicts: Sequence[Verdict], more: str = "") -> None:
    """Log warnings, and raise the first of the refused verdicts.

    Args:
        verdicts: result of ``judge_source``.
        more: addition to the error message.

    Raises:
        DataError: one is refused.
    """
    refused = [verdict for verdict in verdicts if verdict.refused]
    for verdict in [*refused[1:], *(v for v in verdicts if not v.refused)]:
        _log.warning("%s", verdict)
    if refused:
        raise DataError(f"{refused[0]}{more}")


def refuse_unless(anyway: bool, verdicts: Sequence[Verdict]) -> None:
    """Raise the first refused verdict, unless ``anyway`` is set.

    Raises:
        DataError: one is refused.
    """
    refused = [verdict for verdict in verdicts if verdict.refused]
    if refused and not anyway:
        refuse(refused, " (--anyway measures them all the same)")


def _unless_accepted(verdicts: Iterable[Verdict], layout: Layout) -> Iterator[Verdict]:
    return (verdict for verdict in verdicts if verdict.name not in layout.accept)


def _in_sequences(
    owners: Sequence[str], verdicts: Sequence[Sequence[Verdict]], sequences: int
) -> list[Verdict]:
    """One verdict per name that holds for a sequence, with the number of such sequences."""
    scans: dict[str, int] = defaultdict(int)
    shown: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for owner, of_scan in zip(owners, verdicts, strict=True):
        scans[owner] += 1
        for verdict in of_scan:
            shown[verdict.name, owner].append(verdict)
    held: dict[str, list[tuple[str, Verdict]]] = defaultdict(list)
    for (name, owner), of_name in shown.items():
        if 2 * len(of_name) >= scans[owner]:
            held[name].append((owner, of_name[0]))
    named = []
    for places in held.values():
        where = f" ({len(places)} of {sequences} sequences)" if sequences > 1 else ""
        named.append(replace(places[0][1], seen=places[0][1].seen + where))
    return named
