"""Lists of scans in other toolkits' pickles: the ``.pkl`` infos of mmdetection3d and LaserMix.

A pickle is a program. Here it may build numbers, texts and containers. Arrays in the infos are
skipped, and any other call is refused without execution.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from rangeseg.datasets.formats.files import reason
from rangeseg.errors import DataError, one_line

MOST_BYTES = 1 << 29
"""The largest pickle that is read: it grows fivefold in memory. nuScenes' infos have 0.2 to 0.4 GB.
"""

_LISTED = "data_list", "infos"
# Fields with the name of the scan, the most reliable first. mmdetection3d's `sample_id` and
# `sample_idx` are ambiguous: '111' may be 1/11 or 11/1.
_PLACES = (
    ("token",),
    ("lidar_points", "lidar_path"),
    ("lidar_path",),
    ("velodyne_path",),
    ("point_cloud", "velodyne_path"),
    ("point_cloud", "lidar_path"),
    ("pts_path",),
    ("pts_semantic_mask_path",),
    ("point_cloud", "lidar_idx"),
)
# Calls in pickles of NumPy arrays and bytes; none is executed.
_SKIPPED = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{package}.multiarray", "_reconstruct"),
        (f"{package}.multiarray", "scalar"),
        (f"{package}.numeric", "_frombuffer"),
    )
} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("__builtin__", "bytearray"),
    ("builtins", "bytearray"),
}
_CONTAINERS = {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset)
}


def is_pickled(path: Path) -> bool:
    """Whether a file is a pickle: by its first bytes, or by suffix for the oldest protocols."""
    if path.suffix.lower() in (".pkl", ".pickle"):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return False  # the reader reports the reason
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= pickle.HIGHEST_PROTOCOL


def read_pickled(path: Path) -> list[str]:
    """Read the scans of infos, in order; nothing in the file is executed.

    Supports mmdetection3d 1.x (``data_list``) and 0.x (``infos``, or only a list).

    Returns:
        For each info its first name: a token, or the path of the points or labels.

    Raises:
        DataError: the file cannot be read, is too large, wants to call something, or lists none.
    """
    infos = _load(path)
    if isinstance(infos, dict):
        infos = next((infos[key] for key in _LISTED if key in infos), infos)
    if not isinstance(infos, list | tuple):
        raise DataError(
            f"{path} holds {_held(infos)}, expected infos of mmdetection3d: a list, or a "
            "dictionary with 'data_list' or 'infos': write one SEQ/FRAME a line"
        )
    return [_name(info, number, path) for number, info in enumerate(infos)]


def _name(info: object, number: int, path: Path) -> str:
    name = next(_names(info), None)
    if name is None:
        raise DataError(
            f"{path}: info {number} names no scan (it holds {_held(info)}), expected "
            "lidar_points.lidar_path such as sequences/00/velodyne/000123.bin, or a nuScenes token"
        )
    return name


def _held(value: object) -> str:
    """The keys of a dictionary, the type of anything else: both are short for any content."""
    if not isinstance(value, dict):
        return "an array" if value is _SKIPPED_OBJECT else type(value).__name__
    keys = [key[:20] for key in list(value)[:8] if isinstance(key, str)]
    return f"a dictionary of {', '.join(keys) or 'no names'}"


def _names(info: object) -> Iterator[str]:
    for place in _PLACES:
        value = info
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            yield _short(value)


def _short(name: str) -> str:
    """A path without the folders above ``sequences``, or else above the sequence."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if len(parts) < 3:
        return name
    return "/".join(["sequences", *parts[-3:]])


class _Skipped:
    """Replaces unneeded objects, mostly arrays, by one empty object.

    It drops all arguments from the pickle.
    """

    def __new__(cls, *arguments: object, **named: object) -> _Skipped:
        return _SKIPPED_OBJECT

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


_SKIPPED_OBJECT = object.__new__(_Skipped)


class _Unpickler(pickle.Unpickler):
    """Builds plain values and refuses everything else by name."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call."""
        if (module, name) in _SKIPPED:
            return _Skipped
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        raise _RefusedError(f"{module}.{name}")


class _RefusedError(Exception):
    """A pickle calls something that no list of scans needs."""


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(
                f"{path} has {size / 1e9:.1f} GB, more than infos of any data set "
                f"({MOST_BYTES / 1e9:.1f} GB): write its scans one SEQ/FRAME a line"
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} {reason(error)}: give the file that lists the scans") from None
    try:
        # Read from memory: a false length ends at the file's end and allocates nothing.
        return _Unpickler(io.BytesIO(content)).load()
    except _RefusedError as error:
        raise DataError(
            f"{path} is a pickle that wants to call {one_line(error)}, which no list of scans "
            "needs: nothing was executed; do not open it with other tools, and ask where it is from"
        ) from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} is not a whole pickle of plain values ({type(error).__name__}: "
            f"{one_line(error)}): copy it again"
        ) from None
