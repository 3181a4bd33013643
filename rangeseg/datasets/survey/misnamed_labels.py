"""Find label files that a data set overlooks because of their place or name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.formats.files import file_size
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.datasets.survey.find_layout import find_labels
from rangeseg.errors import DataError

log = logging.getLogger(__name__)

_NAMED = re.compile(r"label|annot|semantic|ground.?truth|\bgt\b", re.IGNORECASE)
# From networks, from `rangeseg-data scribble`, or from SemanticKITTI's other tasks.
_OTHERS = re.compile(r"predict|confidence|pseudo|scribble|voxel|image", re.IGNORECASE)
_NPY_HEADER = 128  # bytes
_SHOWN = 3  # sequences


def misnamed_labels(source: ScanSource, sequence: str) -> str | None:
    """Describe candidate label files of unlabelled scans, and a remedy; None without any.

    Candidates are files beside or below the scans with a scan's name but another suffix or folder.
    Labels in the right place without a scan's name count too.
    """
    if not isinstance(source, SequenceFolder) or "label" in source.layout.fields:
        return None
    try:
        scan_ids = source.sequence_ids(sequence)
    except DataError:
        return None  # reported where scans are listed
    label_folder = source.paths(scan_ids[0])[1].parent
    present = {p.name for p in label_folder.iterdir()} if label_folder.is_dir() else set()
    unlabelled = [i for i in scan_ids if source.paths(i)[1].name not in present]
    if not unlabelled:
        return None
    found = _elsewhere(source, sequence, unlabelled)
    if found is None and len(unlabelled) == len(scan_ids):
        found = _of_no_scan(source, sequence, scan_ids[0])
    if found is None:
        return None
    expected = source.paths(unlabelled[0])[1].relative_to(source.sequences_root / sequence)
    few = f"{len(unlabelled)} of {len(scan_ids)} scans have"
    return f"sequence {sequence}: {few} no labels, e.g. no {expected.as_posix()}, but {found}"


def misnamed_label_lines(source: ScanSource, sequences: Iterable[str]) -> list[str]:
    """A line for each of the first few sequences with misnamed labels, and the number of others."""
    lines = [line for sequence in sequences if (line := misnamed_labels(source, sequence))]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"{len(lines) - _SHOWN} more sequences have such label files"]
    return lines


def warn_of_misnamed_labels(source: ScanSource, split: str) -> None:
    """Warn of probable label files of a split's scans that are not read.

    Raises:
        DataError: the split cannot be listed.
        ConfigError: no such split.
    """
    for line in misnamed_label_lines(source, source.sequences(split)):
        log.warning(line)


def _elsewhere(source: SequenceFolder, sequence: str, scan_ids: Sequence[str]) -> str | None:
    """Files with the names of these scans, but another suffix or folder."""
    layout, folder = source.layout, source.sequences_root / sequence
    frames = {scan_id.partition("/")[2]: scan_id for scan_id in scan_ids}
    own_folder = source.paths(scan_ids[0])[1].parent
    for place, suffix, names in find_labels(folder, layout, frames):
        elsewhere = folder / place != own_folder
        others = _OTHERS.search(place) or own_folder != folder / layout.labels_folder
        if (elsewhere and others) or not _NAMED.search(place + suffix):
            continue
        first = min(names)
        example = folder / place / f"{first}{suffix}"
        said = f"there are {len(names)} files like {example.relative_to(folder).as_posix()}: "
        try:
            points = source.check_files(frames[first], with_labels=False)
        except DataError:
            return None  # reported where scans are read
        size = (file_size(example) or 0) - (_NPY_HEADER if suffix.endswith(".npy") else 0)
        if size not in (points, 2 * points, 4 * points, 8 * points):
            return f"{said}write them as raw integers, one for each of the {points} points"
        stated = {"labels_folder": place} if elsewhere else {}
        stated |= {"labels_suffix": suffix} if suffix != layout.labels_suffix else {}
        settings = " ".join(f"{key}={value}" for key, value in stated.items())
        if source.info.name == "custom":
            return f"{said}if these are the labels, state them in the layout ({settings})"
        return f"{said}if these are the labels, rename them"
    return None


def _of_no_scan(source: SequenceFolder, sequence: str, scan_id: str) -> str | None:
    """Label files in the right place without the name of a scan."""
    strays = source.labels_without_scan(sequence)
    if not strays:
        return None
    stray, scan = source.paths(strays[0])[1].name, source.paths(scan_id)[0].name
    return (
        f"{len(strays)} label files have names of no scan, e.g. {stray} where scans are named "
        f"{scan}: give labels the names of their scans"
    )
