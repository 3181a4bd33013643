"""A folder with one file per scan as a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.formats import count_points, read_fields
from rangeseg.datasets.formats.files import file_size
from rangeseg.datasets.importing.columns import as_labels
from rangeseg.datasets.importing.recording import Frame, Recording
from rangeseg.datasets.label_files import read_labels
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.pose_files import POSES, read_sequence_poses, read_times
from rangeseg.datasets.sequences import in_order
from rangeseg.errors import DataError

SUFFIXES = (".bin", ".npy", ".npz", ".pcd", ".ply", ".las", ".laz")

_LABEL_TYPES = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64"}


def scan_files(folder: Path) -> list[Path]:
    """The point files in a folder with the most frequent suffix, unsorted."""
    # Skip dot files: macOS leaves ._000000.bin beside every copied file.
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    kinds = Counter(s for f in files if (s := f.suffix.lower()) in SUFFIXES)
    if not kinds:
        return []
    return [f for f in files if f.suffix.lower() == kinds.most_common(1)[0][0]]


class FileRecording(Recording):
    """Files of scans in the order of their names.

    Labels lie beside them with the same name but ``.label``, or in a folder ``labels`` beside
    theirs, as in ``layout``; times and poses in ``times.txt`` and ``poses.txt`` of the same
    folder.

    Args:
        path: the given file or folder.
        files: files of points.
        layout: content of the files.
    """

    unit = "scans"

    def __init__(self, path: Path, files: Sequence[Path], layout: Layout) -> None:
        self.path, self._layout = path, layout
        self._files = sorted(files, key=lambda file: in_order(file.stem))
        self.total = len(self._files)

    def identity(self) -> dict[str, Any]:
        """Their folder or file."""
        return {"source": str(self.path.resolve())}

    def frames(self) -> Iterator[Frame]:
        """All scans; see ``Recording``."""
        times = read_times(self._files[0].parent, self._ids())
        for scan_id, file in zip(self._ids(), self._files, strict=True):
            time = times.get(scan_id)
            stamp = None if time is None else round(time * 1e9)
            points = count_points(file, self._layout)
            labels = _label_file(file, self._layout)
            yield Frame(
                str(file), stamp, points, partial(read_fields, file, self._layout),
                partial(_read_labels, labels, file, points, self._layout) if labels else None,
            )  # fmt: skip

    def poses(self, names: list[str], stamps_ns: list[int | None]) -> tuple[np.ndarray, str]:
        """Those of ``poses.txt``; see ``Recording``."""
        folder = self._files[0].parent
        if not (folder / POSES).is_file():
            raise DataError(f"there is no {POSES} beside the scans", kind="missing")
        found = read_sequence_poses(folder, self._ids(), camera=False)
        of_file = {str(f): found.get(i) for i, f in zip(self._ids(), self._files, strict=True)}
        nowhere = np.full((4, 4), np.nan)
        poses = [pose if (pose := of_file[name]) is not None else nowhere for name in names]
        return np.array(poses), POSES

    def _ids(self) -> list[str]:
        return [f"{self.path.name}/{file.stem}" for file in self._files]


def _label_file(file: Path, layout: Layout) -> Path | None:
    name = f"{file.stem}{layout.labels_suffix}"
    places = (file.with_name(name), file.parent.parent / layout.labels_folder / name)
    return next((place for place in places if place.is_file() and place != file), None)


def _read_labels(path: Path, file: Path, points: int, layout: Layout) -> np.ndarray:
    """Labels (N,) uint32; the file's size decides their type if it is not stated."""
    width, rest = divmod(file_size(path) or 0, points)
    kind = None if rest else _LABEL_TYPES.get(width)
    if kind is not None and "label_type" not in layout.model_fields_set:
        layout = layout.model_copy(update={"label_type": kind})
    return as_labels(read_labels(path, file, points, layout), path)
