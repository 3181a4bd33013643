"""Draw, import and compare lists of labelled scans, for ``rangeseg-data split``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.nuscenes.source import NuScenes
from rangeseg.datasets.split_files import (
    check_split,
    is_token,
    published_name,
    read_split,
    write_split,
)
from rangeseg.datasets.splits import (
    Ratio,
    count_with_unlabelled_neighbour,
    draw_sequences,
    draw_uniform,
    labelled_by_sequence,
)
from rangeseg.datasets.survey.misnamed_labels import warn_of_misnamed_labels
from rangeseg.errors import ConfigError


class NewList(NamedTuple):
    """A new list: its ids, the comment in the file, and a line about it."""

    ids: list[str]
    comment: str
    about: str


def draw_lists(
    source: ScanSource,
    ratios: Iterable[Ratio],
    out: Path,
    seed: int,
    strategy: str,
    block: int | None,
) -> dict[Path, NewList]:
    """Draw a list per ratio, by the strategy ``uniform`` or ``sequence``; see ``draw_sequences``.

    Raises:
        DataError: the train split cannot be listed, or has no labels.
    """
    how = strategy if block is None else f"{strategy}_block{block}"
    options = f"--strategy {strategy}" + ("" if block is None else f" --block {block}")
    sequences = labelled_by_sequence(source)
    lists = {}
    for ratio in ratios:
        if strategy == "sequence":
            ids = draw_sequences(sequences, ratio.share, seed, block)
        else:
            ids = draw_uniform([i for s in sequences.values() for i in s], ratio.share, seed)
        share = share_line(source, ids)
        drawn_by = f"rangeseg-data split --labels {ratio} {options} --seed {seed}"
        comment = f"{source.info.name}: {share}\ndrawn by: {drawn_by}"
        path = out / f"{source.info.name}_{how}_{ratio.folder}_seed{seed}.txt"
        lists[path] = NewList(ids, comment, share)
    return lists


def import_lists(
    source: ScanSource, found: Mapping[Path, Sequence[str]], out: Path
) -> dict[Path, NewList]:
    """Convert the lists of ``read_lists`` to the toolkit's format.

    Raises:
        ConfigError: two files would get the same name.
    """
    lists: dict[Path, NewList] = {}
    origins: dict[Path, Path] = {}
    for file, ids in found.items():
        target = out / f"{Path(file.name.removesuffix('.gz')).stem}.txt"
        if target in origins:
            raise ConfigError(
                f"{origins[target]} and {file} would both become {target}: rename one of them"
            )
        origins[target] = file
        share, origin = share_line(source, ids), origin_line(ids)
        comment = f"{source.info.name}: {share}\nimported from {file.name}: {origin}"
        lists[target] = NewList(sorted(ids), comment, f"{share}; {origin}")
    return lists


def read_lists(source: ScanSource, files: Iterable[Path]) -> dict[Path, list[str]]:
    """Read lists and check that each fits the data set.

    Raises:
        DataError: one cannot be read, or does not fit.
    """
    warn_of_misnamed_labels(source, "train")
    lists = {}
    for file in files:
        lists[file] = _tokens(source, read_split(file))
        check_split(lists[file], source, file)
    return lists


def _tokens(source: ScanSource, scan_ids: list[str]) -> list[str]:
    """Replace file names of nuScenes scans by their tokens; keep other ids."""
    if not isinstance(source, NuScenes) or not scan_ids or is_token(scan_ids[0]):
        return scan_ids
    of_file = {source.paths(i)[0].stem: i for i in source.scan_ids("train")}
    return [of_file.get(scan_id.partition("/")[2], scan_id) for scan_id in scan_ids]


def write_lists(lists: Mapping[Path, NewList]) -> list[Path]:
    """Write all lists or none.

    Returns:
        Existing files with the same scans, so that the same call completes an interrupted one.

    Raises:
        ConfigError: a file exists with other scans, or cannot be written.
    """
    present = [path for path in lists if path.exists()]
    for path in present:
        if read_split(path) != lists[path].ids:
            raise ConfigError(
                f"{path} exists with other scans and is not overwritten: choose another --out"
            )
    for path, new in lists.items():
        if path not in present:
            write_split(path, new.ids, new.comment)
    return present


def share_line(source: ScanSource, labelled: Sequence[str]) -> str:
    """Describe how many training scans a list labels, and how many border on unlabelled ones."""
    total, candidates = len(source.scan_ids("train")), len(source.labelled_ids("train"))
    few = "" if candidates == total else f", {candidates} have labels"
    return (
        f"{len(labelled)} of {total} training scans labelled ({len(labelled) / total:.2%}{few}), "
        f"{count_with_unlabelled_neighbour(source, labelled)} with an unlabelled neighbour in time"
    )


def origin_line(labelled: Sequence[str]) -> str:
    """Name the published list with these scans."""
    return published_name(labelled) or "no published list known here"


def nesting_lines(lists: Mapping[Path, Sequence[str]]) -> list[str]:
    """Describe which lists are nested, a line per pair; the shorter list comes first."""
    by_length = sorted(lists, key=lambda path: len(lists[path]))
    lines = []
    for few, many in combinations(by_length, 2):
        shared, count = len(set(lists[few]) & set(lists[many])), len(lists[few])
        rest = "" if shared == count else f", which has {shared} of its {count} scans"
        lines.append(f"{few} is {'not ' if rest else ''}nested in {many}{rest}")
    return lines
