"""Labels carried along: against a naive vote, and on real scans."""

import logging
from pathlib import Path

import numpy as np
import pytest

from rangeseg.datasets.bad_scans import BadScan
from rangeseg.datasets.base import Scan
from rangeseg.datasets.labels import IGNORE
from rangeseg.datasets.semantic_kitti import SemanticKitti
from rangeseg.motion.neighbours import Reach, find_sources
from rangeseg.motion.poses import SequencePoses, all_poses
from rangeseg.motion.propagation import Propagated, PropagationSettings, propagate
from tests.motion.test_pose_files import turned

SETTINGS = PropagationSettings(reach=Reach(10), distance=1.0, movable_distance=0.4)


class Scans(SemanticKitti):
    """Scans in memory."""

    def __init__(self, scans: dict[str, Scan]) -> None:
        super().__init__(Path("nowhere"))
        self.scans = scans

    def read_scan(self, scan_id: str, with_labels: bool = True) -> Scan:
        scan = self.scans[scan_id]
        return Scan(scan_id, scan.points, scan.labels if with_labels else None)


def unheard(bad: BadScan) -> None:
    raise bad.error


def sequence(poses: dict[str, np.ndarray]) -> dict[str, SequencePoses]:
    frames = {scan_id: int(scan_id[3:]) for scan_id in poses}
    return {"00": SequencePoses("00", "files", poses, frames, {}, dict.fromkeys(poses, 0))}


def naive(
    target: np.ndarray, sources: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and confidence of points (N,3), by (points, labels, pose to them) of each source."""
    labels = np.full(len(target), IGNORE)
    confidence = np.zeros(len(target))
    for n, point in enumerate(target):
        votes = np.zeros(19)
        for points, truth, pose in sources:
            known = truth != IGNORE
            here = pose[:3, :3] @ point + pose[:3, 3]
            offset = (points[known, :3].astype(np.float64) - here) * (1, 1, 2)
            distance = np.linalg.norm(offset, axis=1)
            for m in np.argsort(distance)[:8]:
                label = truth[known][m]
                if distance[m] <= (0.4 if label < 8 else 1.0):  # the first 8 classes move
                    votes[label] += 1 / (distance[m] ** 2 + 0.01)
        if votes.any():
            labels[n] = votes.argmax()
            confidence[n] = votes.max() / (votes.sum() + 1)
    return labels, confidence


def cloud(rng: np.random.Generator, count: int) -> np.ndarray:
    spread = rng.uniform((-6, -6, -1, 0), (6, 6, 1, 1), (count, 4))
    return spread.astype(np.float32)


def test_the_vote_equals_a_naive_one() -> None:
    rng = np.random.default_rng(0)
    poses = {
        "00/000000": turned(0.3, 1.0, 2.0, 0.1),
        "00/000002": turned(-0.2, 2.0, 2.5, 0.0),
        "00/000001": turned(0.1, 1.6, 2.2, -0.1),
    }
    scans = {}
    for scan_id in poses:
        labels = rng.integers(0, 19, 700).astype(np.uint8)
        labels[rng.random(700) < 0.2] = IGNORE
        scans[scan_id] = Scan(scan_id, cloud(rng, 700), labels)
    target = "00/000001"
    scans[target].points[:5, :3] = [
        [np.nan, 0, 0],
        [0, 0, 0],
        [np.inf, 1, 1],
        [60, 0, 0],
        [1, 2, 0],
    ]
    sources = {target: ["00/000000", "00/000002"]}
    (given,) = propagate(Scans(scans), sequence(poses), sources, SETTINGS, unheard)
    place = [
        (scans[i].points, scans[i].labels, np.linalg.inv(poses[i]) @ poses[target])
        for i in sources[target]
    ]
    labels, confidence = naive(scans[target].points[3:, :3].astype(np.float64), place)
    assert (given.labels[:3] == IGNORE).all()  # they are nowhere
    assert given.labels[3] == IGNORE  # far from everything
    np.testing.assert_array_equal(given.labels[3:], labels)
    np.testing.assert_allclose(given.confidence[3:], 255 * confidence, atol=1.001)
    assert (labels != IGNORE).mean() > 0.5
    assert given.sources == sources[target]


def test_only_sure_labels_are_kept() -> None:
    labels = np.array([3, 4, 5, IGNORE], dtype=np.uint8)
    given = Propagated("00/000001", [], labels, np.array([255, 204, 203, 0], dtype=np.uint8))
    assert given.sure(0.8).tolist() == [3, 4, IGNORE, IGNORE]
    assert given.sure(0.0).tolist() == labels.tolist()


def test_a_scan_without_a_known_label_gives_none() -> None:
    rng = np.random.default_rng(1)
    nothing = np.full(50, IGNORE, dtype=np.uint8)
    scans = {i: Scan(i, cloud(rng, 50), nothing) for i in ("00/000000", "00/000001")}
    poses = sequence({i: np.eye(4) for i in scans})
    sources = {"00/000001": ["00/000000"]}
    (given,) = propagate(Scans(scans), poses, sources, SETTINGS, unheard)
    assert (given.labels == IGNORE).all()
    assert not given.confidence.any()


@pytest.mark.real_data
def test_the_figures_on_real_scans(real_data: Path) -> None:
    """Frame 0 of ten places to frames 4 and 9; what was measured, less a small margin."""
    source = SemanticKitti(real_data / "semantickitti_mini")
    poses = all_poses(source, source.sequences("train"))
    labelled = [f"{name}/000000" for name in poses]
    sources = find_sources(poses, labelled, Reach(9))
    assert len(sources) == 20
    settings = PropagationSettings(reach=Reach(9))
    assert settings.model_copy(update={"reach": Reach(0)}) == PropagationSettings()  # the defaults
    confidence, right = [], []
    counts = np.zeros((19, 19))
    for given in propagate(source, poses, sources, settings, unheard):
        truth = source.read_scan(given.scan_id).labels
        assert truth is not None
        known = truth != IGNORE
        sure = given.sure(settings.min_confidence)
        kept = known & (sure != IGNORE)
        np.add.at(counts, (truth[kept], sure[kept]), 1)
        confidence.append(given.confidence[known])
        right.append((given.labels == truth)[known])
    order = np.argsort(-np.concatenate(confidence).astype(int), kind="stable")
    share_right = np.cumsum(np.concatenate(right)[order]) / np.arange(1, len(order) + 1)
    assert share_right[int(0.75 * len(order))] > 0.993  # 99.57 % of 75 %
    assert share_right[int(0.90 * len(order))] > 0.987  # 99.07 % of 90 %
    assert counts.sum() / len(order) > 0.91  # covered by default: 92.0 %
    assert np.trace(counts) / counts.sum() > 0.985  # 98.7 %
    present = counts.sum(axis=1) > 0
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    assert (np.diag(counts) / np.maximum(union, 1))[present].mean() > 0.91  # 91.7


@pytest.mark.real_data
def test_a_scan_that_moved_while_standing_still(
    real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same scan twice, 3 m apart by the poses; and two real ones, which are not alike."""
    real = SemanticKitti(real_data / "semantickitti_mini")
    first, fourth = real.read_scan("00/000000"), real.read_scan("00/000004")
    rng = np.random.default_rng(0)
    again = first.points.copy()
    again[:, :3] *= 1 + rng.normal(0, 5e-4, (len(again), 1)).astype(np.float32)  # 1 cm at 20 m
    scans = {"00/000000": first, "00/000001": Scan("00/000001", again), "00/000004": fourth}
    poses = sequence(
        {
            "00/000000": np.eye(4),
            "00/000001": turned(0.0, 3.0, 0.0, 0.0),
            "00/000004": all_poses(real, ["00"])["00"].poses["00/000004"],
        }
    )
    near = {i: ["00/000000"] for i in ("00/000001", "00/000004")}
    with caplog.at_level(logging.WARNING, "rangeseg"):
        stood, moved = propagate(Scans(scans), poses, near, SETTINGS, unheard)
    assert [r.getMessage() for r in caplog.records] == [
        "00/000001 sees what 00/000000 sees, but by its pose it is 3.0 m away: no label is carried"
    ]
    assert (stood.labels == IGNORE).all()
    assert (moved.labels != IGNORE).mean() > 0.8
