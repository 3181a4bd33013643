"""Find the recordings in the user's sources, each with the name of its sequence."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rangeseg.datasets.formats import file_format
from rangeseg.datasets.importing.bag_recording import BagRecording
from rangeseg.datasets.importing.bags import is_bag
from rangeseg.datasets.importing.file_recording import FileRecording, scan_files
from rangeseg.datasets.importing.recording import Recording
from rangeseg.datasets.layout import Layout
from rangeseg.errors import ConfigError, DataError


def find_recordings(
    sources: Sequence[Path], topic: str | None, layout: Layout
) -> dict[str, Recording]:
    """Open the user's sources.

    Args:
        sources: bags, files of scans, folders of such files, and folders that hold several of
            these.
        topic: topic of bags; None takes the only topic with points.
        layout: content of files of scans.

    Returns:
        Name of the sequence -> recording. It is the name of the file or folder. Characters that a
        labelled list cannot hold become ``_``, and a repeated name gets ``_2``.

    Raises:
        ConfigError: a topic must be chosen, or is given without a bag; raw files without their
            number of columns.
        DataError: a source is missing or holds no scans.
    """
    paths = list(dict.fromkeys(p for source in sources for p in _expand(source)))
    bags = {path for path in paths if is_bag(path)}
    if topic is not None and not bags:
        raise ConfigError(f"--topic {topic} is for bags, and none is given: leave it out")
    found: dict[str, Recording] = {}
    for path in paths:
        if path in bags:
            found[_free_name(path, found)] = BagRecording(path, topic)
        else:
            files = scan_files(path) if path.is_dir() else [path]
            _check_raw(files[0], layout)
            found[_free_name(path, found)] = FileRecording(path, files, layout)
    return found


def _expand(source: Path) -> Iterator[Path]:
    """The recordings in a source: itself, or what lies in the folder."""
    if not source.exists():
        raise DataError(f"{source} does not exist: give a bag, or a file or folder of scans")
    if not source.is_dir() or is_bag(source) or scan_files(source):
        yield source
        return
    inside = [p for p in sorted(source.iterdir()) if not p.name.startswith(".")]
    found = [p for p in inside if is_bag(p) or (p.is_dir() and scan_files(p))]
    if not found:
        names = ", ".join(p.name for p in inside[:5]) or "nothing"
        raise DataError(
            f"{source} holds no bag and no files of scans (found: {names}): give a bag, or the "
            "folder with the files of points"
        )
    yield from found


def _check_raw(path: Path, layout: Layout) -> None:
    """Refuse a raw file without a stated number of values per point."""
    if file_format(path) == "raw" and "columns" not in layout.model_fields_set:
        raise ConfigError(
            f"{path} is raw: state its values per point, e.g. --layout columns=4 (or do not import "
            "it: raw files are read where they are, see `rangeseg-data stats custom`)"
        )


def _free_name(path: Path, taken: dict[str, Recording]) -> str:
    named = Path(os.path.abspath(path))  # not resolve(): a link's own name counts
    name = named.name if named.is_dir() else named.stem
    name = re.sub(r"[^\w.-]+", "_", name).lstrip(".-") or "recording"
    numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(n for n in numbered if n not in taken)
