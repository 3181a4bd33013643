"""The embedded data set: a procedural street, generated on request."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rangeseg.datasets.base import DatasetInfo, Official, ScanSource
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.errors import DataError
from rangeseg.geometry.sensor import SIMULATED_32
from rangeseg.simulation.generate import (
    SimulationSettings,
    Stamp,
    generate_dataset,
    read_stamp,
)
from rangeseg.simulation.styles import SPLITS


class Simulated(SemanticKitti):
    """A simulated street in SemanticKITTI's layout, with labelled test sequences.

    Reading never generates: ``ensure_simulated`` does, or ``rangeseg-data simulate``.

    Args:
        root: folder of the data set; only the number of beams is read here.
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
        with suppress(DataError):  # raised where the data are needed
            stamp = _stamp(self.root)
            if stamp is not None and (beams := stamp.settings.beams) != SIMULATED_32.beams:
                name = f"simulated-{beams}"
                sensor = replace(SIMULATED_32, name=name, beams=beams, height=beams)
                self.info = replace(type(self).info, sensor=sensor)

    def official(self, split: str) -> Official | None:
        """None: nothing is published; the stamp describes the generated data."""
        return None

    def sequence_ids(self, sequence: str) -> list[str]:
        """Sorted ids of all scans of one sequence."""
        self.check_root()
        return super().sequence_ids(sequence)

    def check_root(self) -> None:
        """Check that the simulation is complete.

        Raises:
            DataError: it is missing or partly generated (the message gives the command), or the
                folder holds another version or something else.
        """
        stamp = _stamp(self.root)
        if stamp is None or not stamp.complete:
            found = "does not exist" if stamp is None else "is only partly generated"
            remedy = f"rangeseg-data simulate {shlex.quote(str(self.root))}"
            raise DataError(
                f"the simulated data set {self.root} {found}: `{remedy}` generates "
                f"{'it' if stamp is None else 'the rest'}",
                kind="missing",
            )
        super().check_root()


def _stamp(root: Path) -> Stamp | None:
    """Read the stamp of a simulation in SemanticKITTI's layout; None without one."""
    stamp = read_stamp(root)
    if stamp is not None and stamp.settings.format != "kitti":
        raise DataError(
            f"{root} is simulated in nuScenes' format: give the data set nuscenes "
            "(configs/nuscenes.yaml) instead of simulated"
        )
    return stamp


def ensure_simulated(source: ScanSource, workers: int | None = None) -> None:
    """Complete a simulated data set; do nothing for any other.

    A missing one is generated with default settings, a partial one with its own.

    Args:
        source: any data set.
        workers: number of processes; all cores by default.

    Raises:
        DataError: the folder holds another version or something else, or cannot be written.
    """
    if isinstance(source, Simulated):
        stamp = _stamp(source.root)
        if stamp is None or not stamp.complete:
            settings = stamp.settings if stamp else SimulationSettings()
            generate_dataset(source.root, settings, workers)
