"""Scribble-like labels, drawn from the full labels of single scans.

They replace ScribbleKITTI's annotation in tests and studies of label budgets, but are **not** that
annotation: people drew it on many superimposed scans.

Reference: Unal et al., Scribble-Supervised LiDAR Semantic Segmentation, CVPR 2022. Imitated are its
lines over everything visible, about 8 % of the points.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from rangeseg.datasets.batches import naming_dead_loaders
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.pose_files import CALIBRATION, POSES, TIMES
from rangeseg.datasets.semantic_kitti import DRAWN_STAMP, ScribbleKitti, SemanticKitti
from rangeseg.errors import ConfigError, RangesegError
from rangeseg.settings import Settings
from rangeseg.system.files import writable, write_file
from rangeseg.system.progress import Progress

SCRIBBLES_VERSION = 1
"""Increase it when the same settings give other scribbles."""

_REMEDY = "make room for it and call again, or choose another --out"
_WHAT = (
    "scribbles drawn by rangeseg from the full labels of each scan; "
    "not the published annotation of ScribbleKITTI"
)

# Side of a cell of the bird's-eye grid, as a share of its distance: 0.5 m at 10 m, 2.5 m at 50 m.
# Far points are further apart.
_CELL = 0.05
_NEAREST = 5.0  # metres; closer cells are whole sectors, as smaller ones would be too small
_WITHIN_CLASS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])

_POINTS_PER_STROKE = 150
_ENDS_TRIED = 8  # a stroke ends at the farther of these from its start, so few are dots


class ScribbleSettings(Settings):
    """Settings of the scribbles; another seed draws other strokes."""

    fraction: float = Field(default=0.08, gt=0, le=1)  # share of points that keep their label
    seed: int = Field(default=0, ge=0)


def draw_scribbles(
    points: np.ndarray, raw_labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Keep the labels that lie on strokes through every component of every class.

    A component is an instance, or connected cells of one class in bird's-eye view. Each gets its
    share of the points, but at least one, so that many small components raise the share.

    Args:
        points: (N,4) float32, see ``Scan``.
        raw_labels: (N,) uint32 raw ids of SemanticKITTI, the instance in the upper half.
        fraction: share of each component's points that keep their label.
        rng: draws the strokes.

    Returns:
        (N,) uint32: the kept raw labels, with instance, otherwise 0.

    Raises:
        DataError: an id that SemanticKITTI does not define.
    """
    labels = SemanticKitti.info.label_map.to_train(raw_labels)
    places = points[:, :3].astype(np.float64)
    real = np.isfinite(places).all(axis=1) & places.any(axis=1)
    drawable = np.flatnonzero((labels != IGNORE) & real)
    scribbles = np.zeros(len(raw_labels), dtype=np.uint32)
    if not len(drawable):
        return scribbles
    component = _components(places[drawable], labels[drawable], raw_labels[drawable])
    order = np.argsort(component, kind="stable")
    borders = np.flatnonzero(np.diff(component[order])) + 1
    for members in np.split(drawable[order], borders):
        kept = members[_on_strokes(places[members], fraction, rng)]
        scribbles[kept] = raw_labels[kept]
    return scribbles


def _components(places: np.ndarray, labels: np.ndarray, raw_labels: np.ndarray) -> np.ndarray:
    """The number of each point's component, (N,) int64, different in every class."""
    x, y = places[:, 0], places[:, 1]
    # A logarithmic polar grid; its cut behind the sensor splits a component there.
    ring = (np.log(np.maximum(np.hypot(x, y), _NEAREST) / _NEAREST) / _CELL).astype(np.int64)
    sector = ((np.arctan2(y, x) + np.pi) / _CELL).astype(np.int64)
    is_instance = raw_labels >> 16 > 0
    cells = np.zeros((int(labels.max()) + 1, ring.max() + 1, sector.max() + 1), dtype=bool)
    stuff = ~is_instance
    cells[labels[stuff], ring[stuff], sector[stuff]] = True
    numbers, count = ndimage.label(cells, structure=_WITHIN_CLASS)
    component: np.ndarray = numbers[labels, ring, sector].astype(np.int64)
    _, instance = np.unique(raw_labels[is_instance], return_inverse=True)
    component[is_instance] = count + 1 + instance
    return component


def _on_strokes(places: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Select the points of one component nearest to straight strokes.

    Strokes lie in the plane of the component's largest spread, as an annotator turns the view.
    They run over the ground, along a wall, up a pole. From above only, a stroke along a wall
    would cover scattered points all over it.

    Returns:
        Indices of max(1, floor(fraction · N)) of the positions (N,3).
    """
    quota = max(1, int(fraction * len(places)))
    if quota == 1:
        return rng.integers(len(places), size=1)
    plane = _widest_plane(places)
    distance = np.full(len(plane), np.inf)
    for _ in range(-(-quota // _POINTS_PER_STROKE)):
        start, *others = plane[rng.integers(len(plane), size=1 + _ENDS_TRIED)]
        end = max(others, key=lambda other: float(np.square(other - start).sum()))
        distance = np.minimum(distance, _distance_to_segment(plane, start, end))
    return np.argpartition(distance, quota - 1)[:quota]


def _widest_plane(places: np.ndarray) -> np.ndarray:
    """The two coordinates (N,2) in which points (N,3) spread most."""
    centred = places - places.mean(axis=0)
    # No matrix product: its sums, and so the scribbles, may depend on the number of threads.
    _, axes = np.linalg.eigh(np.einsum("ni,nj->ij", centred, centred))
    plane: np.ndarray = centred @ axes[:, 1:]
    return plane


def _distance_to_segment(plane: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Squared distance of points (N,2) to the segment between two points (2,)."""
    along = end - start
    offset = plane - start
    share = np.clip(offset @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
    distance: np.ndarray = np.square(offset - share[:, None] * along).sum(axis=1)
    return distance


def scribble_dataset(
    source: SemanticKitti, out: Path, settings: ScribbleSettings, workers: int = 0
) -> int:
    """Make a root of ``scribble_kitti`` with scribbles drawn from full labels.

    Points and full labels are links to the source; scribbles are drawn for the training sequences.
    The scribbles of a scan depend only on the settings and its id. The same call completes an
    interrupted one.

    Args:
        source: data set with full labels, in SemanticKITTI's layout and ids.
        out: output folder: missing, empty, or begun with the same source and settings.
        settings: settings of the drawing.
        workers: number of processes; 0 draws in this one.

    Returns:
        The number of training scans.

    Raises:
        ConfigError: the folder holds something else, other scribbles, or cannot be written.
        DataError: a training sequence is missing, or a scan or its labels cannot be read.
        RangesegError: a worker process died.
    """
    scan_ids = source.scan_ids("train")
    stamp = {
        "what": _WHAT,
        "version": SCRIBBLES_VERSION,
        "dataset": source.info.name,
        "root": str(source.root.resolve()),
        **settings.model_dump(),
    }
    _check_folder(out, stamp)
    target = ScribbleKitti(out)
    missing = [i for i in scan_ids if not target.has_labels(i)]
    with writable(out, _REMEDY):
        write_file(out / DRAWN_STAMP, json.dumps(stamp, indent=2) + "\n")
        _link_sequences(source, out)
    drawing = DataLoader(_Drawing(source, target, missing, settings), None, num_workers=workers)
    done = len(scan_ids) - len(missing)
    remedy = "free memory, or lower --workers, and call again"
    with (
        naming_dead_loaders("a process that draws scribbles", remedy),
        Progress("scribble", len(scan_ids), "scans", initial=done) as progress,
    ):
        for failure in drawing:
            if failure is not None:
                raise failure
            progress.update()
    return len(scan_ids)


class _Drawing(Dataset["RangesegError | None"]):
    """Draws and writes the scribbles of one scan; returns its error, see ``TrainingScans``."""

    def __init__(
        self,
        source: SemanticKitti,
        target: ScribbleKitti,
        scan_ids: list[str],
        settings: ScribbleSettings,
    ) -> None:
        self.source, self.target = source, target
        self.scan_ids, self.settings = scan_ids, settings

    def __len__(self) -> int:
        return len(self.scan_ids)

    def __getitem__(self, index: int) -> RangesegError | None:
        scan_id = self.scan_ids[index]
        try:
            points = self.source.read_scan(scan_id).points  # checks the labels too
            raw_labels = np.fromfile(self.source.paths(scan_id)[1], dtype="<u4")
            digest = hashlib.sha256(f"{self.settings.seed}:{scan_id}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest, "big"))
            scribbles = draw_scribbles(points, raw_labels, self.settings.fraction, rng)
            path = self.target.paths(scan_id)[1]
            with writable(path, _REMEDY):
                write_file(path, scribbles.astype("<u4").tobytes())
        except RangesegError as error:
            return error
        return None


def _link_sequences(source: SemanticKitti, out: Path) -> None:
    """Link points, labels and poses of every sequence of the source."""
    for split in source.splits:
        for sequence in source.sequences(split):
            there, here = (root / "sequences" / sequence for root in (source.root, out))
            for name in ("velodyne", "labels"):
                if (there / name).is_dir() and not (here / name).exists():
                    here.mkdir(parents=True, exist_ok=True)
                    (here / name).symlink_to((there / name).resolve(), target_is_directory=True)
            for name in (POSES, CALIBRATION, TIMES):
                if here.is_dir() and (there / name).is_file() and not (here / name).exists():
                    (here / name).symlink_to((there / name).resolve())


def _check_folder(out: Path, stamp: dict[str, Any]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: choose another --out")
    try:
        was = json.loads((out / DRAWN_STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        was = None
    if not isinstance(was, dict):
        raise ConfigError(
            f"{out} is not empty and holds no sound {DRAWN_STAMP}, so nothing was drawn there: "
            "choose another --out"
        )
    for key, value in stamp.items():
        if was.get(key) != value:
            raise ConfigError(
                f"{out} was begun with {key}={was.get(key)}, now it is {value}: go on with the "
                "same settings, or choose another --out"
            )
