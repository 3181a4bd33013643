"""Roles of a file's fields: x, y, z, intensity, ring, time, label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import get_args

from rangeseg.datasets.layout import Layout, Role
from rangeseg.errors import DataError

ROLES: tuple[Role, ...] = get_args(Role)

_USUAL: Mapping[Role, tuple[str, ...]] = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "intensity": ("intensity", "reflectivity", "reflectance", "remission", "i", "intensities"),
    "ring": (
        "ring", "channel", "line", "laserid", "laser", "laserindex", "ringid", "ringindex",
        "channelid", "beam", "beamid", "lineid",
    ),
    "time": (
        "time", "t", "timestamp", "timeoffset", "offsettime", "pointtime", "gpstime", "timens",
        "timestampns",
    ),
    "label": (
        "label", "class", "classification", "semantic", "labels", "classid", "semanticlabel",
        "semanticid", "labelid", "semanticclass", "objtag", "category",
    ),
}  # fmt: skip
"""Lower case, letters and digits only; earlier names are preferred."""


def find_roles(names: Sequence[str], stated: Mapping[Role, str]) -> dict[Role, str]:
    """Find the field for each role: as stated, otherwise by its usual name.

    Case, ``_`` and CloudCompare's prefix ``scalar_`` do not matter for usual names.

    Args:
        names: names of the file's fields.
        stated: role -> name.

    Returns:
        Role -> name, for each role with a field.

    Raises:
        DataError: there is no field of a stated name; the message does not name the file.
    """
    for role, name in stated.items():
        if name not in names:
            raise DataError(
                f"has no field '{name}', which layout.fields.{role} names; it has "
                f"{', '.join(names)}: correct it"
            )
    rest = names if not stated else [name for name in names if name not in stated.values()]
    return _usual_roles(tuple(rest)) | dict(stated)


@lru_cache(maxsize=64)
def _usual_roles(names: tuple[str, ...]) -> dict[Role, str]:
    """Roles by the usual names; cached, as every scan of a data set needs them."""
    plain = {_plain(name): name for name in reversed(names)}
    found: dict[Role, str] = {}
    for role, usual in _USUAL.items():
        for name in usual:
            if name in plain:
                found.setdefault(role, plain[name])
    return found


def roles_of(names: Sequence[str], layout: Layout) -> dict[Role, str]:
    """``find_roles`` with what a layout states, by name or by column.

    A label that is stated may be missing: then the scan is unlabelled.

    Raises:
        DataError: there is no such field or column; the message does not name the file.
    """
    stated = {r: name for r, name in layout.fields.items() if r != "label" or name in names}
    columns: tuple[tuple[Role, int | None], ...] = (
        ("ring", layout.ring_column),
        ("time", layout.time_column),
    )
    for role, column in columns:
        if column is not None:
            if column >= len(names):
                raise DataError(
                    f"has {len(names)} values a point, but layout.{role}_column is {column}: "
                    "correct it"
                )
            stated[role] = names[column]
    return find_roles(names, stated)


def column_names(columns: int) -> tuple[str, ...]:
    """Names for the columns of a file that names none: x, y, z, intensity, column_4, column_5."""
    first = ("x", "y", "z", "intensity")[:columns]
    return first + tuple(f"column_{column}" for column in range(len(first), columns))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("scalar_"))
