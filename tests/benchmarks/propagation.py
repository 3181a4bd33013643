"""Labels carried along the poses of real scans: how right, how many, and how long it takes.

    python -m tests.benchmarks.propagation SEMANTIC_KITTI_ROOT [--poses DIR] [--noise M DEGREES]

The first scan of every sequence labels the others. The nearest labelled point alone is the
reference; both sides see the same scans and poses.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from rangeseg.datasets.bad_scans import BadScan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.motion.neighbours import Reach, find_sources
from rangeseg.motion.poses import SequencePoses, all_poses
from rangeseg.motion.propagation import PropagationSettings, propagate
from rangeseg.report.tables import markdown_table

SHARES = (0.75, 0.9)
FAR = Reach(1000)


class Given(NamedTuple):
    """What the points of a scan with a known truth were given.

    Attributes:
        truth: (N,) uint8.
        labels: (N,) uint8, IGNORE where there is none.
        rank: (N,) float64, higher where the label is surer.
        kept: (N,) bool, whether the label would be used by default.
    """

    truth: np.ndarray
    labels: np.ndarray
    rank: np.ndarray
    kept: np.ndarray


def nearest(
    source: SemanticKitti, poses: dict[str, SequencePoses], near: dict[str, list[str]], limit: float
) -> Iterator[Given]:
    """The label of the nearest labelled point within a limit in metres."""
    known = {i: pose for found in poses.values() for i, pose in found.poses.items()}
    for scan_id, (labelled, *_) in near.items():
        scan, first = source.read_scan(scan_id), source.read_scan(labelled)
        assert scan.labels is not None
        assert first.labels is not None
        pose = np.linalg.inv(known[labelled]) @ known[scan_id]
        places = scan.points[:, :3] @ pose[:3, :3].T + pose[:3, 3]
        distance, index = cKDTree(first.points[:, :3]).query(places, distance_upper_bound=limit)
        labels = np.append(first.labels, np.uint8(IGNORE))[index]
        judged = scan.labels != IGNORE
        found = [scan.labels, labels, -distance, labels != IGNORE]
        yield Given(*[values[judged] for values in found])


def voted(
    source: SemanticKitti,
    poses: dict[str, SequencePoses],
    near: dict[str, list[str]],
    settings: PropagationSettings,
) -> Iterator[Given]:
    """The vote of the toolkit."""

    def fail(bad: BadScan) -> None:
        raise bad.error

    for given in propagate(source, poses, near, settings, fail):
        truth = source.read_scan(given.scan_id).labels
        assert truth is not None
        judged = truth != IGNORE
        kept = given.sure(settings.min_confidence) != IGNORE
        found = [truth, given.labels, given.confidence.astype(float), kept]
        yield Given(*[values[judged] for values in found])


def figures(parts: Sequence[Given]) -> list[str]:
    """Right at each of SHARES covered; right, covered and mIoU of what is kept; in per cent."""
    truth, labels, rank, kept = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(-np.where(labels == IGNORE, -np.inf, rank), kind="stable")
    right = np.cumsum((labels == truth)[order])
    cells = []
    for share in SHARES:
        count = int(share * len(order))
        enough = (labels != IGNORE).mean() >= share
        cells.append(f"{100 * right[count - 1] / count:.2f}" if enough else "–")
    counts = np.zeros((256, 256))
    np.add.at(counts, (truth[kept], labels[kept]), 1)
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    present = counts.sum(axis=1) > 0
    return [
        *cells,
        f"{100 * np.trace(counts) / counts.sum():.2f}",
        f"{100 * kept.mean():.1f}",
        f"{100 * (np.diag(counts) / np.maximum(union, 1))[present].mean():.1f}",
    ]


def disturbed(poses: dict[str, SequencePoses], metres: float, degrees: float) -> None:
    """Move every pose by so many metres and degrees, in a random direction of its own."""
    rng = np.random.default_rng(0)
    for found in poses.values():
        for scan_id, pose in found.poses.items():
            way, axis = rng.normal(size=(2, 3))
            noise = np.eye(4)
            turn = np.radians(degrees) * axis / np.linalg.norm(axis)
            noise[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
            noise[:3, 3] = metres * way / np.linalg.norm(way)
            found.poses[scan_id] = pose @ noise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--poses", type=Path, help="a folder of other poses")
    parser.add_argument("--noise", type=float, nargs=2, default=(0.0, 0.0))
    arguments = parser.parse_args()
    source, settings = SemanticKitti(arguments.root), PropagationSettings(reach=FAR)
    for split in ("train", "val"):
        sequences = source.sequences(split)
        poses = all_poses(source, sequences, arguments.poses)
        disturbed(poses, *arguments.noise)
        near = find_sources(poses, [source.sequence_ids(s)[0] for s in sequences], FAR)
        list(voted(source, poses, dict(list(near.items())[:1]), settings))  # compile
        rows = []
        for limit in (0.2, 0.5, 1.2):
            found = list(nearest(source, poses, near, limit))
            rows.append([f"nearest point within {limit} m", *figures(found)])
        started = time.perf_counter()
        given = list(voted(source, poses, near, settings))
        seconds = (time.perf_counter() - started) / len(near)
        rows.append(["vote, default settings", *figures(given)])
        header = [f"right at {100 * share:g} %" for share in SHARES]
        print(f"{split}: {len(near)} scans, {seconds:.3f} s each on all cores")
        print(markdown_table(["labels", *header, "right", "covered", "mIoU"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
