"""Distances, calibration and frequency-weighted figures, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from rangeseg.datasets.labels import IGNORE, LabelMap
from rangeseg.engine.calibration import BINS, Calibration
from rangeseg.engine.distance import DISTANCES, ConfusionByDistance
from rangeseg.engine.figures import point_figures
from rangeseg.engine.metrics import ConfusionMatrix

K, N = 6, 4000
NAMES = tuple("abcdef")
LABELS = LabelMap(NAMES, ((0, 0, 0),) * K, {**{i: i for i in range(K)}, 9: IGNORE})


def draw(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points up to 80 m away, truth without class 5, predictions, confidences."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(N, 4)).astype(np.float32)
    reach = rng.uniform(0.5, 80.0, (N, 1)).astype(np.float32)
    points[:, :3] *= reach / np.linalg.norm(points[:, :3], axis=1, keepdims=True)
    truth = rng.integers(0, K - 1, N).astype(np.uint8)
    found = np.where(rng.random(N) < 0.6, truth, rng.integers(0, K, N)).astype(np.uint8)
    truth[rng.random(N) < 0.1] = IGNORE
    return points, truth, found, rng.uniform(1 / K, 1.0, N).astype(np.float32)


def counted(*scans: tuple[np.ndarray, np.ndarray, np.ndarray]) -> ConfusionByDistance:
    confusion = ConfusionByDistance(K)
    for points, truth, found in scans:
        confusion.update(found, truth, points)
    return confusion


def test_each_distance_equals_scikit_learns() -> None:
    scans = [draw(seed)[:3] for seed in (0, 1)]
    confusion = counted(*scans)
    points, truth, found = (np.concatenate(part) for part in zip(*scans, strict=True))
    distance = np.linalg.norm(points[:, :3].astype(float), axis=1)
    result = point_figures(confusion, LABELS)
    for name, low, high in zip(
        DISTANCES, (0, 10, 20, 30, 50), (10, 20, 30, 50, np.inf), strict=True
    ):
        there = (distance >= low) & (distance < high) & (truth != IGNORE)
        present = np.unique(truth[there])
        miou = jaccard_score(truth[there], found[there], labels=present, average="macro")
        assert result["distance"][name]["miou"] == pytest.approx(100 * miou, rel=1e-12)
        assert result["distance"][name]["classes"] == len(present) == K - 1
        assert result["distance"][name]["points"] == there.sum()


def test_all_distances_together_equal_scikit_learns() -> None:
    points, truth, found, _ = draw()
    result = point_figures(counted((points, truth, found)), LABELS)
    known = truth != IGNORE
    truth, found = truth[known], found[known]
    assert result["confusion"] == confusion_matrix(truth, found, labels=range(K)).tolist()
    weighted = jaccard_score(truth, found, average="weighted")  # by the points of each class
    assert result["fwiou"] == pytest.approx(100 * weighted, rel=1e-12)
    assert result["accuracy"] == pytest.approx(100 * accuracy_score(truth, found), rel=1e-12)
    matrix = ConfusionMatrix(K)
    matrix.update(found, truth)
    assert list(result["iou"].values()) == (100 * matrix.iou()).tolist()


def test_distances_at_the_borders_and_nowhere() -> None:
    x = [0.0, 9.999, 10.0, 49.99, 50.0, 1e30, np.inf, np.nan]
    points = np.zeros((len(x), 4), np.float32)
    points[:, 0] = x
    confusion = counted((points, np.zeros(8, np.uint8), np.zeros(8, np.uint8)))
    assert confusion.counts[:, 0, 0].tolist() == [2, 1, 0, 1, 4]


def test_no_prediction_is_a_missed_point_and_no_truth_is_none() -> None:
    points = np.ones((4, 4), np.float32)
    truth, found = np.array([0, 0, 1, IGNORE]), np.array([0, IGNORE, 1, 1])
    confusion = counted((points, truth.astype(np.uint8), found.astype(np.uint8)))
    result = point_figures(confusion, LABELS)
    assert confusion.total().withheld.tolist() == [1, 0, 0, 0, 0, 0]
    assert result["accuracy"] == pytest.approx(200 / 3)
    assert result["fwiou"] == pytest.approx(100 * (0.5 * 2 + 1.0) / 3)
    assert result["distance"][DISTANCES[0]] == {"miou": 75.0, "classes": 2, "points": 3}
    assert result["distance"][DISTANCES[1]] == {"miou": None, "classes": 0, "points": 0}
    assert point_figures(ConfusionByDistance(K), LABELS)["fwiou"] == 0.0


def test_a_class_that_is_none_is_refused() -> None:
    one = np.ones((1, 4), np.float32)
    with pytest.raises(AssertionError, match="outside the classes"):
        ConfusionByDistance(K).update(np.array([K], np.uint8), np.array([0], np.uint8), one)


def test_the_reliability_curve_equals_scikit_learns() -> None:
    calibration = Calibration()
    for seed in (0, 1):
        _, truth, found, confidence = draw(seed)
        confidence[:100] = 0.0  # not projected
        calibration.update(confidence, found, truth)
    parts = zip(draw(0), draw(1), strict=True)
    _, truth, found, confidence = (np.concatenate([a[100:], b[100:]]) for a, b in parts)
    known = truth != IGNORE
    right, sure = (truth == found)[known], confidence[known].astype(float)
    accuracy, mean = calibration_curve(right, sure, n_bins=BINS)
    points = np.histogram(sure, BINS, (0.0, 1.0))[0]
    there = points > 0
    result = calibration.result()
    assert result["points"] == points.tolist()
    assert [v for v in result["accuracy"] if v is not None] == pytest.approx(100 * accuracy)
    assert [v for v in result["confidence"] if v is not None] == pytest.approx(100 * mean, rel=1e-6)
    expected = points[there] @ np.abs(accuracy - mean) / points.sum()
    assert result["ece"] == pytest.approx(100 * expected, rel=1e-6)
    assert result["accuracy"][0] is None  # no network is less sure than 1 / K


def test_calibration_leaves_out_what_has_no_truth_prediction_or_confidence() -> None:
    calibration = Calibration()
    assert calibration.ece() == 0.0
    confidence = np.array([1.0, 0.5, 0.5, 0.0], np.float32)
    found, truth = np.array([1, 1, IGNORE, 1], np.uint8), np.array([1, IGNORE, 1, 1], np.uint8)
    calibration.update(confidence, found, truth)
    assert calibration.result()["points"] == [0] * (BINS - 1) + [1]
    assert calibration.ece() == 0.0


def test_no_order_of_scans_changes_a_bit() -> None:
    scans = [draw(seed) for seed in range(4)]
    one, other = Calibration(), Calibration()
    for calibration, order in ((one, scans), (other, scans[::-1])):
        for _, truth, found, confidence in order:
            calibration.update(confidence, found, truth)
    assert one.ece() == other.ece()
