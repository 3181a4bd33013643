"""Store propagated labels as files: made once, read by every loader process."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.split_files import fingerprint
from rangeseg.errors import ConfigError, DataError
from rangeseg.motion.neighbours import find_sources
from rangeseg.motion.poses import SequencePoses, all_poses
from rangeseg.motion.propagation import Propagated, PropagationSettings, propagate
from rangeseg.system.files import writable, write_file
from rangeseg.system.progress import Progress

_log = logging.getLogger(__name__)

PROPAGATED = "propagated"
"""Subfolder of propagated labels in a run's folder."""

VERSION = 1
"""Increase it when the same scans and settings give other labels."""


@dataclass
class PropagationPlan:
    """The sources of each scan, and the poses.

    Attributes:
        labelled: the labelled scans.
        poses: sequence -> its poses.
        sources: unlabelled scan -> the labelled scans near it.
        settings: settings of the propagation.
    """

    labelled: list[str]
    poses: Mapping[str, SequencePoses]
    sources: Mapping[str, list[str]]
    settings: PropagationSettings

    @property
    def origin(self) -> str:
        """Origin of the poses."""
        return ", ".join(sorted({found.origin for found in self.poses.values()}))

    def apart(self, scan_id: str, other: str) -> str:
        """Distance of two scans of a sequence in the unit of the reach: ``4 frames``."""
        (found,) = (p for p in self.poses.values() if scan_id in p.poses)
        unit = self.settings.reach.unit
        if unit == "frames":
            return f"{abs(found.frames[scan_id] - found.frames[other])} frames"
        if unit == "s":
            return f"{abs(found.times[scan_id] - found.times[other]):.1f} s"
        way = found.poses[scan_id][:3, 3] - found.poses[other][:3, 3]
        return f"{np.linalg.norm(way):.0f} m"

    def key(self, source: ScanSource) -> str:
        """Hash (16 hexadecimal digits) of everything that determines the labels."""
        settings = self.settings
        what = {
            "version": VERSION,
            "dataset": source.info.name,
            "labelled": fingerprint(self.labelled),
            "reach": str(settings.reach),
            "distance": settings.distance,
            "movable_distance": settings.movable_distance,
            "movable": sorted(source.info.movable),
            "poses": {name: found.digest() for name, found in sorted(self.poses.items())},
        }
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def plan_propagation(
    source: ScanSource, labelled: list[str], settings: PropagationSettings
) -> PropagationPlan:
    """Find the unlabelled scans of the train split near labelled ones.

    Raises:
        ConfigError: the reach is 0.
        DataError: there are no poses, they have another frame of reference, or no unlabelled scan
            is within reach.
    """
    if not settings.reach:
        raise ConfigError(
            "reach 0 carries no label: give frames (10), metres (15m) or seconds (1s)"
        )
    chosen = set(labelled)
    sequences = [s for s in source.sequences("train") if chosen & set(source.sequence_ids(s))]
    poses = all_poses(source, sequences, settings.poses)
    sources = find_sources(poses, labelled, settings.reach)
    if not sources:
        raise DataError(
            f"no unlabelled scan is within reach {settings.reach} of the {len(labelled)} labelled "
            "ones: give a longer reach, or check the frame numbers and poses"
        )
    used = {i for near in sources.values() for i in near}
    lonely = [i for i in labelled if i not in used]
    if lonely:
        more = f" and {len(lonely) - 1} more" if len(lonely) > 1 else ""
        _log.warning(
            "%s%s of %d labelled scans: no unlabelled scan is within reach %s",
            lonely[0], more, len(labelled), settings.reach,
        )  # fmt: skip
    return PropagationPlan(labelled, poses, sources, settings)


class PropagatedLabels(Mapping[str, np.ndarray]):
    """Scan id -> its propagated labels (N,) uint8, IGNORE at too low confidence.

    Their folder is named by a hash of everything that determines them.

    Args:
        source: the data set.
        plan: plan of the propagation.
        folder: parent of the labels' folder.
    """

    def __init__(self, source: ScanSource, plan: PropagationPlan, folder: Path) -> None:
        self.source, self.plan = source, plan
        self.key = plan.key(source)
        self.folder = folder / self.key

    def __getitem__(self, scan_id: str) -> np.ndarray:
        """Read labels; raises DataError, not KeyError, if a file cannot be read."""
        return self.read(scan_id).sure(self.plan.settings.min_confidence)

    def __contains__(self, scan_id: object) -> bool:
        return scan_id in self.plan.sources and self._path(str(scan_id)).is_file()

    def __iter__(self) -> Iterator[str]:
        return (scan_id for scan_id in sorted(self.plan.sources) if scan_id in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def complete(self, bad_scans: BadScans) -> None:
        """Make missing labels, with a progress bar.

        Args:
            bad_scans: policy for unreadable scans.

        Raises:
            DataError: a scan cannot be read and may not be skipped.
            ConfigError: the folder cannot be written.
        """
        sources = self.plan.sources
        missing = {i: near for i, near in sources.items() if not self._path(i).is_file()}
        if not missing:
            return
        begun = len(sources) - len(missing)
        with Progress("propagate labels", len(sources), "scan", initial=begun) as progress:
            made = propagate(
                self.source, self.plan.poses, missing, self.plan.settings,
                lambda bad: bad_scans.add(bad.scan_id, bad.error),
            )  # fmt: skip
            for given in made:
                content = io.BytesIO()
                np.savez_compressed(content, labels=given.labels, confidence=given.confidence)
                path = self._path(given.scan_id)
                with writable(path, "make room, or name another folder"):
                    write_file(path, content.getbuffer())
                progress.update()

    def read(self, scan_id: str) -> Propagated:
        """Read the propagated labels of a scan.

        Raises:
            DataError: its file is missing or damaged.
        """
        path = self._path(scan_id)
        try:
            with np.load(path, allow_pickle=False) as content:
                labels, confidence = content["labels"], content["confidence"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} cannot be read ({error}): remove it, and the same command makes it again"
            ) from None
        return Propagated(scan_id, list(self.plan.sources[scan_id]), labels, confidence)

    def _path(self, scan_id: str) -> Path:
        return self.folder / f"{scan_id}.npz"
