"""Find the labelled scans near each unlabelled one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import PlainSerializer, PlainValidator

from rangeseg.errors import ConfigError, DataError
from rangeseg.motion.poses import SequencePoses

_REACH = re.compile(r"(\d+\.?\d*|\.\d+)\s*(m|s|frames|)")

MOST_SOURCES = 4
"""Largest number of labelled scans that a scan takes labels from, the nearest ones."""


@dataclass(frozen=True)
class Reach:
    """How far labels are carried; its text is ``10``, ``15m`` or ``1.5s``.

    Attributes:
        amount: distance; 0 carries none.
        unit: frame numbers, metres between sensor positions, or seconds.
    """

    amount: float
    unit: Literal["frames", "m", "s"] = "frames"

    def __str__(self) -> str:
        return f"{self.amount:g}" + ("" if self.unit == "frames" else self.unit)

    def __bool__(self) -> bool:
        return self.amount > 0


def parse_reach(text: str) -> Reach:
    """Parse a number of frames (``10``), metres (``15m``) or seconds (``1.5s``).

    Raises:
        ConfigError: it is none of these.
    """
    match = _REACH.fullmatch(text.strip())
    amount = float(match[1]) if match else -1.0
    unit = (match[2] if match else "") or "frames"
    if match is None or (unit == "frames" and amount != int(amount)):
        raise ConfigError(f"reach '{text}': write frames (10), metres (15m) or seconds (1.5s)")
    return Reach(amount, unit)  # type: ignore[arg-type]


def _parsed(value: Any) -> Reach:
    if isinstance(value, Reach):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("write frames (10), metres (15m) or seconds (1.5s)")
    try:
        return parse_reach(str(value))
    except ConfigError as error:
        raise ValueError(str(error)) from None


ReachSetting = Annotated[Reach, PlainValidator(_parsed), PlainSerializer(str)]


def find_sources(
    poses: Mapping[str, SequencePoses], labelled: list[str], reach: Reach
) -> dict[str, list[str]]:
    """Find the labelled sources of each unlabelled scan, the nearest first.

    Args:
        poses: sequence -> its poses.
        labelled: ids of labelled scans; other sequences are ignored.
        reach: largest distance.

    Returns:
        Scan id -> up to MOST_SOURCES labelled ones, only for scans with any, in the order of the
        sequences.

    Raises:
        DataError: reach is in seconds and a sequence has no times.
    """
    chosen = set(labelled)
    sources: dict[str, list[str]] = {}
    for found in poses.values():
        ids = list(found.poses)
        given = [i for i in ids if i in chosen]
        if not given:
            continue
        places = _places(found, ids, reach)
        sources |= _near(found, ids, given, dict(zip(ids, places, strict=True)), reach)
    return sources


def _near(
    found: SequencePoses,
    ids: list[str],
    given: list[str],
    place: Mapping[str, np.ndarray],
    reach: Reach,
) -> dict[str, list[str]]:
    """The same in one sequence, by positions on the scale of the reach."""
    there = np.array([place[i] for i in given])
    stretch = np.array([found.stretches[i] for i in given])
    near: dict[str, list[str]] = {}
    given_set = set(given)
    for scan_id in ids:
        if scan_id in given_set:
            continue
        apart = np.linalg.norm(there - place[scan_id], axis=1)
        usable = np.flatnonzero((apart <= reach.amount) & (stretch == found.stretches[scan_id]))
        nearest = usable[np.argsort(apart[usable], kind="stable")][:MOST_SOURCES]
        if len(nearest):
            near[scan_id] = [given[n] for n in nearest]
    return near


def _places(found: SequencePoses, ids: list[str], reach: Reach) -> np.ndarray:
    """Positions of the scans on the scale of the reach: (n,1) frames or seconds, (n,3) metres."""
    if reach.unit == "frames":
        return np.array([[found.frames[i]] for i in ids], dtype=float)
    if reach.unit == "m":
        return np.array([found.poses[i][:3, 3] for i in ids])
    unknown = [i for i in ids if i not in found.times]
    if unknown:
        raise DataError(
            f"reach {reach}: the time of {unknown[0]} is not known: add times.txt to its "
            "sequence, or give the reach in frames or metres"
        )
    return np.array([[found.times[i]] for i in ids])
