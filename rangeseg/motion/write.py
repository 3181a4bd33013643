"""Write propagated labels as label files in the data set's format, with a stamp."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rangeseg.datasets import key_of, open_dataset
from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.custom import Custom, Description
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.split_files import fingerprint
from rangeseg.errors import ConfigError, DataError
from rangeseg.motion.propagation import propagate
from rangeseg.motion.store import PropagationPlan
from rangeseg.system.files import writable, write_file
from rangeseg.system.progress import Progress

STAMP = "rangeseg_propagation.json"
"""File in the labels' folder with everything that determines them."""

_REMEDY = "make room, or choose another --out"


@dataclass(frozen=True)
class Propagation:
    """A folder of propagated labels.

    Attributes:
        folder: path of the folder.
        source: data set of the labels.
        sources: unlabelled scan -> labelled scans of its labels, the nearest first.
        stamp: everything that determines the labels.
    """

    folder: Path
    source: ScanSource
    sources: dict[str, list[str]]
    stamp: dict[str, Any]

    def labels(self, scan_id: str) -> np.ndarray:
        """Read the propagated labels (N,) uint8 of a scan; IGNORE where unknown.

        Raises:
            DataError: their file is missing, or holds undefined ids.
        """
        path = self.folder / self.source.label_file(scan_id)
        dtype = self.source.encode_labels(np.array([IGNORE], dtype=np.uint8)).dtype
        try:
            raw_labels = np.fromfile(path, dtype)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}): propagate the labels again",
                kind="missing",
            ) from None
        return self.source.info.label_map.to_train(raw_labels, where=str(path))


def write_propagation(
    source: ScanSource, plan: PropagationPlan, out: Path, labels: str, seed: int
) -> Propagation:
    """Propagate labels and write them; keep files of an earlier call.

    Args:
        source: the data set.
        plan: plan of the propagation.
        out: output folder: missing, empty, or begun with the same data and settings.
        labels: value of ``--labels``, for the stamp.
        seed: likewise.

    Raises:
        ConfigError: the folder holds something else or cannot be written, or the data set has no
            id for unknown labels.
        DataError: a scan cannot be read.
    """
    source.encode_labels(np.array([IGNORE], dtype=np.uint8))  # needs an id for unknown labels
    settings = plan.settings.model_dump(mode="json")
    stamp = {
        "dataset": key_of(source),
        "root": str(source.root.resolve()),
        "description": _description(source),
        "labels": labels,
        "seed": seed,
        "labelled": fingerprint(plan.labelled),
        "settings": settings,
        "poses": plan.origin,
        "key": plan.key(source),
        "sources": dict(plan.sources),
    }
    _begin(out, stamp)
    paths = {i: out / source.label_file(i) for i in plan.sources}
    missing = {i: near for i, near in plan.sources.items() if not paths[i].is_file()}
    bad_scans, done = BadScans("fail", len(paths)), len(paths) - len(missing)
    with Progress("propagate labels", len(paths), "scan", initial=done) as progress:
        made = propagate(
            source, plan.poses, missing, plan.settings,
            lambda bad: bad_scans.add(bad.scan_id, bad.error),
        )  # fmt: skip
        for given in made:
            content = source.encode_labels(given.sure(plan.settings.min_confidence)).tobytes()
            with writable(paths[given.scan_id], _REMEDY):
                write_file(paths[given.scan_id], content)
            progress.update()
    return Propagation(out, source, dict(plan.sources), stamp)


def read_propagation(folder: Path) -> Propagation:
    """Read a folder from ``write_propagation``.

    Raises:
        DataError: its stamp is missing or damaged, or its data set is gone.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        description = stamp["description"]
        described = None if description is None else Description.model_validate(description)
        source = open_dataset(stamp["dataset"], Path(stamp["root"]), described)
        sources = {str(i): [str(n) for n in near] for i, near in stamp["sources"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / STAMP} is missing or damaged ({error}): propagate the labels again"
        ) from None
    source.check_root()
    return Propagation(folder, source, sources, stamp)


def _description(source: ScanSource) -> dict[str, Any] | None:
    return source.description.model_dump(mode="json") if isinstance(source, Custom) else None


def _begin(out: Path, stamp: dict[str, Any]) -> None:
    """Write the stamp into a new folder, or check an existing one."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: choose another --out")
    if out.is_dir() and any(out.iterdir()):
        try:
            was = json.loads((out / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            was = None
        if not isinstance(was, dict):
            raise ConfigError(
                f"{out} is not empty and holds no sound {STAMP}: choose another --out"
            )
        for name, value in stamp.items():
            if was.get(name) != value:
                shown = f" ({was.get(name)} there, {value} now)" if isinstance(value, str) else ""
                raise ConfigError(
                    f"{out} was begun with other {name}{shown}: go on with the same data and "
                    "settings, or choose another --out"
                )
        return
    with writable(out, _REMEDY):
        write_file(out / STAMP, json.dumps(stamp, indent=1) + "\n")
