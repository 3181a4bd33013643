"""Write recordings into the toolkit's layout; complete interrupted imports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets.formats import roles_of
from rangeseg.datasets.importing.columns import Columns, find_columns
from rangeseg.datasets.importing.recording import Frame, Recording
from rangeseg.datasets.importing.transforms import pose_lines
from rangeseg.datasets.layout import Layout
from rangeseg.datasets.pose_files import POSES, TIMES
from rangeseg.errors import ConfigError, DataError
from rangeseg.system.files import writable, write_file
from rangeseg.system.progress import Progress

STAMP = "rangeseg_import.json"
"""File of an imported sequence with its source and columns."""

_REMEDY = "make room, or choose another --out"


@dataclass(frozen=True)
class Job:
    """A recording and the sequence it becomes.

    Attributes:
        columns: columns of its files.
        stamp: identifies the import.
        done: whether an earlier call completed it.
    """

    recording: Recording
    folder: Path
    columns: Columns
    stamp: dict[str, Any]
    done: bool


@dataclass
class Imported:
    """The result of an import.

    Attributes:
        frames: number of files now.
        kept: number of files from an earlier call.
        labelled: number of files with labels.
        empty: number of messages without points, which are left out.
        late: number of scans older than the one before.
        poses: origin and number of the poses, or why there are none.
        fault: why the recording could not be read to its end.
    """

    frames: int = 0
    kept: int = 0
    labelled: int = 0
    empty: int = 0
    late: int = 0
    poses: str = ""
    fault: str = ""


@dataclass
class _Scans:
    """Names and times of the kept scans."""

    names: list[str] = field(default_factory=list)
    stamps_ns: list[int | None] = field(default_factory=list)


def plan_import(
    root: Path, recordings: Mapping[str, Recording], every: int, layout: Layout
) -> list[Job]:
    """Inspect the first scan of each recording and the existing files in the folder.

    Args:
        root: the folder above ``sequences/``.
        recordings: sequence name -> recording.
        every: keep each n-th scan.
        layout: unusual names of fields.

    Raises:
        ConfigError: a sequence exists and is something else, or the files would have different
            columns.
        DataError: a recording has no scan, or its first cannot be read.
    """
    jobs = []
    for name, recording in recordings.items():
        folder = root / "sequences" / name
        columns = _columns(recording, layout)
        read = {"every": every, "columns": list(columns.names), "fields": dict(columns.roles)}
        stamp = recording.identity() | read
        done = _is_done(folder, stamp, recording.total)
        jobs.append(Job(recording, folder, columns, stamp, done))
    _check_columns(root, jobs)
    return jobs


def _columns(recording: Recording, layout: Layout) -> Columns:
    """Choose the columns by the first scan with points."""
    for frame in recording.frames():
        if frame.points:
            try:
                fields = frame.read()
                return find_columns(roles_of(tuple(fields), layout), fields)
            except DataError as error:
                raise DataError(f"{frame.name}: {error}") from None
    raise DataError(f"{recording.path}: no scan has a point ({recording.described})", "missing")


def _is_done(folder: Path, stamp: dict[str, Any], total: int) -> bool:
    """Whether a sequence is complete.

    Raises:
        ConfigError: it is from another import.
    """
    found = read_stamp(folder)
    if found is None:
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder} exists and was not imported: choose another --out, or move it away"
            )
        return False
    differ = [f"{k} {found.get(k)}, not {v}" for k, v in stamp.items() if found.get(k) != v]
    if differ:
        raise ConfigError(
            f"{folder} holds another import ({'; '.join(differ)}): choose another --out, or move "
            "it away"
        )
    if found.get("complete") and found.get("total") != total:
        raise ConfigError(
            f"{folder} holds {found.get('total')} scans of its source, which has {total} now: "
            "choose another --out, or move it away"
        )
    return bool(found.get("complete"))


def read_stamp(folder: Path) -> dict[str, Any] | None:
    """The stamp of an imported sequence; None where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / STAMP
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): choose another --out") from None


def _check_columns(root: Path, jobs: Sequence[Job]) -> None:
    """Check that all files below a root have the columns that its description states once."""
    there = {folder.name: read_stamp(folder) for folder in sorted(root.glob("sequences/*"))}
    known = {name: list(stamp["columns"]) for name, stamp in there.items() if stamp}
    known |= {job.folder.name: list(job.columns.names) for job in jobs}
    for name, columns in known.items():
        first = next(iter(known))
        if columns != known[first]:
            raise ConfigError(
                f"{name} has {' '.join(columns)}, but {first} has {' '.join(known[first])}: import "
                "them into different folders (--out)"
            )


def import_recording(job: Job, every: int) -> Imported:
    """Write one sequence, with a progress bar; files that exist are kept.

    A recording that breaks off leaves a sound, shorter sequence.

    Raises:
        ConfigError: the folder cannot be written.
    """
    folder = job.folder
    result, scans = Imported(), _Scans()
    with writable(folder, _REMEDY):
        _write_stamp(job, complete=False)
        try:
            _write_frames(job, every, result, scans)
        except DataError as error:
            result.fault = str(error)
        result.frames = len(scans.names)
        known = [s for s in scans.stamps_ns if s is not None]
        if known and len(known) == len(scans.names):
            write_file(folder / TIMES, "".join(f"{s // 10**9}.{s % 10**9:09d}\n" for s in known))
            result.late = int((np.diff(np.array(known)) < 0).sum())
        result.poses = _write_poses(job, scans)
        _write_stamp(job, complete=not result.fault)
    return result


def _write_frames(job: Job, every: int, result: Imported, scans: _Scans) -> None:
    recording = job.recording
    with Progress(f"importing {job.folder.name}", recording.total, recording.unit) as progress:
        for number, frame in enumerate(recording.frames()):
            if number % every == 0 and frame.points:
                _write_frame(job, frame, result, len(scans.names))
                scans.names.append(frame.name)
                scans.stamps_ns.append(frame.stamp_ns)
            elif number % every == 0:
                result.empty += 1
            progress.update()


def _write_frame(job: Job, frame: Frame, result: Imported, number: int) -> None:
    """Write the files of one scan, the points last: they mark it as complete."""
    points_path = job.folder / "velodyne" / f"{number:06d}.bin"
    labels_path = job.folder / "labels" / f"{number:06d}.label"
    if points_path.exists():
        result.kept += 1
        result.labelled += labels_path.exists()
        return
    try:
        fields = frame.read()
        time_s = None if frame.stamp_ns is None else frame.stamp_ns * 1e-9
        points = job.columns.points(fields, time_s)
        labels = job.columns.labels(fields) if frame.labels is None else frame.labels()
        if labels is not None and len(labels) != len(points):
            raise DataError(f"it has {len(points)} points, but {len(labels)} labels")
    except DataError as error:
        raise DataError(f"{frame.name}: {error}") from None
    if labels is not None:
        write_file(labels_path, labels.astype("<u4").tobytes())
        result.labelled += 1
    write_file(points_path, points.tobytes())


def _write_poses(job: Job, scans: _Scans) -> str:
    """Write the poses; return their origin, or why there are none."""
    try:
        poses, origin = job.recording.poses(scans.names, scans.stamps_ns)
    except DataError as error:
        return f"none: {error}"
    write_file(job.folder / POSES, pose_lines(poses))
    known = int(np.isfinite(poses).all(axis=(1, 2)).sum())
    return f"{known} of {len(poses)} scans, from {origin}"


def _write_stamp(job: Job, complete: bool) -> None:
    state = {"complete": complete, "total": job.recording.total}
    write_file(job.folder / STAMP, json.dumps(job.stamp | state, indent=2) + "\n")
