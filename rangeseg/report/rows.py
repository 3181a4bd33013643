"""The rows of a table: which runs differ in their seed alone, and what a row is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rangeseg.methods import METHODS
from rangeseg.motion.propagation import TrainPropagation

_OWN_POSES = ", data set poses"


class Row(NamedTuple):
    """What the runs of one row have in common.

    Attributes:
        method: a name in METHODS.
        labelled: the labelled branch, ``plain`` or ``strong``.
        propagation: how labels were carried along the poses, see ``propagation_text``.
        init: the weights that the runs began with, see ``init_text``.
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
        """Whether nothing but the method and its labelled branch is special."""
        return not self.propagation and not self.init

    def has_control(self, control: Row) -> bool:
        """Whether a control is one of this row: it has what is special of the row, or nothing."""
        own = control.propagation in ("", self.propagation) and control.init in ("", self.init)
        return self != control and own


STRONG = Row("supervised", "strong")
CONTROLS = (Row("supervised", "plain"), STRONG)
"""The controls of every row; one with propagation also has these two with the same propagation."""


def row_name(row: Row) -> str:
    """``supervised, plain`` or ``cps + propagation (reach 2)``.

    Of methods the strong branch goes unnamed, of propagation the data set's own poses.
    """
    name = row.method
    if row.is_control or row.labelled == "plain":
        name += f", {row.labelled}"
    if row.propagation:
        name += f" + propagation ({row.propagation.removesuffix(_OWN_POSES)})"
    return f"{name}, from {row.init}" if row.init else name


def propagation_text(propagation: Mapping[str, Any] | None) -> str:
    """How labels were carried along the poses: ``reach 2, data set poses``.

    Args:
        propagation: that of a protocol; None without.

    Returns:
        The reach, the settings that are not the defaults, and where the poses come from; empty
        without propagation.
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
    """With which weights a training began: ``semantic_kitti cps (1a2b3c4d5e6f)``.

    Args:
        init: that of a protocol; None for random weights.

    Returns:
        What they were trained on and with, and their hash; empty for random weights.
    """
    return "" if init is None else f"{init['origin']} ({init['weights']})"


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The controls, first the usual ones, then the methods in the order of METHODS."""
    known = list(METHODS)

    def place(row: Row) -> tuple[Any, ...]:
        if row.is_control:
            return 0, row.init, row.propagation, row.labelled
        number = known.index(row.method) if row.method in METHODS else len(known)
        return 1, number, row

    return sorted(rows, key=place)
