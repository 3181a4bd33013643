"""Labelled lists as others publish them: how they name scans, and which list is which."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from rangeseg.errors import DataError

_GZIP = b"\x1f\x8b"
_MOST_BYTES = 1 << 26  # of a list: all of nuScenes takes 1 MB, but a packed file may unpack to TB
# A name does not start with a dot, so that neither . nor .. is one.
_NAME = r"\w[\w.-]*"
# What a line can hold: no path, no comment, no control character, nothing that UTF-8 cannot write.
_IN_FRAME = r"[^\s/\\#\x00-\x1f\x7f\ud800-\udfff]"
_FRAME = rf"((?!\.){_IN_FRAME}+)"
_SUFFIX = r"\.(?:bin|label|npy)"
_NO_SUFFIX = r"(?<!\.bin)(?<!\.label)(?<!\.npy)"  # faster than a lazy _FRAME
_SHORT = re.compile(rf"({_NAME})/{_FRAME}(?:{_SUFFIX}|{_NO_SUFFIX})")
# No blank in the folders above: two columns of paths are not one path.
_LONG = re.compile(rf"(?:\S*/)?sequences/({_NAME})/{_NAME}/{_FRAME}{_SUFFIX}")
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


def read_text(path: Path) -> str:
    """The text of a list, plain or packed by gzip, whatever the file is called.

    Raises:
        DataError: the file is missing, damaged, or no text.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(
                f"{path} is longer than {_MOST_BYTES >> 20} MiB{' unpacked' if packed else ''}, "
                "so it is no list of scans: give another file"
            )
        # utf-8-sig: Windows editors put a byte order mark in front of the first id.
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: give the file that lists the scans") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read as a list of scans ({error}): give a text file, plain or "
            "packed by gzip, or copy this one again"
        ) from None


def scan_id_of(text: str) -> str | None:
    r"""The scan that a line of a list names, None if it names none.

    Known are ``00/000123`` with or without a suffix, paths of its files in KITTI's layout with
    any folder above (``/data/sequences/00/velodyne/000123.bin``,
    ``sequences\00\labels\000123.label``), and nuScenes sample tokens (32 hexadecimal digits).
    Only names come out of this, never a path.
    """
    if _TOKEN.fullmatch(text):
        return text
    text = text.replace("\\", "/")
    match = _SHORT.fullmatch(text) or _LONG.fullmatch(text)
    return f"{match[1]}/{match[2]}" if match else None


def is_token(scan_id: str) -> bool:
    """Whether a scan id is a nuScenes sample token rather than ``SEQ/FRAME``."""
    return "/" not in scan_id


def id_form(scan_id: str) -> str:
    """What form an id has, for messages."""
    return "nuScenes sample tokens" if is_token(scan_id) else "SEQ/FRAME"


def published_name(scan_ids: Iterable[str]) -> str | None:
    """Which published list these scans are, in any order; None if none that is known here."""
    which = _LASERMIX_UNIFORM.get(fingerprint(scan_ids))
    return None if which is None else f"LaserMix (Kong et al. 2023) uniform, {which}"


def fingerprint(scan_ids: Iterable[str]) -> str:
    """What a list is recognised by: the sha256 of its sorted unique ids, a line each."""
    return hashlib.sha256("\n".join(sorted(set(scan_ids))).encode()).hexdigest()
