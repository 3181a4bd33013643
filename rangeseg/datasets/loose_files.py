"""Find and read files of scans outside any data set, for a network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from rangeseg.datasets.base import DatasetInfo
from rangeseg.datasets.file_source import FileSource
from rangeseg.datasets.formats import file_format, read_header
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.sequences import in_order
from rangeseg.datasets.survey.find_layout import POINT_SUFFIXES, recordings_in
from rangeseg.errors import ConfigError, DataError

FILES = "files"
"""The split of loose files."""

_NO_SCANS = {"labels", "label", "predictions", "confidence"}
"""Folders with other files that have suffixes of points."""


class LooseFiles(FileSource):
    """Files of scans without labels, in the order given.

    Args:
        files: scan id -> file; see ``find_files``.
        info: the data set whose ids predictions use, with the network's sensor.
        layout: content of the files; see ``layout_of_files``.
        label_type: NumPy type of written predictions.
    """

    def __init__(
        self, files: Mapping[str, Path], info: DatasetInfo, layout: Layout, label_type: str
    ) -> None:
        super().__init__(Path(os.path.commonpath([file.absolute() for file in files.values()])))
        self.files, self.info, self.layout = dict(files), info, layout
        self.label_type = label_type

    @property
    def splits(self) -> tuple[str, ...]:
        """One split of all files."""
        return (FILES,)

    def sequences(self, split: str) -> tuple[str, ...]:
        """The folders of the files; see ``ScanSource``."""
        return tuple(dict.fromkeys(_folder_of(scan_id) for scan_id in self.files))

    def sequence_ids(self, sequence: str) -> list[str]:
        """Ids of the files of a folder; see ``ScanSource``."""
        return [scan_id for scan_id in self.files if _folder_of(scan_id) == sequence]

    def scan_ids(self, split: str) -> list[str]:
        """Ids of all files, in the order given."""
        return list(self.files)

    def paths(self, scan_id: str) -> tuple[Path, None]:
        """The file of a scan; it has no labels."""
        return self.files[scan_id], None

    def needs_labels(self, scan_id: str) -> bool:
        """No."""
        return False

    def has_labels(self, scan_id: str) -> bool:
        """No."""
        return False

    def poses(self, sequence: str) -> dict[str, np.ndarray]:
        """There are none; see ``ScanSource``."""
        raise DataError(f"the files of {self.root} have no poses", kind="missing")

    def times(self, sequence: str) -> dict[str, float]:
        """None is known."""
        return {}

    def check_root(self) -> None:
        """Check nothing: files are checked one by one."""

    def label_file(self, scan_id: str) -> str:
        """Name of a label file for this scan."""
        return f"{scan_id}.label"

    def prediction_file(self, scan_id: str, split: str) -> str:
        """The same as ``label_file``: predictions keep the structure of the files."""
        return self.label_file(scan_id)

    def encode_labels(self, labels: np.ndarray) -> np.ndarray:
        """Raw ids (N,) as the data set's own label files hold them; see ``ScanSource``."""
        return self.info.label_map.to_raw(labels).astype(self.label_type)


def find_files(paths: Sequence[Path], more_suffixes: Sequence[str] = ()) -> dict[str, Path]:
    """Find the scans in the user's files and folders.

    Each folder, with its subfolders, gives the files with its most frequent suffix of points. A
    file given by name may have any suffix.

    Args:
        paths: files and folders.
        more_suffixes: further suffixes of point files in folders.

    Returns:
        Scan id -> file. An id is the name without suffix; in a folder it is the path relative to
        it, or to the common part of several folders. Numbers are in order: 9 before 10.

    Raises:
        ConfigError: two files would have one id.
        DataError: a path does not exist or cannot be read, or a folder holds no scan.
    """
    suffixes = tuple(dict.fromkeys((*POINT_SUFFIXES, *more_suffixes)))
    # Not resolve(): a link's own name counts.
    folders = [os.path.abspath(path) for path in paths if path.is_dir()]
    common = os.path.commonpath(folders) if folders else ""
    found: dict[str, Path] = {}
    for path in paths:
        prefix = PurePath(os.path.relpath(path, common) if path.is_dir() else "")
        for name, file in _files_of(path, suffixes):
            scan_id = (prefix / name).as_posix()
            if found.setdefault(scan_id, file) != file:
                raise ConfigError(
                    f"{file} and {found[scan_id]} would both be written as {scan_id}: predict one "
                    "of them into another --out"
                )
    return found


def layout_of_files(own: Layout, file: Path, stated: Layout) -> Layout:
    """The layout of loose files: as in the network's data set, as far as their format allows.

    Raw files have the data set's columns. Named fields have the data set's stated names if the file
    has them, otherwise the usual ones.

    Args:
        own: layout of the network's training data.
        file: one of the files.
        stated: the user's layout; only fields that were set count.

    Raises:
        ConfigError: points in the world's frame; loose files have no poses.
        DataError: the file cannot be read.
    """
    values = own.model_dump()
    if file_format(file) != "raw":
        names = read_header(file, own).names
        values |= {"ring_column": None, "time_column": None}
        values["fields"] = {r: n for r, n in own.fields.items() if n in names}
    values |= {name: getattr(stated, name) for name in stated.model_fields_set}
    layout = Layout.model_validate(values)
    if layout.frame == "world":
        raise ConfigError(
            "the network's data set has points in the world's frame, but loose files have no "
            "poses: give points in the sensor's frame, and add --layout frame=sensor"
        )
    return layout


def _files_of(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Names and files of one path, in order."""
    if path.is_dir():
        below = list(_below(path, suffixes, set()))
        if not below:
            raise _no_scans(path)
        for file, suffix in below:
            yield file.relative_to(path).as_posix()[: -len(suffix)], file
    elif path.exists():
        yield path.name[: len(path.name) - len(_suffix(path.name, suffixes))], path
    else:
        raise DataError(f"{path} does not exist: give files or folders of scans", kind="missing")


def _below(
    folder: Path, suffixes: tuple[str, ...], visited: set[Path]
) -> Iterator[tuple[Path, str]]:
    """Files of points in a folder and below, with their suffix; links may lead in a circle."""
    if (real := folder.resolve()) in visited:
        return
    visited.add(real)
    try:
        inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from None
    files = {p: _suffix(p.name, suffixes) for p in inside if p.is_file()}
    kinds = Counter(suffix.lower() for suffix in files.values() if suffix)
    if kinds:
        kind = kinds.most_common(1)[0][0]
        for file in sorted(files, key=lambda file: in_order(file.name)):
            if files[file].lower() == kind:
                yield file, files[file]
    folders = [p for p in inside if p.is_dir() and p.name.lower() not in _NO_SCANS]
    for below in sorted(folders, key=lambda p: in_order(p.name)):
        yield from _below(below, suffixes, visited)


def _no_scans(folder: Path) -> DataError:
    if bags := recordings_in(folder):
        return DataError(
            f"{folder} holds recordings ({bags[0]}), not files of scans: `rangeseg-data import "
            f"{folder} --out DIR` writes their scans as files"
        )
    names = sorted(p.name for p in folder.iterdir())
    found = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return DataError(
        f"{folder} holds no files of scans (found: {found or 'nothing'}): give a folder of "
        f"{', '.join(POINT_SUFFIXES[1:])} files, or the files themselves",
        kind="missing",
    )


def _suffix(name: str, suffixes: tuple[str, ...]) -> str:
    """The point suffix at the end of a name, unchanged; empty if none."""
    ends = [name[-len(suffix) :] for suffix in suffixes if name.lower().endswith(suffix)]
    return max((end for end in ends if len(end) < len(name)), key=len, default="")


def _folder_of(scan_id: str) -> str:
    return scan_id.rpartition("/")[0] or "."
