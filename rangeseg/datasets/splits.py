"""Which scans of the train split are labelled: drawn from a seed, or read from a list."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.split_files import (
    id_form,
    is_token,
    published_name,
    read_text,
    scan_id_of,
)
from rangeseg.errors import ConfigError, DataError
from rangeseg.system.files import write_file

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*(%?)")
_EXAMPLES = "write a ratio such as 1%, 10% or 0.5"
_ONE_A_LINE = "write one SEQ/FRAME a line, e.g. 00/000123 (nuScenes: one sample token)"


def is_ratio(labels: str) -> bool:
    """Whether ``labels`` is a ratio (perhaps a wrong one) rather than the name of a file."""
    return _NUMBER.fullmatch(labels.strip()) is not None


def parse_ratio(text: str) -> Fraction:
    """The share of labelled scans, exactly: ``1%``, ``10 %``, ``0.5``.

    Raises:
        ConfigError: not a number, outside (0, 1], or a bare ``1``, which may mean 1 % or all.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"'{text}' is not a ratio of labelled scans: {_EXAMPLES}")
    number, percent = match.groups()
    if number == "1" and not percent:
        raise ConfigError("ratio '1' may mean 1 % or all scans: write 1% or 100%")
    ratio = Fraction(number) / (100 if percent else 1)
    if not 0 < ratio <= 1:
        hint = f" (did you mean {number}%?)" if 1 < ratio <= 100 and not percent else ""
        raise ConfigError(f"ratio '{text}' is not above 0 and at most 1 (100%){hint}: {_EXAMPLES}")
    return ratio


def format_ratio(ratio: Fraction) -> str:
    """A ratio as people write it: ``1%``, ``12.5%``."""
    percent = Decimal(100 * ratio.numerator) / ratio.denominator
    return f"{percent.normalize():f}%"  # not 5e-05, and every digit: it is read again


def draw_uniform(scan_ids: Sequence[str], ratio: Fraction, seed: int) -> list[str]:
    """Draw labelled scans uniformly over all scans.

    The scans are ordered by a hash of seed and id, and the first floor(ratio · N) are taken, at
    least one. So lists of one seed are nested (1 % ⊂ 10 % ⊂ 20 % ⊂ 50 %), do not depend on the
    order of ``scan_ids``, and stay the same with every version of Python and NumPy.

    Args:
        scan_ids: N different ids.
        ratio: in (0, 1].
        seed: another seed, another list.

    Returns:
        The drawn ids, sorted.

    Raises:
        DataError: there is no scan to draw from.
    """
    ordered = sorted(scan_ids, key=lambda scan_id: _hash(seed, scan_id))
    return sorted(ordered[: _how_many(ordered, ratio)])


def draw_sequences(
    sequences: Mapping[str, Sequence[str]], ratio: Fraction, seed: int, block: int | None = None
) -> list[str]:
    """Draw labelled scans in stretches of time, so that few have an unlabelled neighbour.

    Uniform draws put an almost equal scan, a tenth of a second away, among the unlabelled ones.
    Here whole sequences are ordered by a hash of seed and name, their scans are strung together in
    the order of time, and the first floor(ratio · N) are taken, at least one: whole sequences and
    the beginning of one more. Lists of one seed are nested.

    Args:
        sequences: name -> its scans in the order of time; N scans in all.
        ratio: in (0, 1].
        seed: another seed, another list.
        block: order stretches of this many successive scans instead of whole sequences, each
            named by its first scan; a sequence ends with what is left. Blocks of 1 are
            ``draw_uniform``.

    Returns:
        The drawn ids, sorted.

    Raises:
        DataError: there is no scan to draw from.
    """
    if block is None:
        units = dict(sequences)
    else:
        assert block > 0
        units = {
            ids[start]: ids[start : start + block]
            for ids in sequences.values()
            for start in range(0, len(ids), block)
        }
    names = sorted(units, key=lambda name: _hash(seed, name))
    ordered = [scan_id for name in names for scan_id in units[name]]
    return sorted(ordered[: _how_many(ordered, ratio)])


def labelled_by_sequence(source: ScanSource) -> dict[str, list[str]]:
    """The scans of the train split that labels can be drawn from, sequence by sequence.

    Raises:
        DataError: the train split cannot be listed.
    """
    candidates = set(source.labelled_ids("train"))
    return {
        sequence: [i for i in source.sequence_ids(sequence) if i in candidates]
        for sequence in source.sequences("train")
    }


def count_with_unlabelled_neighbour(source: ScanSource, labelled: Iterable[str]) -> int:
    """How many labelled scans come right before or after an unlabelled one of their sequence.

    Raises:
        DataError: the train split cannot be listed.
    """
    chosen, count = set(labelled), 0
    for sequence in source.sequences("train"):
        is_labelled = [scan_id in chosen for scan_id in source.sequence_ids(sequence)]
        padded = [True, *is_labelled, True]  # before the first and after the last nothing is
        count += sum(
            here and not (before and after)
            for before, here, after in zip(padded, is_labelled, padded[2:], strict=False)
        )
    return count


def read_split(path: Path) -> list[str]:
    """Read a list of scans, one a line, in any of the forms that ``scan_id_of`` knows.

    Blank lines and what follows a ``#`` are skipped; a file that gzip packed is unpacked.

    Returns:
        The ids in the order of the file; ``check_split`` says whether they make sense.

    Raises:
        DataError: the file cannot be read, a line names no scan, or names one of another form
            than the lines before.
    """
    scan_ids: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        scan_id = scan_id_of(text)
        if scan_id is None:
            raise DataError(f"{path}:{number}: '{text[:60]}' is not a scan id: {_ONE_A_LINE}")
        if scan_ids and is_token(scan_id) != is_token(scan_ids[0]):
            raise DataError(
                f"{path}:{number}: '{text[:60]}' after lines of {id_form(scan_ids[0])}: the list "
                "mixes data sets: make one list for each"
            )
        scan_ids.append(scan_id)
    return scan_ids


def write_split(path: Path, ids: Iterable[str], comment: str) -> None:
    """Write a list that ``read_split`` reads; folders are made, an existing file is kept.

    Args:
        path: the new file.
        ids: scan ids, written in this order.
        comment: where the list comes from; each of its lines is written behind a ``#``.

    Raises:
        ConfigError: the file exists or cannot be written.
    """
    if path.exists():
        raise ConfigError(
            f"{path} exists and is not overwritten: choose another name or remove it yourself"
        )
    lines = [f"# {line}" for line in comment.splitlines()] + list(ids)
    content = ("\n".join(lines) + "\n").encode()
    try:
        write_file(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error})") from None


def check_split(labelled: Sequence[str], source: ScanSource, path: Path) -> None:
    """Check that a list can be the labelled scans of a data set.

    Args:
        labelled: what ``read_split`` returned.
        source: the data set.
        path: the list's file, for the message.

    Raises:
        DataError: the list is empty, names a scan twice, is for another kind of data set, or
            names a scan that is not in the train split or has no labels; or the train split cannot
            be listed.
    """
    if not labelled:
        raise DataError(f"{path} lists no scan: {_ONE_A_LINE}")
    twice = [scan_id for scan_id, count in Counter(labelled).items() if count > 1]
    if twice:
        raise DataError(f"{path} lists {_some(twice)} more than once: remove the repeated lines")
    known = source.scan_ids("train")
    if known and is_token(labelled[0]) != is_token(known[0]):
        raise DataError(_other_kind(labelled, known[0], source, path))
    train = set(known)
    strangers = [scan_id for scan_id in labelled if scan_id not in train]
    if strangers:
        home = _splits_of(strangers, source)
        named = [f"{i} (a scan of {home[i]})" if i in home else i for i in strangers]
        name = published_name(labelled)
        raise DataError(
            f"{path}{f' ({name})' if name else ''}: {len(strangers)} of {len(labelled)} scans "
            f"are not in the train split ({len(train)} scans) of {source.root}: {_some(named)}: "
            "use a list made for this data set, or copy the missing scans there"
        )
    without = [scan_id for scan_id in labelled if not source.needs_labels(scan_id)]
    if without:
        raise DataError(
            f"{path}: {len(without)} of {len(labelled)} scans have no label file in {source.root}: "
            f"{_some(without)}: label them, or take them out of the list"
        )


def labelled_and_unlabelled(
    source: ScanSource, labels: str, seed: int
) -> tuple[list[str], list[str]]:
    """The labelled and the unlabelled scans of the train split.

    Args:
        source: the data set.
        labels: a ratio (``1%``), or the path of a file that lists the labelled scans.
        seed: which list is drawn; a file does not depend on it.

    Returns:
        Sorted ids of the labelled scans, and of all others of the train split.

    Raises:
        ConfigError: ``labels`` is neither a ratio nor a file.
        DataError: the list does not fit the data set.
    """
    path = Path(labels)
    if is_ratio(labels):
        labelled = draw_uniform(source.labelled_ids("train"), parse_ratio(labels), seed)
    elif path.is_file():
        labelled = sorted(read_split(path))
        check_split(labelled, source, path)
    else:
        raise ConfigError(
            f"labels '{labels}' is neither a ratio (1%, 10%, 0.5) nor a file that exists: "
            "give one of the two; a file lists one SEQ/FRAME a line"
        )
    chosen = set(labelled)
    return labelled, [i for i in source.scan_ids("train") if i not in chosen]


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _how_many(scan_ids: Sequence[str], ratio: Fraction) -> int:
    if not scan_ids:
        raise DataError("no scan to draw labelled ones from: the train split has none with labels")
    return max(1, len(scan_ids) * ratio.numerator // ratio.denominator)


def _other_kind(labelled: Sequence[str], known: str, source: ScanSource, path: Path) -> str:
    """The message for a list whose ids have another form than those of the data set."""
    name = published_name(labelled)
    guess = "nuScenes" if is_token(labelled[0]) else "SemanticKITTI or a data set in its layout"
    return (
        f"{path} lists {id_form(labelled[0])} (first: {labelled[0]}), but scans of "
        f"{source.info.name} are named like {known}: the list "
        f"{f'is {name}' if name else f'seems to be for {guess}'}: use one made for this data set"
    )


def _some(names: Sequence[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _splits_of(scan_ids: Sequence[str], source: ScanSource) -> dict[str, str]:
    """In which other split a scan is, as far as the other splits are on the disk."""
    found: dict[str, str] = {}
    for split in source.splits:
        if split == "train":
            continue
        try:
            present = set(source.scan_ids(split))
        except DataError:
            continue
        found |= {scan_id: split for scan_id in scan_ids if scan_id in present}
    return found
