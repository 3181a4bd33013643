"""Judge the type of label files, and where labels lie."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rangeseg.datasets.survey.directions import find_directions, widest_gap_deg
from rangeseg.datasets.survey.evidence import Evidence
from rangeseg.datasets.survey.verdicts.base import Verdict

_HIGHEST_ID = 65535
_NEARLY_ALL = 0.999
_COLOURS = 256  # a scan has no more classes
_FEW_CLASSES = 1024  # above the ids of all data sets
_NO_CLASS_FROM = 4096  # nearly always below the lower half of a colour, green and blue
_SECTOR_DEG = 120.0
"""Widest accepted azimuth range of the view without labels. Real scans: 1 degree at most; with one
random label in a thousand kept, 28."""


def judge_labels(found: Evidence) -> Iterator[Verdict]:
    """``label_type``; if that is right, ``labels_minus_one`` and ``label_sector``."""
    wrong = None if found.layout.fields.get("label") else _wrong_type(found)
    if wrong is not None:
        yield wrong
        return
    yield from _minus_one(found)
    yield from _sector(found)


def _wrong_type(found: Evidence) -> Verdict | None:
    content, points = found.label_bytes, len(found.points)
    if not content or not points or len(content) % points:
        return None
    width, layout = len(content) // points, found.layout
    stated, order = layout.label_type, layout.byte_order
    candidates = {4: _four_bytes, 8: _eight_bytes, 2: _two_bytes}.get(width)
    other = candidates(content, found) if candidates else None
    if other is None or other[:2] == (stated, order):
        return None
    label_type, other_order, ids = other
    settings = [f"layout.label_type={label_type}"] if label_type != stated else []
    settings += [f"layout.byte_order={other_order}"] if other_order != order else []
    return Verdict(
        "label_type", True,
        f"{found.label_name} has {width} bytes for each point, read as {stated}, {order}-endian",
        f"they hold {ids}",
        f"state {' '.join(settings)}",
    )  # fmt: skip


def _four_bytes(content: bytes, found: Evidence) -> tuple[str, str, str] | None:
    """Find the fitting type and byte order of four-byte labels; None if as stated."""
    layout = found.layout
    little, big = np.frombuffer(content, "<u4"), np.frombuffer(content, ">u4")
    if layout.label_type in ("float32", "colour") or not little.any():
        return None
    for order, mark in (("little", "<"), ("big", ">")):
        floats = np.frombuffer(content, f"{mark}f4")
        if _are_ids(floats):
            return "float32", order, f"float32 ids from {floats.min():g} to {floats.max():g}"
    stated, other = (little, big) if layout.byte_order == "little" else (big, little)
    if _are_swapped(stated):
        highest = int((other & 0xFFFF).max())
        order = "big" if layout.byte_order == "little" else "little"
        return layout.label_type, order, f"{order}-endian ids up to {highest}"
    if _are_colours(stated, found.known_ids):
        return "colour", layout.byte_order, f"{len(np.unique(stated))} packed colours 0xRRGGBB"
    return None


def _eight_bytes(content: bytes, found: Evidence) -> tuple[str, str, str] | None:
    """Find the type of eight-byte labels: whole numbers or floats, of either byte order."""
    orders = {"little": "<", "big": ">"}
    for order in (found.layout.byte_order, "little", "big"):
        mark = orders[order]
        whole = np.frombuffer(content, f"{mark}i8")
        if ((whole >= -1) & (whole <= _HIGHEST_ID)).mean() > _NEARLY_ALL:
            kept = found.layout.label_type in ("int64", "uint64")
            label_type = found.layout.label_type if kept else "int64"
            return label_type, order, f"int64 ids from {whole.min()} to {whole.max()}"
        floats = np.frombuffer(content, f"{mark}f8")
        if _are_ids(floats):
            return "float64", order, f"float64 ids from {floats.min():g} to {floats.max():g}"
    return None


def _two_bytes(content: bytes, found: Evidence) -> tuple[str, str, str] | None:
    layout = found.layout
    mark = "<" if layout.byte_order == "little" else ">"
    if layout.label_type not in ("uint16", "int16"):
        return None
    stated = np.frombuffer(content, f"{mark}u2")
    other = np.frombuffer(content, ">u2" if mark == "<" else "<u2")
    known = found.known_ids is not None and found.known_ids.issuperset(np.unique(stated).tolist())
    if known or stated.max() < _NO_CLASS_FROM or other.max() >= _FEW_CLASSES:
        return None
    order = "big" if layout.byte_order == "little" else "little"
    return layout.label_type, order, f"{order}-endian ids up to {other.max()}"


def _are_ids(floats: np.ndarray) -> bool:
    """Whether floats are whole numbers that can be ids, not all 0.

    Whole numbers read as floats are tiny and not whole.
    """
    with np.errstate(invalid="ignore"):
        whole = (floats >= -1) & (floats <= _HIGHEST_ID) & (floats == np.floor(floats))
    return bool(whole.mean() > _NEARLY_ALL and (floats != 0).any())


def _are_swapped(ids: np.ndarray) -> bool:
    """Whether the lowest of four bytes is always 0 and the highest mostly not."""
    used = ids != 0
    low_is_empty = ((ids & 0xFF) == 0).mean() > _NEARLY_ALL
    return bool(used.any() and low_is_empty and (ids[used] >> 24 != 0).mean() > 0.9)


def _are_colours(ids: np.ndarray, known: frozenset[int] | None) -> bool:
    """Whether ids are packed colours rather than classes with instances in the upper half."""
    values = np.unique(ids)
    classes = np.unique(values & 0xFFFF)
    if known is not None and known.issuperset(classes.tolist()):
        return False
    one_alpha = len(np.unique(values[values != 0] >> 24)) == 1
    upper = (values >> 16) & 0xFF
    return bool(
        len(values) <= _COLOURS and one_alpha and upper.any() and classes.max() >= _NO_CLASS_FROM
        and (upper > 15).any()
    )  # fmt: skip


def _minus_one(found: Evidence) -> Iterator[Verdict]:
    content, points, layout = found.label_bytes, len(found.points), found.layout
    if not content or not points or len(content) % points:
        return
    width = len(content) // points
    if width not in (1, 2, 4, 8) or layout.label_type in ("float32", "float64", "colour"):
        return
    share = float((np.frombuffer(content, f"<i{width}") == -1).mean())
    raw = -1 if layout.label_type.startswith("int") else min((1 << 8 * width) - 1, _HIGHEST_ID)
    if share == 0.0 or (found.known_ids is not None and raw in found.known_ids):
        return
    yield Verdict(
        "labels_minus_one", False, f"{share:.1%} of the labels of {found.label_name} are -1",
        f"no class; as {layout.label_type} they read as {raw}",
        f"name {raw} under ignored_ids",
    )  # fmt: skip


def _sector(found: Evidence) -> Iterator[Verdict]:
    labelled, xyz = found.labelled, found.points[:, :3]
    if labelled is None or not labelled.any():
        return
    gap, right = widest_gap_deg(find_directions(xyz[labelled]).azimuth_deg)
    azimuth = found.directions.azimuth_deg
    inside = (azimuth - right) % 360.0 < gap
    stretch = azimuth[inside]
    seen = 0.0 if not len(stretch) else min(gap, 360.0 - widest_gap_deg(azimuth)[0])
    if gap < _SECTOR_DEG or seen < _SECTOR_DEG or inside.mean() < _SECTOR_DEG / 720.0:
        return
    yield Verdict(
        "label_sector", False,
        f"labels lie in {360.0 - gap:.0f} degrees of azimuth only, from {(right + gap) % 360:.0f} "
        "counter-clockwise",
        "the rest of each scan teaches nothing",
        "label all around, or crop the scans, if the labels should cover them",
    )  # fmt: skip


def judge_classes(all_found: list[Evidence]) -> Iterator[Verdict]:
    """``one_class``: the labels of all scans together name a single class."""
    with_labels = [found for found in all_found if found.labelled is not None]
    classes = frozenset().union(*(found.classes for found in with_labels))
    known = with_labels[0].known_ids if with_labels else None
    if len(classes) == 1 and (known is None or len(known) > 1):
        yield Verdict(
            "one_class", False, f"the labels of {len(with_labels)} scans name one class only",
            "a network can learn nothing from them",
            "check layout.label_type and the ids of dataset.description.classes",
        )  # fmt: skip
