"""Detect the layout of a folder's files: columns, ring, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.formats import count_points, file_format, npy, raw
from rangeseg.datasets.formats.files import file_size
from rangeseg.datasets.label_files import open_npy_labels
from rangeseg.datasets.layout import LABEL_TYPES, Layout
from rangeseg.datasets.scan_files import PointFile, read_points
from rangeseg.datasets.sequences import SequenceFolder
from rangeseg.datasets.survey.find_layout import find_labels
from rangeseg.datasets.survey.row_rules import find_ring

_MOST_COLUMNS = 16
_VALUES = 200_000  # bytes of a file, enough to detect repetition
_ALIKE = 0.5  # least correlation of neighbouring points' values; above .8 in all tested scans


def complete_layout(folder: SequenceFolder, scan_ids: Sequence[str]) -> Layout:
    """Complete the user's layout from the files."""
    layout = folder.layout
    told: dict[str, Any] = {"ring_zero": "highest"}  # the inclinations decide
    path = folder.paths(scan_ids[0])[0]
    if "columns" not in layout.model_fields_set:
        told["columns"] = guess_columns(path, layout)
    folder.layout = layout = Layout.model_validate(layout.model_dump(exclude_unset=True) | told)
    file = read_points(path, layout)
    if not {"ring_column", "ring"} & (layout.model_fields_set | layout.fields.keys()):
        told |= _ring(file, layout)
    folder.layout = Layout.model_validate(layout.model_dump(exclude_unset=True) | told)
    told |= _labels(folder, scan_ids, file)
    return Layout.model_validate(layout.model_dump(exclude_unset=True) | told)


def _ring(file: PointFile, layout: Layout) -> dict[str, Any]:
    """The layout key of the beam: a field by its name, or a column by its values."""
    if "column_4" in file.fields or len(file.fields) <= 4:
        rest = [file.fields[name] for name in list(file.fields)[4:]]
        column = find_ring(np.column_stack([file.points, *rest]))
        return {} if column is None else {"ring_column": column}
    if "ring" not in file.roles:
        return {}
    name = file.roles["ring"]
    if find_ring(np.column_stack([file.points, file.fields[name]])) is None:
        return {}
    return {"fields": layout.fields | {"ring": name}}


def _labels(folder: SequenceFolder, scan_ids: Sequence[str], file: PointFile) -> dict[str, Any]:
    """The layout keys of labels, in files or a field, and of their type."""
    layout = folder.layout
    stated = layout.model_fields_set
    if "label" in layout.fields:
        return {}
    for sequence in dict.fromkeys(scan_id.partition("/")[0] for scan_id in scan_ids):
        frames = [i.partition("/")[2] for i in scan_ids if i.startswith(f"{sequence}/")]
        for place, suffix, names in find_labels(folder.sequences_root / sequence, layout, frames):
            told = {"labels_folder": place, "labels_suffix": suffix}
            if any(key in stated and getattr(layout, key) != told[key] for key in told):
                continue
            label_type = _label_type(folder, f"{sequence}/{min(names)}", told)
            if label_type is not None:
                return told | ({} if "label_type" in stated else {"label_type": label_type})
    name = file.roles.get("label")
    if name is not None and len(np.unique(file.fields[name])) > 1:
        return {"fields": layout.fields | {"label": name}}
    return {}


def _label_type(folder: SequenceFolder, scan_id: str, told: Mapping[str, Any]) -> str | None:
    """The type of labels by their file's size; None if they are not one per point."""
    layout = folder.layout
    path = folder.sequences_root / scan_id.partition("/")[0] / told["labels_folder"]
    path /= scan_id.partition("/")[2] + told["labels_suffix"]
    points = count_points(folder.paths(scan_id)[0], layout)
    if (labels := open_npy_labels(path)) is not None:
        known = "label_type" in layout.model_fields_set or labels.dtype.name not in LABEL_TYPES
        kind = layout.label_type if known else labels.dtype.name
        return kind if len(labels) == points else None
    types = {points: "uint8", 2 * points: "uint16", 4 * points: "uint32", 8 * points: "int64"}
    found = types.get(file_size(path) or 0)
    if "label_type" in layout.model_fields_set:
        return layout.label_type
    if found is None and told == {"labels_folder": "labels", "labels_suffix": ".label"}:
        return layout.label_type  # reading them will report the fault
    return found


def guess_columns(path: Path, layout: Layout) -> int:
    """Guess the number of values per point in a file without names.

    Neighbouring points are alike, so the values of a raw file nearly repeat after one point;
    ``.npy`` stores the number.

    Returns:
        The layout's number if it cannot be detected.

    Raises:
        DataError: the file cannot be read.
    """
    kind = file_format(path)
    if kind == "raw":
        return _repetition(path, layout)
    if kind == "npy" and (values := npy.open_array(path)).ndim == 2 and values.shape[1] >= 3:
        return int(values.shape[1])
    return layout.columns


def _repetition(path: Path, layout: Layout) -> int:
    """The period of repetition of a raw file's values; 4 if there is none."""
    single = layout.model_copy(update={"columns": 1})
    values = raw.read_values(path, single)[:_VALUES, 0].astype(np.float64)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    values = np.sign(values) * np.log1p(np.abs(values))  # limits the weight of outliers
    size, width = file_size(path) or 0, np.dtype(layout.dtype).itemsize
    for columns in range(3, _MOST_COLUMNS + 1):
        later, earlier = values[columns:], values[:-columns]
        if size % (width * columns) or later.size < 2 or not (later.std() and earlier.std()):
            continue
        if np.corrcoef(later, earlier)[0, 1] > _ALIKE:
            return columns
    return 4
