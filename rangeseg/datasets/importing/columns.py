"""Convert named fields of a scan to the columns of the toolkit's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rangeseg.datasets.layout import Role
from rangeseg.errors import DataError

_LONGEST_TURN_S = 2.0
"""Longest scan in seconds; a longer one means a smaller time unit."""

_EPOCH_S = 1e9, 5e9
"""Seconds since 1970, from 2001 to 2128."""

_LONGEST_DELAY_S = 10.0
"""Point times farther from their scan's time are not relative to it."""


@dataclass(frozen=True)
class Columns:
    """The contents of a sequence's files.

    Attributes:
        roles: role -> field: x, y and z, and intensity, ring, time and label if present.
        time_unit: seconds per unit of the field ``time``.
        unused: fields without a role.
    """

    roles: Mapping[Role, str]
    time_unit: float = 1.0
    unused: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[Role, ...]:
        """The columns in order; a missing intensity is 0."""
        optional: tuple[Role, ...] = ("ring", "time")
        return ("x", "y", "z", "intensity", *(role for role in optional if role in self.roles))

    def points(self, fields: Mapping[str, np.ndarray], time_s: float | None) -> np.ndarray:
        """The points (N, columns) little-endian float32.

        Args:
            fields: see ``find_columns``.
            time_s: time of the scan, the zero of point times; None: the first point's time.

        Raises:
            DataError: a field is missing that the first scan has.
        """
        missing = [f for f in self.roles.values() if f not in fields]
        if missing:
            raise DataError(
                f"it has no field '{missing[0]}', which the first scan has (found: "
                f"{', '.join(fields)})"
            )
        points = np.zeros((len(fields[self.roles["x"]]), len(self.names)), dtype="<f4")
        with np.errstate(all="ignore"):  # float64 beyond float32's range becomes infinity
            for column, role in enumerate(self.names):
                if role in self.roles:
                    values = fields[self.roles[role]]
                    points[:, column] = self._since(values, time_s) if role == "time" else values
        return points

    def labels(self, fields: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The labels (N,) uint32 of the field ``label``; None without it.

        Raises:
            DataError: they are not whole numbers from 0.
        """
        if "label" not in self.roles:
            return None
        return as_labels(fields[self.roles["label"]], f"field '{self.roles['label']}'")

    def _since(self, times: np.ndarray, scan_s: float | None) -> np.ndarray:
        """Times (N,) in seconds since the scan's time."""
        seconds = times.astype(np.float64) * self.time_unit
        finite = seconds[np.isfinite(seconds)]
        if scan_s is not None and _all_near(finite, 0.0):
            return seconds
        if scan_s is not None and _all_near(finite, scan_s):
            return seconds - scan_s
        return seconds - (finite.min() if len(finite) else 0.0)


def _all_near(values: np.ndarray, value: float) -> bool:
    return bool((np.abs(values - value) <= _LONGEST_DELAY_S).all())


def find_columns(roles: Mapping[Role, str], fields: Mapping[str, np.ndarray]) -> Columns:
    """Choose the columns of a sequence by its first scan.

    Args:
        roles: role -> field.
        fields: (N,) arrays by name.

    Raises:
        DataError: there is no x, y or z.
    """
    missing = [role for role in ("x", "y", "z") if role not in roles]
    if missing:
        raise DataError(
            f"no field holds {', '.join(missing)} (found: {', '.join(fields) or 'no field'})"
        )
    unit = _time_unit(fields[roles["time"]]) if "time" in roles else 1.0
    unused = tuple(name for name in fields if name not in roles.values())
    return Columns(dict(roles), unit, unused)


def _time_unit(times: np.ndarray) -> float:
    """Seconds per unit of times (N,).

    Whole numbers are nanoseconds, as all drivers write them, unless they count from 1970 in another
    unit. For floats the unit must make a scan last one turn.
    """
    units = (1.0, 1e-3, 1e-6)
    finite = times[np.isfinite(times)].astype(np.float64)
    if not len(finite):
        return 1.0
    if times.dtype.kind in "iu" and times.dtype.itemsize < 8:
        return 1e-9
    if times.dtype.kind in "iu":
        since_1970 = (u for u in units if _EPOCH_S[0] <= finite.max() * u <= _EPOCH_S[1])
        return next(since_1970, 1e-9)
    return next((unit for unit in units if np.ptp(finite) * unit <= _LONGEST_TURN_S), 1e-9)


def as_labels(values: np.ndarray, where: object) -> np.ndarray:
    """Convert labels (N,) to uint32; ``where`` names their place in the message.

    Raises:
        DataError: they are not whole numbers from 0.
    """
    whole = np.isfinite(values).all() and not (values % 1).any()
    if not whole or (len(values) and (values.min() < 0 or values.max() >= 1 << 32)):
        raise DataError(f"{where}: labels are not whole numbers from 0 to 4294967295")
    return values.astype("<u4")
