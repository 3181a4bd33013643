"""Writes the simulated street as sequences in SemanticKITTI's layout."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from rangeseg.errors import DataError, RangesegError
from rangeseg.settings import Settings
from rangeseg.simulation.poses import pose_files
from rangeseg.simulation.sensor_model import Reading, scan_scene
from rangeseg.simulation.styles import SPLITS, stream
from rangeseg.simulation.world import World
from rangeseg.system.files import on_disk, writable
from rangeseg.system.process import cores
from rangeseg.system.progress import Progress

SIMULATION_VERSION = 1
"""Raised whenever the same settings would give other bytes."""

STAMP = "simulation.json"
"""The file with the settings of the simulation in a folder, and whether it is complete."""

_BLOCK = 8  # scans in a row that one worker makes, so that it can keep their segments
_ATTEMPTS = 5


class SimulationSettings(Settings):
    """What is simulated.

    Attributes:
        seed: of everything.
        train_scans: shared evenly by the training sequences, the first ones get the rest.
        val_scans: all in sequence 08.
        test_scans: shared evenly by the test sequences.
        beams: lasers, taken evenly from an HDL-64E's.
        columns: firings per turn.
        spacing: metres driven between scans; None: 9 to 14, as each sequence draws.
    """

    seed: int = Field(default=0, ge=0)
    train_scans: int = Field(default=400, ge=len(SPLITS["train"]))
    val_scans: int = Field(default=100, ge=len(SPLITS["val"]))
    test_scans: int = Field(default=100, ge=len(SPLITS["test"]))
    beams: int = Field(default=32, ge=4, le=64)
    columns: int = Field(default=1024, ge=64)
    spacing: float | None = Field(default=None, gt=0.1, le=20)


@dataclass(frozen=True)
class _Job:
    """One scan to make."""

    sequence: str
    frame: int


def generate_dataset(root: Path, settings: SimulationSettings, workers: int | None = None) -> None:
    """Make a simulated data set, or what is missing of it.

    The same settings give the same bytes, whatever the number of workers and however often the
    work was interrupted. Files appear whole or not at all.

    Args:
        root: folder to write to: missing, empty, or begun with the same settings.
        settings: what to simulate.
        workers: processes; all cores by default, 1 makes everything in this process.

    Raises:
        DataError: the folder holds something else, or another simulation, or a file cannot be
            written.
        RangesegError: a worker was ended.
    """
    root = Path(root)
    stamp = read_stamp(root)
    if stamp is None:
        _write_stamp(root, settings, complete=False)
    elif stamp.settings != settings:
        raise DataError(
            f"{root} holds a simulation with other settings "
            f"({_differences(stamp.settings, settings)}): choose another root, or these settings"
        )
    todo = [job for job in _all_jobs(settings) if not _is_complete(root, job)]
    with Progress("simulate", len(todo), unit="scans") as progress:
        if todo:
            # One scan in this process: the kernels are compiled and cached before others need them.
            _make(root, settings, todo[:1], progress.update)
            _share(root, settings, todo[1:], workers or cores(), progress)
    frames = Counter(job.sequence for job in _all_jobs(settings))
    for sequence, count in frames.items():
        folder = root / "sequences" / sequence
        if not (folder / "poses.txt").is_file():
            world = World(settings.seed, sequence, settings.spacing)
            for name, text in pose_files(world, count).items():
                _write(folder / name, text.encode())
    _write_stamp(root, settings, complete=True)


@dataclass(frozen=True)
class Stamp:
    """The content of simulation.json."""

    settings: SimulationSettings
    complete: bool


def read_stamp(root: Path) -> Stamp | None:
    """What a folder holds; None if it is missing or empty.

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


def _paths(root: Path, job: _Job) -> tuple[Path, Path]:
    folder = root / "sequences" / job.sequence
    name = f"{job.frame:06d}"
    return folder / "velodyne" / f"{name}.bin", folder / "labels" / f"{name}.label"


def _is_complete(root: Path, job: _Job) -> bool:
    return all(path.is_file() for path in _paths(root, job))


def _share(
    root: Path, settings: SimulationSettings, todo: list[_Job], workers: int, progress: Progress
) -> None:
    """Deal blocks of scans to processes, which report every scan through a pipe."""
    blocks = [todo[start : start + _BLOCK] for start in range(0, len(todo), _BLOCK)]
    workers = min(workers, len(blocks))
    if workers <= 1:
        _make(root, settings, todo, progress.update)
        return
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, Any] = {}
    try:
        for worker in range(workers):
            share = [job for block in blocks[worker::workers] for job in block]
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(root, settings, share, sender), daemon=True
            )
            process.start()
            sender.close()
            running[receiver] = process
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    process = running.pop(ready)
                    process.join()
                    if process.exitcode:
                        raise RangesegError(
                            f"a process that simulates ended with code {process.exitcode}: free "
                            "memory, or go on with fewer: rangeseg-data simulate with the same "
                            "options and --workers 1; what is there is kept"
                        ) from None
                    continue
                if isinstance(message, BaseException):
                    raise message
                progress.update(message)
    finally:
        for process in running.values():
            process.terminate()


def _work(root: Path, settings: SimulationSettings, jobs: list[_Job], sender: Connection) -> None:
    """A worker process; it ends by itself when its parent is gone, for the pipe breaks."""
    try:
        _make(root, settings, jobs, sender.send)
    except (BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        sender.send(error)


def _make(
    root: Path, settings: SimulationSettings, jobs: list[_Job], report: Callable[[int], None]
) -> None:
    world: World | None = None
    for job in jobs:
        if world is None or world.sequence != job.sequence:
            world = World(settings.seed, job.sequence, settings.spacing)
        reading = simulate_scan(world, job.frame, settings)
        points, labels = _paths(root, job)
        _write(labels, reading.labels.astype("<u4").tobytes())
        _write(points, reading.points.astype("<f4").tobytes())
        report(1)


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole, and clear away what a killed writer left of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    remedy = "make room and give the same command again, or choose another root"
    with writable(path, remedy, DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with on_disk(temporary) as file:
                file.write(content)
            os.replace(temporary, path)
        except FileNotFoundError:
            if not path.is_file():  # else another process made it, and cleared ours away
                raise
        finally:
            for leftover in path.parent.glob(f"{path.name}.*.tmp"):
                leftover.unlink(missing_ok=True)


def simulate_scan(world: World, frame: int, settings: SimulationSettings) -> Reading:
    """One scan in which every beam has returns all around.

    Args:
        world: of the scan's sequence.
        frame: number of the scan.
        settings: beams and columns are used.

    Raises:
        RuntimeError: a beam looks into nothing however often the noise is drawn.
    """
    scene = world.scene(frame)
    for attempt in range(_ATTEMPTS):
        rng = stream(world.seed, world.sequence, purpose=20 + attempt, number=frame)
        reading = scan_scene(scene, world.style, settings.beams, settings.columns, rng)
        if rows_are_separable(reading, settings.beams):
            return reading
    raise RuntimeError(
        f"sequence {world.sequence}, scan {frame}: a beam has no return in some quarter of the turn"
    )


def rows_are_separable(reading: Reading, beams: int) -> bool:
    """Whether every beam has returns in every quarter of the turn.

    Then the azimuth falls by more than half a turn exactly once between two beams, and a row per
    wrap finds all of them, wherever the seam is put.
    """
    azimuth = np.arctan2(reading.points[:, 1], reading.points[:, 0])
    quarter = (azimuth // (np.pi / 2)).astype(np.int64) % 4
    return bool((np.bincount(reading.beam * 4 + quarter, minlength=beams * 4) > 0).all())
