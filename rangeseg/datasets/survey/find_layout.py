"""Find the scans and labels in a folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rangeseg.datasets.layout import Layout
from rangeseg.datasets.split_files import SEQUENCE_NAME

POINT_SUFFIXES = (".pcd.bin", ".pcd", ".ply", ".las", ".laz", ".npz", ".bin", ".npy")
"""Suffixes of point files; of two equally frequent ones the first wins, the other is labels."""

RECORDINGS = (".bag", ".db3", ".mcap")

_LABELS = re.compile(r"label|semantic|annot|ground.?truth|\bgt\b|class|seg", re.IGNORECASE)
_POINTS = re.compile(r"velo|point|lidar|cloud|scan|pcd|bin", re.IGNORECASE)
_NO_LABELS = (".txt", ".json", ".yaml", ".yml", ".xml", ".png", ".jpg", ".jpeg", ".csv", ".md")
_NOT_OURS = re.compile(r"predict|confidence|image|calib", re.IGNORECASE)


class Found(NamedTuple):
    """The place of scans.

    Attributes:
        root: the folder of the data set.
        places: layout keys ``sequences_folder``, ``points_folder``, ``points_suffix``.
        only: the only sequence, if the user gave one folder of scans.
    """

    root: Path
    places: dict[str, Any]
    only: str | None = None


def find_scans(root: Path, stated: Layout) -> Found:
    """Find the folders of scans: KITTI's layout, a folder of folders, or one folder.

    Stated keys are kept. If nothing is found, the usual places are returned.

    Args:
        root: the user's folder.
        stated: the known part of the layout.
    """
    known = {name: getattr(stated, name) for name in stated.model_fields_set}
    if "sequences_folder" in known or (root / "sequences").is_dir():
        below = root / known.get("sequences_folder", "sequences")
        return Found(root, known | _inside(_folders(below), known))
    if root.resolve().parent.name == "sequences":
        return Found(root, known)  # `check_root` names the intended folder
    sequences = _folders(root)
    alone = root if root.name not in ("", "..") else root.resolve()
    if _count(root, known):
        places = {"sequences_folder": ".", "points_folder": ".", "points_suffix": _suffix([root])}
        return Found(alone.parent, places | known, alone.name)
    with_points = [folder for folder in sequences if _count(folder, known)]
    if len(with_points) == 1 and _is_part(with_points[0], sequences):
        places = {"sequences_folder": ".", "points_folder": with_points[0].name}
        places["points_suffix"] = _suffix(with_points)
        return Found(alone.parent, places | known, alone.name)
    inside = _inside(sequences, known)
    if not inside:
        return Found(root, known)
    return Found(root, {"sequences_folder": "."} | inside | known)


def find_labels(
    sequence: Path, layout: Layout, frames: Iterable[str]
) -> Iterator[tuple[str, str, list[str]]]:
    """Find candidate folders and suffixes of label files, the most likely first.

    Args:
        sequence: folder of the sequence.
        layout: layout with the place of its points.
        frames: names of its scans, without suffix.

    Yields:
        ``labels_folder``, ``labels_suffix`` and the frames with such a file.
    """
    names = set(frames)
    found: list[tuple[bool, int, str, str, list[str]]] = []
    for folder in [sequence, *_folders(sequence)]:
        place = folder.relative_to(sequence).as_posix()
        if _NOT_OURS.search(place):
            continue
        with_points = place == Path(layout.points_folder).as_posix()
        for suffix, stems in _by_suffix(folder, names).items():
            points = with_points and suffix == layout.points_suffix
            named = suffix == ".label" or bool(_LABELS.search(place + suffix))
            if not points and suffix.lower() not in _NO_LABELS and (named or with_points):
                found.append((not named, -len(stems), place, suffix, stems))
    for *_, place, suffix, stems in sorted(found):
        yield place, suffix, stems


def recordings_in(root: Path) -> list[str]:
    """Names of the bags in a folder, which must be imported."""
    return sorted(p.name for p in root.glob("*") if p.suffix.lower() in RECORDINGS)


def _inside(sequences: Sequence[Path], known: dict[str, Any]) -> dict[str, Any]:
    """The place of most scans, relative to their sequence; empty without scans."""
    if "points_folder" in known and "points_suffix" in known:
        return {}
    places: Counter[str] = Counter()
    for sequence in sequences:
        for folder in [sequence, *_folders(sequence)]:
            place = folder.relative_to(sequence).as_posix()
            places[place] += _count(folder, known)
    if "points_folder" in known:
        place = str(known["points_folder"])
    else:
        best = max(places.values(), default=0)
        if not best:
            return {}
        likely = [p for p, count in places.items() if count == best]
        place = next((p for p in likely if _POINTS.search(p)), likely[0])
        if places["velodyne"]:
            place = "velodyne"
    folders = [sequence / place for sequence in sequences]
    suffix = _suffix(folders)
    return {"points_folder": place} | ({"points_suffix": suffix} if suffix else {})


def _count(folder: Path, known: dict[str, Any]) -> int:
    """Count the point files in a folder; 0 if its name means labels."""
    if _LABELS.search(folder.name) or _NOT_OURS.search(folder.name):
        return 0
    suffix = known.get("points_suffix")
    endings = POINT_SUFFIXES if suffix is None else (suffix,)
    return sum(name.lower().endswith(endings) for name in _names(folder))


def _is_part(points: Path, siblings: Sequence[Path]) -> bool:
    """Whether a folder of points is part of a sequence, rather than a sequence."""
    labels = any(_LABELS.search(folder.name) for folder in siblings)
    return labels or bool(_POINTS.fullmatch(points.name) or points.name == "velodyne")


def _suffix(folders: Iterable[Path]) -> str:
    """The most common suffix of point files, see POINT_SUFFIXES; empty without any."""
    endings: Counter[str] = Counter()
    for folder in folders:
        for name in _names(folder):
            ending = next((s for s in POINT_SUFFIXES if name.lower().endswith(s)), None)
            if ending is not None:
                endings[name[-len(ending) :]] += 1
    # Some `.pcd.bin` among `.bin` are `.bin`.
    longer = endings[".pcd.bin"]
    if longer and endings[".bin"]:
        endings[".bin"] += longer
        del endings[".pcd.bin"]
    order = {suffix: number for number, suffix in enumerate(POINT_SUFFIXES)}
    return min(endings, key=lambda s: (-endings[s], order[s.lower()]), default="")


def _by_suffix(folder: Path, frames: set[str]) -> dict[str, list[str]]:
    """Suffix -> frames with such a file."""
    found: dict[str, list[str]] = {}
    for name in _names(folder):
        for dot in (i for i, letter in enumerate(name) if letter == "."):
            if name[:dot] in frames:
                found.setdefault(name[dot:], []).append(name[:dot])
                break
    return found


def _folders(folder: Path) -> list[Path]:
    """The possible sequences in a folder, sorted."""
    try:
        inside = [p for p in folder.iterdir() if p.is_dir()]
    except OSError:
        return []
    return sorted(p for p in inside if re.fullmatch(SEQUENCE_NAME, p.name))


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return []
