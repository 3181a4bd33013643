"""The index of nuScenes: one file with the paths of every scan, read without the devkit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints, ValidationError

from rangeseg.datasets.formats.files import reason
from rangeseg.errors import DataError
from rangeseg.settings import Below, Settings
from rangeseg.simulation.nuscenes import VERSION
from rangeseg.system.files import writable, write_file

FORMAT: Literal[1] = 1

SIMULATED = VERSION
"""The version that ``rangeseg-data simulate --format nuscenes`` writes."""

PUBLISHED: Mapping[str, Mapping[str, str]] = {
    "v1.0-trainval": {"train": "train", "val": "val"},
    "v1.0-mini": {"train": "mini_train", "val": "mini_val"},
    "v1.0-test": {"test": "test"},
}
"""Each version with its splits: toolkit's name -> devkit's. The largest comes first."""

VERSIONS: Mapping[str, Mapping[str, str]] = {
    **PUBLISHED,
    SIMULATED: {"train": "train", "val": "val", "test": "test"},
}
"""The same, and the simulated one."""


# Predictions are written under the token, so it must not hold a path.
Token = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{32}\z")]


class IndexedScan(NamedTuple):
    """One key frame; paths are relative to the data's folder.

    Attributes:
        token: token of the sample; the scan's id.
        lidar_token: token of the sample_data record; the benchmark names predictions by it.
        points: path of the points.
        labels: path of the labels, None where none are published.
        timestamp: time in microseconds.
        pose: the LiDAR's pose in the world, the first three rows of the matrix, row by row; None if
            the tables or an older index have none.
    """

    token: Token
    lidar_token: Token
    points: Below
    labels: Below | None
    timestamp: int
    pose: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = None


class IndexedScene(Settings):
    """One drive: the devkit's name of its split, and its scans in the order of time."""

    split: str
    scans: tuple[IndexedScan, ...]


class Index(Settings):
    """All scans of one version.

    Attributes:
        format: version of the file format.
        version: a key of VERSIONS.
        data: base folder of the paths.
        scenes: scenes by name, sorted.
    """

    format: Literal[1]
    version: str
    data: Path | None
    scenes: dict[str, IndexedScene]

    @cached_property
    def scans(self) -> dict[str, IndexedScan]:
        """All scans by their token."""
        return {scan.token: scan for scene in self.scenes.values() for scan in scene.scans}


def index_path(folder: Path, version: str) -> Path:
    """Path of a version's index."""
    return folder / f"rangeseg_index_{version}.json"


def read_index(folder: Path, version: str) -> Index:
    """Read an index; ``data`` is never None in it.

    Raises:
        DataError: it cannot be read, is damaged or of another format, or its data folder is
            missing.
    """
    path = index_path(folder, version)
    try:
        index = Index.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} {reason(error)}: {_advice(folder, version)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{path} is damaged or not of format {FORMAT} ({place or 'JSON'}: {first['msg']}): "
            f"{_advice(folder, version)}"
        ) from None
    if index.version != version:
        raise DataError(f"{path} is of {index.version:.100}: {_advice(folder, version)}")
    if index.data is None:
        return index.model_copy(update={"data": folder})
    if not index.data.is_dir():
        raise DataError(
            f"{path} names the data folder {index.data}, which is missing: copy them back, "
            f"or build the index again: {_command(Path('ROOT'), version)} --out {_quoted(folder)}"
        )
    return index


def write_index(index: Index, folder: Path) -> Path:
    """Write an index atomically, and replace an existing one.

    An index in the data's folder does not store the folder, so that both can move together.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    path = index_path(folder, index.version)
    if index.data == folder.resolve():
        index = index.model_copy(update={"data": None})
    remedy = "name another folder for the index with --out DIR, and give that as dataset.root"
    with writable(path, remedy):
        write_file(path, index.model_dump_json())
    return path


def missing_index(folder: Path, versions: Sequence[str]) -> DataError:
    """The error for a folder without an index of these versions, best version first."""
    published = [version for version in versions if version in PUBLISHED]
    names = " or ".join(index_path(folder, version).name for version in published)
    present = [version for version in present_versions(folder) if version in versions]
    if present:
        return DataError(f"{folder} has no {names}: {_advice(folder, present[0])}", kind="missing")
    return DataError(
        f"{folder} has no {names}, and no tables to build it from: {expected_tables(folder)}: "
        f"download {' or '.join(published)} there and run {_command(folder, published[0])}",
        kind="missing",
    )


def present_versions(root: Path) -> list[str]:
    """The versions whose tables are in a folder.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder: give nuScenes' own, which holds v1.0-trainval")
    return [version for version in VERSIONS if _has_tables(root, version)]


def expected_tables(root: Path) -> str:
    """Describe expected tables, existing files, and the folder that was perhaps meant."""
    found = sorted(path.name for path in root.iterdir())
    near = [root.resolve().parent, *(root / name for name in found)]
    meant = [str(p) for p in near if any(_has_tables(p, version) for version in VERSIONS)]
    hint = f", did you mean {meant[0]}?" if meant else ""
    return f"expected {', '.join(PUBLISHED)} (found: {', '.join(found[:5]) or 'nothing'}{hint})"


def _has_tables(root: Path, version: str) -> bool:
    """Whether a folder holds a version's tables; lidarseg/ has label folders of the same names."""
    return any((root / version).glob("*.json"))


def _advice(folder: Path, version: str) -> str:
    if _has_tables(folder, version):
        return f"build it with: {_command(folder, version)}"
    return f"build it with: {_command(Path('ROOT'), version)} --out {_quoted(folder)}"


def _command(root: Path, version: str) -> str:
    return f"rangeseg-data index nuscenes {_quoted(root)} --version {version}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
