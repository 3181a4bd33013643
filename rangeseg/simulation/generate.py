"""Writes the simulated street: as SemanticKITTI's sequences, or in nuScenes' format."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from rangeseg.errors import DataError
from rangeseg.settings import Settings
from rangeseg.simulation import kitti, nuscenes
from rangeseg.simulation.processes import share
from rangeseg.simulation.sensor_model import (
    Reading,
    beam_inclinations,
    hdl_32e_inclinations,
    scan_scene,
)
from rangeseg.simulation.styles import SPLITS, stream
from rangeseg.simulation.world import World
from rangeseg.system.files import on_disk, writable
from rangeseg.system.process import cores
from rangeseg.system.progress import Progress

SIMULATION_VERSION = 1
"""Increase it when the same settings give other bytes."""

STAMP = "simulation.json"
"""File in a folder with the simulation's settings and completeness."""

_BLOCK = 8  # successive scans per worker, which reuses their segments
_ATTEMPTS = 5

_DEFAULTS: dict[str, dict[str, Any]] = {"kitti": {}, "nuscenes": {"columns": 1084, "spacing": 5.0}}


class SimulationSettings(Settings):
    """Settings of the simulation.

    Attributes:
        format: SemanticKITTI's layout, or nuScenes' with an HDL-32E's beams.
        seed: seed of every draw.
        train_scans: shared evenly by the training sequences; the first get the rest.
        val_scans: all in sequence 08.
        test_scans: shared evenly by the test sequences.
        beams: lasers, taken evenly from an HDL-64E's; the HDL-32E has 32.
        columns: firings per turn; with nuScenes' format 1,084 by default.
        spacing: metres driven between scans; None: 9 to 14, drawn per sequence. In nuScenes'
            format, with two scans a second, 5 by default.
    """

    format: Literal["kitti", "nuscenes"] = "kitti"
    seed: int = Field(default=0, ge=0)
    train_scans: int = Field(default=400, ge=len(SPLITS["train"]))
    val_scans: int = Field(default=100, ge=len(SPLITS["val"]))
    test_scans: int = Field(default=100, ge=len(SPLITS["test"]))
    beams: int = Field(default=32, ge=4, le=64)
    columns: int = Field(default=1024, ge=64)
    spacing: float | None = Field(default=None, gt=0.1, le=20)

    @model_validator(mode="before")
    @classmethod
    def _of_the_format(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _DEFAULTS.get(values.get("format", "kitti"), {}) | values

    @field_validator("beams")
    @classmethod
    def _beams_of_the_device(cls, beams: int, info: ValidationInfo) -> int:
        if info.data.get("format") == "nuscenes" and beams != 32:
            raise ValueError("nuScenes' HDL-32E has 32")
        return beams

    def world(self, sequence: str) -> World:
        """Make the street of a sequence."""
        return World(self.seed, sequence, self.spacing)


@dataclass(frozen=True)
class _Job:
    """One scan to make."""

    sequence: str
    frame: int


class _Format(Protocol):
    """File names and contents of a format: ``kitti`` or ``nuscenes``."""

    def scan_files(self, sequence: str, frame: int) -> tuple[str, str]:
        """The files of a scan's points and of its labels, relative to the root."""

    def encode(self, reading: Reading, columns: int) -> tuple[bytes, bytes]:
        """Encode the two files."""

    def missing_files(
        self, root: Path, world_of: Callable[[str], World], frames: Mapping[str, int]
    ) -> dict[str, bytes]:
        """File -> content of missing poses or tables."""


_FORMATS: dict[str, _Format] = {"kitti": kitti, "nuscenes": nuscenes}


def generate_dataset(root: Path, settings: SimulationSettings, workers: int | None = None) -> None:
    """Make a simulated data set, or complete one.

    The same settings give the same bytes for any number of workers and interruptions. Files are
    written atomically.

    Args:
        root: output folder: missing, empty, or begun with the same settings.
        settings: what to simulate.
        workers: number of processes; all cores by default, 1 uses only this process.

    Raises:
        DataError: the folder holds something else, or another simulation, or a file cannot be
            written.
        ConfigError: nuScenes' format lacks its devkit, or has too few names for the scenes.
        RangesegError: a worker was ended.
    """
    root = Path(root)
    stamp = read_stamp(root)
    if stamp is not None and stamp.settings != settings:
        raise DataError(
            f"{root} holds a simulation with other settings "
            f"({_differences(stamp.settings, settings)}): choose another root, or these settings"
        )
    jobs = _all_jobs(settings)
    layout = _FORMATS[settings.format]
    frames = Counter(job.sequence for job in jobs)
    missing = layout.missing_files(root, settings.world, frames)
    if stamp is None:
        _write_stamp(root, settings, complete=False)
    for name, content in missing.items():
        _write(root / name, content)
    todo = [job for job in jobs if not _is_complete(root, layout, job)]
    with Progress("simulate", len(todo), unit="scans") as progress:
        if todo:
            # Make one scan in this process, to compile and cache the kernels for others.
            _make(root, settings, todo[:1], progress.update)
            blocks = [todo[start : start + _BLOCK] for start in range(1, len(todo), _BLOCK)]
            share(partial(_make, root, settings), blocks, workers or cores(), progress.update)
    _write_stamp(root, settings, complete=True)


@dataclass(frozen=True)
class Stamp:
    """The content of simulation.json."""

    settings: SimulationSettings
    complete: bool


def read_stamp(root: Path) -> Stamp | None:
    """Read the stamp of a folder; None if it is missing or empty.

    Raises:
        DataError: the folder holds something else, or a simulation of another version.
    """
    path = root / STAMP
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if root.is_dir() and any(root.iterdir()):
            raise DataError(
                f"{root} is not empty and has no {STAMP}: it is no simulated data set; "
                "nothing was touched; choose another root"
            ) from None
        return None
    except NotADirectoryError:
        raise DataError(f"{root} is not a folder: choose another root") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): choose another root") from None
    try:
        content: dict[str, Any] = json.loads(text)
        version = content["version"]
        if version == SIMULATION_VERSION:
            settings = SimulationSettings(**content["settings"])
            return Stamp(settings, bool(content["complete"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged ({type(error).__name__}): choose another root, or remove this one"
        ) from None
    raise DataError(
        f"{path} was written by simulation version {version}, this is version "
        f"{SIMULATION_VERSION}, whose street differs: choose another root"
    )


def _write_stamp(root: Path, settings: SimulationSettings, complete: bool) -> None:
    content = {
        "version": SIMULATION_VERSION,
        "settings": settings.model_dump(),
        "complete": complete,
    }
    _write(root / STAMP, (json.dumps(content, indent=2) + "\n").encode())


def _differences(found: SimulationSettings, wanted: SimulationSettings) -> str:
    one, two = found.model_dump(), wanted.model_dump()
    return ", ".join(
        f"{key}: {one[key]} there, {two[key]} asked" for key in one if one[key] != two[key]
    )


def _all_jobs(settings: SimulationSettings) -> list[_Job]:
    jobs = []
    counts = {"train": settings.train_scans, "val": settings.val_scans, "test": settings.test_scans}
    for split, sequences in SPLITS.items():
        each, rest = divmod(counts[split], len(sequences))
        for place, sequence in enumerate(sequences):
            jobs += [_Job(sequence, frame) for frame in range(each + (place < rest))]
    return jobs


def _is_complete(root: Path, layout: _Format, job: _Job) -> bool:
    return all((root / name).is_file() for name in layout.scan_files(job.sequence, job.frame))


def _make(
    root: Path, settings: SimulationSettings, jobs: list[_Job], report: Callable[[int], None]
) -> None:
    world: World | None = None
    layout = _FORMATS[settings.format]
    for job in jobs:
        if world is None or world.sequence != job.sequence:
            world = settings.world(job.sequence)
        reading = simulate_scan(world, job.frame, settings)
        files = layout.scan_files(job.sequence, job.frame)
        contents = layout.encode(reading, settings.columns)
        for name, content in zip(files, contents, strict=True):
            _write(root / name, content)
        report(1)


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically, and remove remains of a killed writer."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    remedy = "make room and give the same command again, or choose another root"
    with writable(path, remedy, DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with on_disk(temporary) as file:
                file.write(content)
            os.replace(temporary, path)
        except FileNotFoundError:
            if not path.is_file():  # otherwise another process made it, and removed ours
                raise
        finally:
            for leftover in path.parent.glob(f"{path.name}.*.tmp"):
                leftover.unlink(missing_ok=True)


def simulate_scan(world: World, frame: int, settings: SimulationSettings) -> Reading:
    """Simulate one scan; in KITTI's layout, without rings, every beam has returns all around.

    Args:
        world: world of the scan's sequence.
        frame: number of the scan.
        settings: settings with format, beams and columns.

    Raises:
        RuntimeError: a beam has no returns after repeated draws of the noise.
    """
    scene = world.scene(frame)
    has_rings = settings.format == "nuscenes"
    nominal = hdl_32e_inclinations() if has_rings else beam_inclinations(settings.beams)
    for attempt in range(_ATTEMPTS):
        rng = stream(world.seed, world.sequence, purpose=20 + attempt, number=frame)
        reading = scan_scene(scene, world.style, nominal, settings.columns, rng)
        if has_rings or rows_are_separable(reading, settings.beams):
            return reading
    raise RuntimeError(
        f"sequence {world.sequence}, scan {frame}: a beam has no return in some quarter of the turn"
    )


def rows_are_separable(reading: Reading, beams: int) -> bool:
    """Whether every beam has returns in every quarter of the turn.

    Then the azimuth falls by more than half a turn exactly once between two beams. A row per wrap
    finds all of them, for any seam.
    """
    azimuth = np.arctan2(reading.points[:, 1], reading.points[:, 0])
    quarter = (azimuth // (np.pi / 2)).astype(np.int64) % 4
    return bool((np.bincount(reading.beam * 4 + quarter, minlength=beams * 4) > 0).all())
