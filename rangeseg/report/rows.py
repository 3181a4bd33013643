"""Rows of a table: groups of runs that differ only in their seed, and their controls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rangeseg.methods import METHODS
from rangeseg.motion.propagation import TrainPropagation

_OWN_POSES = ", data set poses"


class Row(NamedTuple):
    """The common properties of a row's runs.

    Attributes:
        method: a name in METHODS.
        labelled: the labelled branch, ``plain``, ``strong`` or ``coin``.
        propagation: settings of the propagation, see ``propagation_text``.
        init: initial weights of the runs, see ``init_text``.
    """

    method: str
    labelled: str
    propagation: str = ""
    init: str = ""

    @property
    def is_control(self) -> bool:
        """Whether the row is supervised training."""
        return self.method == "supervised"

    @property
    def is_usual(self) -> bool:
        """Whether only the method and its labelled branch are special."""
        return not self.propagation and not self.init

    def has_control(self, control: Row) -> bool:
        """Whether a row is a control of this row: it has the row's special properties, or none."""
        own = control.propagation in ("", self.propagation) and control.init in ("", self.init)
        return self != control and own


STRONG = Row("supervised", "strong")
CONTROLS = (Row("supervised", "plain"), STRONG)
"""The usual controls; with propagation also these two with the same propagation."""


def row_name(row: Row) -> str:
    """``supervised, plain`` or ``cps + propagation (reach 2)``.

    The name omits the strong branch of methods, and the data set's own poses in propagation.
    """
    name = row.method
    if row.is_control or row.labelled != "strong":
        name += f", {row.labelled}"
    if row.propagation:
        name += f" + propagation ({row.propagation.removesuffix(_OWN_POSES)})"
    return f"{name}, from {row.init}" if row.init else name


def propagation_text(propagation: Mapping[str, Any] | None) -> str:
    """Describe the propagation: ``reach 2, data set poses``.

    Args:
        propagation: entry of a protocol; None without propagation.

    Returns:
        The reach, settings other than defaults, and the origin of the poses; empty without
        propagation.
    """
    if propagation is None:
        return ""
    usual = TrainPropagation().model_dump(mode="json")
    names = ("distance", "movable_distance", "min_confidence", "share")
    parts = [f"reach {propagation['reach']}"]
    for name in names:
        if propagation[name] != usual[name]:
            value = "proportional" if propagation[name] is None else propagation[name]
            parts.append(f"{name.replace('_', ' ')} {value}")
    return f"{', '.join(parts)}, {propagation['poses']} poses"


def init_text(init: Mapping[str, Any] | None) -> str:
    """Describe the initial weights: ``semantic_kitti cps (1a2b3c4d5e6f)``.

    Args:
        init: entry of a protocol; None for random weights.

    Returns:
        Their training data and method, and their hash; empty for random weights.
    """
    return "" if init is None else f"{init['origin']} ({init['weights']})"


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The controls, first the usual ones, then the methods in the order of METHODS."""
    known = list(METHODS)

    def place(row: Row) -> tuple[Any, ...]:
        if row.is_control:
            return 0, row.init, row.propagation, row.labelled == "coin", row.labelled
        number = known.index(row.method) if row.method in METHODS else len(known)
        return 1, number, row

    return sorted(rows, key=place)
