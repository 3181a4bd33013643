"""The embedded data set: a procedural street that is made on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rangeseg.datasets.base import DatasetInfo, Scan
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError
from rangeseg.geometry.sensor import SIMULATED_32, Sensor
from rangeseg.simulation.generate import (
    SimulationSettings,
    generate_dataset,
    read_stamp,
)
from rangeseg.simulation.styles import SPLITS


class Simulated(SemanticKitti):
    """A simulated street in SemanticKITTI's layout, with labelled test sequences.

    A root that is missing or empty is filled with the default settings when scans are first
    listed or read; one that was begun is completed. Other settings: ``generate_dataset`` or
    ``rangeseg-data simulate`` first.

    Args:
        root: folder of the data set; like any other it is not looked at before it is needed,
            apart from the number of beams that it names.

    Raises:
        DataError: on first use, if the folder holds something else or another version.
    """

    info: DatasetInfo = replace(
        SemanticKitti.info,
        name="simulated",
        sensor=SIMULATED_32,
        # Measured at 32x512, rows by scan order, on the default training scans of version 1.
        statistics={
            "range": (13.12, 12.12),
            "x": (-0.01, 13.65),
            "y": (0.63, 11.41),
            "z": (-1.23, 0.81),
            "intensity": (0.26, 0.14),
            "range_step": (0.0, 0.35),
            "height_step": (0.08, 0.19),
        },
    )
    SPLITS: ClassVar[Mapping[str, tuple[str, ...]]] = SPLITS

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._ready = False
        beams = _beams_named_in(self.root)
        if beams is not None and beams != SIMULATED_32.beams:
            self.info = replace(type(self).info, sensor=_sensor(beams))

    def sequence_ids(self, sequence: str) -> list[str]:
        """Sorted ids of all scans of one sequence; makes the data set on first use."""
        self._prepare()
        return super().sequence_ids(sequence)

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        """Read one scan; makes the data set on first use."""
        self._prepare()
        return super().read_scan(scan_id, with_labels)

    def check_files(self, scan_id: str, with_labels: bool = True) -> int:
        """Check the sizes of a scan's files; makes the data set on first use."""
        self._prepare()
        return super().check_files(scan_id, with_labels)

    def check_root(self) -> None:
        """Check that the root is ours; makes the data set on first use."""
        self._prepare()
        super().check_root()

    def _prepare(self) -> None:
        if self._ready:
            return
        stamp = read_stamp(self.root)
        if stamp is None or not stamp.complete:
            generate_dataset(self.root, stamp.settings if stamp else SimulationSettings())
        self._ready = True


def _beams_named_in(root: Path) -> int | None:
    """The number of beams in simulation.json; None if it cannot be read (yet)."""
    try:
        stamp = read_stamp(root)
    except DataError:
        return None
    return None if stamp is None else stamp.settings.beams


def _sensor(beams: int) -> Sensor:
    return replace(SIMULATED_32, name=f"simulated-{beams}", beams=beams, height=beams)
