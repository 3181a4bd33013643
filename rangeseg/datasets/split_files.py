"""Lists of labelled scans on the disk: read, write, check, recognise published ones."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.pickled_lists import is_pickled, read_pickled
from rangeseg.errors import ConfigError, DataError
from rangeseg.system.files import writable, write_file

_ONE_A_LINE = "write one SEQ/FRAME a line, e.g. 00/000123 (nuScenes: one sample token)"

_GZIP = b"\x1f\x8b"
# No path, no comment, no blank at an end, no leading dot, which excludes . and .. too.
_INNER = r"[^\s/\\#\x00-\x1f\x7f]"
_WORDS = rf"(?!\.){_INNER}+(?: +{_INNER}+)*"
SEQUENCE_NAME = rf"(?:{_WORDS})"
"""Names that labelled lists can hold, and so folders of sequences."""

_FRAME = rf"({_WORDS})"
_SUFFIX = r"\.(?:bin|label|npy)"
_NO_SUFFIX = r"(?<!\.bin)(?<!\.label)(?<!\.npy)"  # faster than a lazy _FRAME
_SHORT = re.compile(rf"({SEQUENCE_NAME})/{_FRAME}(?:{_SUFFIX}|{_NO_SUFFIX})")
_LONG = re.compile(rf"(?:.*/)?sequences/({SEQUENCE_NAME})/{SEQUENCE_NAME}/{_FRAME}{_SUFFIX}")
# Two columns of paths are not one path.
_COLUMNS = re.compile(rf"{_SUFFIX}\s")
_TOKEN = re.compile(r"[0-9a-f]{32}")

# By ``fingerprint``. ScribbleKITTI uses SemanticKITTI's lists.
_LASERMIX_UNIFORM = {
    "d30a4fe07ab15ac8896a9ec80c4c2845641c8379b28cb819af24ffa75543fe8a": "SemanticKITTI 1 %",
    "77aa6086b008e24968c13fae0d889945d54eed06feb0c92437adf0da8198ec02": "SemanticKITTI 10 %",
    "0b90944f9d5be42c1269438feca17f4405aa86456f94d79075388529783ce966": "SemanticKITTI 20 %",
    "f23ad431339051f2b379a49bc6feb43a52e74a1daf652ac358f36126ad84d854": "SemanticKITTI 50 %",
    "33ccc457e08f157d4464ad0fbd43a9005cdd81bfc390f16d2b93e1212990a073": "nuScenes 1 %",
    "c86bcde189530528a9e25e876869812fbcabcc36912574911ff9b41f521f40d3": "nuScenes 10 %",
    "cdb9e5ad5554fa7ca30326c2aff44461360ad7ddd76d754b6005ec285509505a": "nuScenes 20 %",
    "5c701d1fd57d63527641e322f296639d84bc9c121f63a6b958dc4dd2a55ed63f": "nuScenes 50 %",
}


def read_split(path: Path) -> list[str]:
    """Read a list of scans, one a line, in any form of ``scan_id_of``.

    Blank lines and comments after ``#`` are skipped; a gzip file is unpacked, whatever its name. A
    pickle of infos (``.pkl``) gives its scans, see ``read_pickled``.

    Returns:
        The ids in the order of the file; ``check_split`` compares them with the data set.

    Raises:
        DataError: the file cannot be read, or a line is no id.
    """
    if is_pickled(path):
        infos = enumerate(read_pickled(path))
        return [_named(name, f"{path}: info {number}") for number, name in infos]
    lines = enumerate(_read_text(path).splitlines(), start=1)
    texts = ((number, line.partition("#")[0].strip()) for number, line in lines)
    return [_named(text, f"{path}:{number}") for number, text in texts if text]


def write_split(path: Path, ids: Iterable[str], comment: str) -> None:
    """Write a list for ``read_split``; create folders, and compress a name in ``.gz``.

    The comment, the origin of the list, is written first, after ``#``.

    Raises:
        ConfigError: the file exists or cannot be written.
    """
    if path.exists():
        raise ConfigError(
            f"{path} exists and is not overwritten: choose another name or remove it yourself"
        )
    lines = [f"# {line}" for line in comment.splitlines()] + list(ids)
    content = ("\n".join(lines) + "\n").encode()
    with writable(path, "make room, or choose another folder"):
        write_file(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def check_split(labelled: Sequence[str], source: ScanSource, path: Path) -> None:
    """Check that a list, read from ``path``, can be the labelled scans of a data set.

    Raises:
        DataError: the list is empty, repeats a scan, belongs to another data set, or names a scan
            outside the train split or without labels.
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


def scan_id_of(text: str) -> str | None:
    r"""Parse a line of a list to a scan id; None if it is none.

    Accepts ``00/000123`` with or without a suffix, and nuScenes sample tokens (32 hexadecimal
    digits). Also accepts paths in KITTI's layout below any folder
    (``/data/sequences/00/velodyne/000123.bin``, ``sequences\00\labels\000123.label``). Names may
    hold blanks, but not end with one. The result is never a path.
    """
    if _TOKEN.fullmatch(text):
        return text
    text = text.replace("\\", "/")
    if _COLUMNS.search(text):
        return None
    match = _SHORT.fullmatch(text) or _LONG.fullmatch(text)
    return f"{match[1]}/{match[2]}" if match else None


def is_token(scan_id: str) -> bool:
    """Whether a scan id is a nuScenes sample token rather than ``SEQ/FRAME``."""
    return "/" not in scan_id


def published_name(scan_ids: Iterable[str]) -> str | None:
    """Name of the published list with these scans, in any order; None if unknown."""
    which = _LASERMIX_UNIFORM.get(fingerprint(scan_ids))
    return None if which is None else f"LaserMix (Kong et al. 2023) uniform, {which}"


def fingerprint(scan_ids: Iterable[str]) -> str:
    """The sha256 of the sorted unique ids, one a line: the same for any order."""
    return hashlib.sha256("\n".join(sorted(set(scan_ids))).encode()).hexdigest()


def _named(text: str, where: str) -> str:
    scan_id = scan_id_of(text)
    if scan_id is None:
        raise DataError(f"{where}: '{text[:60]}' is not a scan id: {_ONE_A_LINE}")
    return scan_id


def _read_text(path: Path) -> str:
    """The text of a list, plain or packed by gzip."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            # utf-8-sig: Windows editors put a byte order mark before the first id.
            return file.read().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: give the file that lists the scans") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as a list of scans ({error}): give a text file, plain or "
            "packed by gzip, or copy this one again"
        ) from None


def _other_kind(labelled: Sequence[str], known: str, source: ScanSource, path: Path) -> str:
    """The message for a list with ids in another form than the data set's."""
    name = published_name(labelled)
    form, guess = "SEQ/FRAME", "SemanticKITTI or a data set in its layout"
    if is_token(labelled[0]):
        form, guess = "nuScenes sample tokens", "nuScenes"
    return (
        f"{path} lists {form} (first: {labelled[0]}), but scans of "
        f"{source.info.name} are named like {known}: the list "
        f"{f'is {name}' if name else f'seems to be for {guess}'}: use a list of this data set"
    )


def _some(names: Sequence[str]) -> str:
    """Up to three names, and the number of further ones."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _splits_of(scan_ids: Sequence[str], source: ScanSource) -> dict[str, str]:
    """The other split of each scan, as far as other splits are on the disk."""
    found: dict[str, str] = {}
    for split in source.splits:
        if split != "train":
            with suppress(DataError):
                found |= dict.fromkeys(set(source.scan_ids(split)).intersection(scan_ids), split)
    return found
