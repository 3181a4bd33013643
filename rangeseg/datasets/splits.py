"""Choose the labelled scans of the train split: a ratio drawn with a seed, or a list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.split_files import check_split, read_split
from rangeseg.datasets.survey.misnamed_labels import warn_of_misnamed_labels
from rangeseg.errors import ConfigError, DataError

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))\s*(%?)")
_EXAMPLES = "write a ratio such as 1%, 10% or 0.5"


@dataclass(frozen=True)
class Ratio:
    """A share of the scans of the train split, in (0, 1]; its text is ``1%``, ``12.5%``."""

    share: Fraction

    def __str__(self) -> str:
        percent = Decimal(100 * self.share.numerator) / self.share.denominator
        return f"{percent.normalize():f}%"  # not 5e-05, and every digit, as it is parsed again

    @property
    def folder(self) -> str:
        """Its form in names of folders and files: ``10pct``."""
        return str(self).replace("%", "pct")


@dataclass(frozen=True)
class ListFile:
    """A file that lists the labelled scans; its text is the path."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> str:
        """Its form in names of folders: the file's name without suffix."""
        return self.path.stem


Labels = Ratio | ListFile


def parse_labels(text: str) -> Labels:
    """Parse ``--labels`` and ``run.labels``: a number is a ratio, anything else a list's path.

    Raises:
        ConfigError: a number that is no ratio, see ``parse_ratio``.
    """
    return parse_ratio(text) if _NUMBER.fullmatch(text.strip()) else ListFile(Path(text))


def parse_ratio(text: str) -> Ratio:
    """Parse the share of labelled scans, exactly: ``1%``, ``10 %``, ``0.5``.

    Raises:
        ConfigError: not a number, outside (0, 1], or a bare ``1``, which may mean 1 % or all.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"'{text}' is not a ratio of labelled scans: {_EXAMPLES}")
    number, percent = match.groups()
    if number == "1" and not percent:
        raise ConfigError("ratio '1' may mean 1 % or all scans: write 1% or 100%")
    share = Fraction(number) / (100 if percent else 1)
    if not 0 < share <= 1:
        hint = f" (did you mean {number}%?)" if 1 < share <= 100 and not percent else ""
        raise ConfigError(f"ratio '{text}' is not above 0 and at most 1 (100%){hint}: {_EXAMPLES}")
    return Ratio(share)


def labelled_and_unlabelled(
    source: ScanSource, labels: Labels, seed: int
) -> tuple[list[str], list[str]]:
    """The sorted ids of the labelled scans, and of all other scans of the train split.

    The seed is for draws; a list does not depend on it.

    Raises:
        ConfigError: there is no such list.
        DataError: the list does not fit the data set.
    """
    warn_of_misnamed_labels(source, "train")
    if isinstance(labels, Ratio):
        labelled = draw_uniform(source.labelled_ids("train"), labels.share, seed)
    elif labels.path.is_file():
        labelled = sorted(read_split(labels.path))
        check_split(labelled, source, labels.path)
    else:
        raise ConfigError(
            f"labels '{labels}' is neither a ratio (1%, 10%, 0.5) nor a file that exists: "
            "give one of the two; a file lists one SEQ/FRAME a line"
        )
    chosen = set(labelled)
    return labelled, [i for i in source.scan_ids("train") if i not in chosen]


def draw_uniform(scan_ids: Sequence[str], ratio: Fraction, seed: int) -> list[str]:
    """Draw labelled scans uniformly over all scans.

    The scans are ordered by a hash of seed and id, and the first floor(ratio · N) are taken, at
    least one. So lists of one seed are nested (1 % ⊂ 10 % ⊂ 20 % ⊂ 50 %). They depend neither on
    the order of the N different ``scan_ids`` nor on the version of Python and NumPy.

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

    Uniform draws leave an almost equal scan, a tenth of a second away, unlabelled. Here sequences
    are ordered by a hash of seed and name, and their scans are joined in the order of time. The
    first floor(ratio · N) are taken, at least one: whole sequences and the beginning of one more.
    Lists of one seed are nested.

    Args:
        sequences: name -> its scans in the order of time; N scans in all.
        ratio: in (0, 1].
        seed: of the draw.
        block: order blocks of this many successive scans instead of whole sequences, each named by
            its first scan; the last of a sequence may be shorter. Blocks of 1 are ``draw_uniform``.

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
    """The scans of the train split to draw from, sequence by sequence.

    Raises:
        DataError: the train split cannot be listed.
    """
    warn_of_misnamed_labels(source, "train")
    candidates = set(source.labelled_ids("train"))
    return {
        sequence: [i for i in source.sequence_ids(sequence) if i in candidates]
        for sequence in source.sequences("train")
    }


def count_with_unlabelled_neighbour(source: ScanSource, labelled: Iterable[str]) -> int:
    """Count the labelled scans right before or after an unlabelled one of their sequence.

    Raises:
        DataError: the train split cannot be listed.
    """
    chosen, count = set(labelled), 0
    for sequence in source.sequences("train"):
        is_labelled = [scan_id in chosen for scan_id in source.sequence_ids(sequence)]
        padded = [True, *is_labelled, True]  # no neighbour before the first and after the last
        count += sum(
            here and not (before and after)
            for before, here, after in zip(padded, is_labelled, padded[2:], strict=False)
        )
    return count


def evenly_spaced(scan_ids: Sequence[str], count: int) -> list[str]:
    """Up to ``count`` of the scans, each from the middle of one of ``count`` equal stretches."""
    # Precise batch norms use these scans: other scans would change every trained network.
    count = min(count, len(scan_ids))
    return [scan_ids[(2 * i + 1) * len(scan_ids) // (2 * count)] for i in range(count)]


def _hash(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def _how_many(scan_ids: Sequence[str], ratio: Fraction) -> int:
    if not scan_ids:
        raise DataError("no scan to draw labelled ones from: the train split has none with labels")
    return max(1, len(scan_ids) * ratio.numerator // ratio.denominator)
