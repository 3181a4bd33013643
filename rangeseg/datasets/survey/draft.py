"""Draft a description of a folder of scans from its files."""

from __future__ import annotations

import colorsys
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rangeseg.datasets.custom import MOST_CLASSES, Custom, Description
from rangeseg.datasets.labels import classes_of
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.datasets.split_files import SEQUENCE_NAME
from rangeseg.datasets.splits import evenly_spaced
from rangeseg.datasets.survey.complete_layout import complete_layout
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.find_layout import find_scans, recordings_in
from rangeseg.datasets.survey.judge import first_scans, judge_files, judge_source, refuse_unless
from rangeseg.datasets.survey.row_rules import MOST_BEAMS
from rangeseg.datasets.survey.verdicts.base import Verdict
from rangeseg.datasets.survey.verdicts.numbers import judge_numbers
from rangeseg.errors import DataError

_GOLDEN = 0.618034  # successive hues this far apart never meet


@dataclass(frozen=True)
class Draft:
    """Facts about a folder before its scans are measured.

    Attributes:
        root: the folder of the data set: the parent, if a sequence was given.
        description: complete except for the sensor and the statistics.
        left_out: folders next to the sequences without scans.
        raw_ids: raw id -> points in the labelled scans read.
    """

    root: Path
    description: Description
    sequences: Mapping[str, list[str]]
    left_out: Sequence[str]
    raw_ids: Mapping[int, int]


def draft_description(root: Path, layout: Layout, most: int, anyway: bool = False) -> Draft:
    """Describe a folder of scans by its files.

    The files complete ``layout``: folders and endings of points and labels, columns, ring, type of
    the labels. Each raw id becomes a class, except ids that usually mean no class.

    Args:
        root: the folder that holds ``sequences/``, or folders of scans, or the scans of one
            sequence.
        layout: the known part of the layout.
        most: largest number of label files to read, evenly spaced.
        anyway: continue although the files contradict the layout's number type.

    Raises:
        DataError: there is no scan, or the files contradict the layout.
    """
    found = find_scans(root, layout)
    folder = SequenceFolder(found.root)
    folder.layout = layout = Layout.model_validate(found.places)
    sequences, left_out = _find_scans(folder, root, found.only)
    scan_ids = [scan_id for ids in sequences.values() for scan_id in ids]
    _check_readable(found.root, layout, sequences, judge_numbers, anyway)
    folder.layout = layout = complete_layout(folder, scan_ids)
    _check_readable(found.root, layout, sequences, judge_files, anyway)

    labelled = [scan_id for scan_id in scan_ids if folder.has_labels(scan_id)]
    raw_ids: Counter[int] = Counter()
    for scan_id in evenly_spaced(labelled, most):
        classes = classes_of(folder.read_raw_labels(scan_id))
        ids, counts = np.unique(classes, return_counts=True)
        raw_ids.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
    ignored = _without_class(raw_ids, layout)
    own = sorted(raw_ids.keys() - ignored) or [0]
    if len(own) > MOST_CLASSES:
        raise DataError(
            f"{len(own)} different ids in the labels of {root}, at most {MOST_CLASSES} can be "
            f"classes: is {layout.label_type} their type, and do they hold classes?"
        )
    names = list(sequences)
    values = {
        "layout": layout.model_dump(),
        "classes": [
            {"name": f"class_{raw}", "ids": [raw], "colour": colour}
            for raw, colour in zip(own, _colours(own, layout), strict=True)
        ],
        # Uncertain points of pseudo-labels need one.
        "ignored_ids": sorted(ignored - set(own)),
        "sensor": {"beams": MOST_BEAMS, "fov_up_deg": 90, "fov_down_deg": -90},
        "sequences": {
            "train": names[:-1] or names,
            "val": names[-1:] if names[1:] else [f"{names[0]}-val"],
        },
        "statistics": {},
    }
    described = Description.model_validate(values)
    return Draft(found.root, described, sequences, left_out, raw_ids)


def _check_readable(
    root: Path,
    layout: Layout,
    sequences: Mapping[str, Sequence[str]],
    judge: Callable[[Evidence], Iterable[Verdict]],
    anyway: bool,
) -> None:
    """Judge the files of a folder before their scans are read.

    Raises:
        DataError: they contradict the layout's number type.
    """
    placeholder = Description.model_validate(
        {
            "layout": layout.model_dump(exclude_unset=True),
            "classes": [{"name": "any", "ids": [0], "colour": [0, 0, 0]}],
            "sensor": {"beams": MOST_BEAMS, "fov_up_deg": 90, "fov_down_deg": -90},
            "sequences": {"train": ["any"], "val": ["other"]},
            "statistics": {},
        }
    )
    source, scans = Custom(root, placeholder), first_scans(sequences)
    refuse_unless(anyway, judge_source(source, scans, judge, sensor=False, labels=False))


def distinct_colours(count: int) -> list[tuple[int, int, int]]:
    """Distinct colours (red, green, blue), by eye up to a few dozen."""
    colours = []
    for i in range(count):
        saturation, value = (0.9, 0.55, 0.75)[i % 3], (0.95, 0.8, 0.6)[i // 3 % 3]
        red, green, blue = colorsys.hsv_to_rgb(i * _GOLDEN % 1.0, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _without_class(raw_ids: Mapping[int, int], layout: Layout) -> set[int]:
    """The ids that mean no class: below 0, or the last of an unsigned type, or else 0."""
    last = {"uint8": 255, "uint16": 65535, "uint32": 65535}.get(layout.label_type)  # usually -1
    none = {raw for raw in raw_ids if raw < 0 or raw == last}
    return none or {0}


def _colours(own: Sequence[int], layout: Layout) -> list[tuple[int, int, int]]:
    """Colours of classes: the labels themselves, if they are colours."""
    if layout.label_type == "colour":
        return [(raw >> 16 & 255, raw >> 8 & 255, raw & 255) for raw in own]
    return distinct_colours(len(own))


def _find_scans(
    folder: SequenceFolder, named: Path, only: str | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Sequence -> ids of its scans, and the folders without scans."""
    if named.is_dir() and (bags := recordings_in(named)) and only is None:
        raise DataError(
            f"{named} holds {', '.join(bags[:3])}: bags are not read in place: import their scans "
            f"with `rangeseg-data import {named} --out ROOT`"
        )
    folder.check_root()
    sequences, left_out = {}, []
    there = sorted(p.name for p in folder.sequences_root.iterdir() if p.is_dir())
    for name in there if only is None else [only]:
        try:
            if not re.fullmatch(SEQUENCE_NAME, name):
                raise DataError(f"'{name}' cannot name a sequence", "missing")
            sequences[name] = folder.sequence_ids(name)
        except DataError as error:
            if error.kind != "missing":
                raise
            left_out.append(name)
    if sequences:
        return sequences, left_out
    layout, first = folder.layout, folder.sequences_root / (left_out or [""])[0]
    inside = sorted(str(p.relative_to(first)) for p in first.glob("*/*"))[:3]
    raise DataError(
        f"no sequence of {folder.root} has files {layout.points_folder}/FRAME"
        f"{layout.points_suffix}; {first} holds {', '.join(inside) or 'no folder with files'}: "
        "state where the points are with --layout points_folder=... points_suffix=..."
    )
