"""Which scans of the train split are labelled: drawn from a seed, or read from a list."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal, cast

from rangeseg.datasets.base import ScanSource
from rangeseg.errors import ConfigError, DataError

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*(%?)")
# SEQ/FRAME, or the 32 hexadecimal digits of a nuScenes sample token.
_SCAN_ID = re.compile(r"[\w.-]+/[\w.-]+|[0-9a-f]{32}")
_EXAMPLES = "write a ratio such as 1%, 10% or 0.5"


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
    return f"{float(ratio * 100):g}%"


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
    if not scan_ids:
        raise DataError("no scan to draw labelled ones from: the train split is empty")

    def key(scan_id: str) -> bytes:
        return hashlib.sha256(f"{seed}:{scan_id}".encode()).digest()

    count = max(1, len(scan_ids) * ratio.numerator // ratio.denominator)
    return sorted(sorted(scan_ids, key=key)[:count])


def read_split(path: Path) -> list[str]:
    """Read a list of scans: one ``SEQ/FRAME`` (or nuScenes sample token) a line.

    Blank lines and what follows a ``#`` are skipped; a name that ends in ``.gz`` is unpacked.

    Returns:
        The ids in the order of the file; ``check_split`` says whether they make sense.

    Raises:
        DataError: the file cannot be read, or a line is no scan id.
    """
    scan_ids = []
    try:
        with _open(path, "r") as file:
            for number, line in enumerate(file, start=1):
                text = line.partition("#")[0].strip()
                if text and not _SCAN_ID.fullmatch(text):
                    raise DataError(
                        f"{path}:{number}: '{text[:60]}' is not a scan id: write one SEQ/FRAME "
                        "a line, e.g. 00/000123"
                    )
                if text:
                    scan_ids.append(text)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: give the file that lists the scans") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of scans ({error})") from None
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open(path, "x") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error})") from None


def check_split(labelled: Sequence[str], source: ScanSource, path: Path) -> None:
    """Check that a list can be the labelled scans of a data set.

    Args:
        labelled: what ``read_split`` returned.
        source: the data set.
        path: the list's file, for the message.

    Raises:
        DataError: the list is empty, names a scan twice or one that is not in the train split,
            or the train split itself cannot be listed.
    """
    if not labelled:
        raise DataError(f"{path} lists no scan: write one SEQ/FRAME a line, e.g. 00/000123")
    twice = [scan_id for scan_id, count in Counter(labelled).items() if count > 1]
    if twice:
        raise DataError(f"{path} lists {_some(twice)} more than once: remove the repeated lines")
    train = set(source.scan_ids("train"))
    strangers = [scan_id for scan_id in labelled if scan_id not in train]
    if strangers:
        home = _splits_of(strangers, source)
        named = [f"{i} (a scan of {home[i]})" if i in home else i for i in strangers]
        raise DataError(
            f"{path}: {len(strangers)} of {len(labelled)} scans are not in the train split "
            f"({len(train)} scans) of {source.root}: {_some(named)}: use a list made for this "
            "data set, or copy the missing scans there"
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


def _open(path: Path, mode: Literal["r", "x"]) -> IO[str]:
    # utf-8-sig: Windows editors put a byte order mark in front of the first id.
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, f"{mode}t", encoding=encoding))
    return open(path, mode, encoding=encoding)


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
