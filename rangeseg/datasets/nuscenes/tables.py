"""Read the tables of nuScenes with its devkit to build the index.

The devkit loads every table whole; training needs a few columns.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rangeseg.datasets.formats.files import file_size
from rangeseg.datasets.nuscenes.index import (
    FORMAT,
    SIMULATED,
    VERSIONS,
    Index,
    IndexedScan,
    IndexedScene,
    expected_tables,
    present_versions,
)
from rangeseg.errors import ConfigError, DataError, one_line, unknown_name
from rangeseg.system.progress import Progress

log = logging.getLogger(__name__)


class _Archives(NamedTuple):
    """Names of a version's downloads on nuscenes.org."""

    tables: str
    scans: str
    labels: str


_ARCHIVES = {
    "v1.0-trainval": _Archives(
        "v1.0-trainval_meta.tgz",
        "v1.0-trainval01_blobs.tgz to v1.0-trainval10_blobs.tgz",
        "nuScenes-lidarseg-all-v1.0.tar.bz2",
    ),
    "v1.0-mini": _Archives("v1.0-mini.tgz", "v1.0-mini.tgz", "nuScenes-lidarseg-mini-v1.0.tar.bz2"),
    "v1.0-test": _Archives(
        "v1.0-test_meta.tgz", "v1.0-test_blobs.tgz", "nuScenes-lidarseg-all-v1.0.tar.bz2"
    ),
    SIMULATED: _Archives("", "", ""),
}


def only_version(root: Path) -> str:
    """The only version in a folder.

    Raises:
        DataError: it holds none.
        ConfigError: it holds several.
    """
    present = present_versions(root)
    if not present:
        raise DataError(f"{root} holds no version of nuScenes: {expected_tables(root)}")
    if len(present) > 1:
        raise ConfigError(f"{root} holds {', '.join(present)}: choose one, --version {present[0]}")
    return present[0]


def build_index(root: Path, version: str) -> Index:
    """Read the tables and check that every file they name is there.

    Args:
        root: the folder of nuScenes, which holds ``v1.0-...``, ``samples`` and ``lidarseg``.
        version: a key of VERSIONS.

    Raises:
        ConfigError: no such version, or the devkit is not installed.
        DataError: the version, a table, a record or a file is missing.
    """
    if version not in VERSIONS:
        raise unknown_name("version", version, list(VERSIONS))
    present = present_versions(root)
    if version not in present:
        there = f"there: {', '.join(present)}" if present else expected_tables(root)
        raise DataError(f"{root} holds no {version} ({there}): download it, or name another one")
    _check_lidarseg(root, version)
    with _explained(root, version):
        scenes = _scenes(_load_tables(root, version), version)
    index = Index(format=FORMAT, version=version, data=root.resolve(), scenes=scenes)
    _check_files(index, root)
    return index


def _check_lidarseg(root: Path, version: str) -> None:
    """Check the labels' table and folder: the devkit's message is unclear."""
    archive = _ARCHIVES[version].labels
    remedy = f"download {archive} from nuscenes.org and unpack it into {root}"
    table, folder = root / version / "lidarseg.json", root / "lidarseg" / version
    if version == "v1.0-test":
        if table.exists() and not folder.is_dir():
            raise DataError(f"{folder} is missing, though it holds no label: make an empty folder")
        return
    for path in (table, folder):
        if not path.exists():
            raise DataError(f"{path} is missing: {_remedy(root, version, remedy)}")


def _remedy(root: Path, version: str, download: str) -> str:
    """Remedy for missing files: download them, or complete the simulation."""
    if version != SIMULATED:
        return download
    return f"complete it with `rangeseg-data simulate {shlex.quote(str(root))}`"


def _load_tables(root: Path, version: str) -> Any:
    """The devkit's NuScenes object."""
    try:
        from nuscenes import NuScenes
    except ImportError as error:
        raise ConfigError(
            f"the index is built with nuscenes-devkit, which cannot be imported ({error}): "
            "pip install 'rangeseg[nuscenes]' (simplest up to Python 3.12: it needs numpy 1), or "
            "copy an index built elsewhere"
        ) from None
    log.info("reading the tables of %s (of the whole data set, this takes a while)", version)
    return NuScenes(version, str(root), verbose=False)


@contextmanager
def _explained(root: Path, version: str) -> Iterator[None]:
    """Turn the devkit's errors on missing, damaged or inconsistent tables into a DataError."""
    archives = _ARCHIVES[version]
    again = f"unpack {archives.tables} into {root} again, and after it {archives.labels}"
    try:
        yield
    except (OSError, AssertionError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(
            f"the tables and files of {version} in {root} are incomplete or damaged ({what}): "
            f"{_remedy(root, version, again)}"
        ) from None


def _scenes(tables: Any, version: str) -> dict[str, IndexedScene]:
    """The scans of each scene in the order of time."""
    from nuscenes.utils.splits import create_splits_scenes

    official = create_splits_scenes()
    split_of = {scene: split for split in VERSIONS[version].values() for scene in official[split]}
    scans: dict[str, list[IndexedScan]] = {}
    for sample in sorted(tables.sample, key=lambda sample: sample["timestamp"]):
        scene = tables.get("scene", sample["scene_token"])["name"]
        if scene not in split_of:
            raise DataError(
                f"{scene} is in no official split of {version}: check that its tables are the "
                "official ones"
            )
        scans.setdefault(scene, []).append(_scan(tables, sample, version))
    return {
        scene: IndexedScene(split=split_of[scene], scans=tuple(scans[scene]))
        for scene in sorted(scans)
    }


def _scan(tables: Any, sample: Mapping[str, Any], version: str) -> IndexedScan:
    lidar_token = sample["data"]["LIDAR_TOP"]
    data = tables.get("sample_data", lidar_token)
    pose = None
    if "ego_pose_token" in data:
        ego = _matrix(tables.get("ego_pose", data["ego_pose_token"]))
        lidar = _matrix(tables.get("calibrated_sensor", data["calibrated_sensor_token"]))
        pose = tuple((ego @ lidar)[:3].ravel().round(9).tolist())
    published = version != "v1.0-test"
    labels = tables.get("lidarseg", lidar_token)["filename"] if published else None
    return IndexedScan(
        sample["token"], lidar_token, data["filename"], labels, sample["timestamp"], pose
    )


def _matrix(record: Mapping[str, Any]) -> np.ndarray:
    """The pose (4,4) of a record with a translation and a quaternion, real part first."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    matrix: np.ndarray = transform_matrix(record["translation"], Quaternion(record["rotation"]))
    return matrix


def _check_files(index: Index, root: Path) -> None:
    """Check that every file of an index is there."""
    missing, needed = [], set()
    archives = _ARCHIVES[index.version]
    with Progress(f"checking files of {index.version}", len(index.scans), "scans") as progress:
        for scan in index.scans.values():
            for name, archive in ((scan.points, archives.scans), (scan.labels, archives.labels)):
                if name is not None and file_size(root / name) is None:
                    missing.append(name)
                    needed.add(archive)
            progress.update()
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        download = f"download {' and '.join(sorted(needed))} from nuscenes.org and unpack there"
        raise DataError(
            f"{len(missing)} files of {len(index.scans)} scans are missing in {root} "
            f"({', '.join(missing[:3])}{more}): {_remedy(root, index.version, download)}",
            kind="missing",
        )
