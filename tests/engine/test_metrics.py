"""The confusion matrix against scikit-learn, the policies against their official definitions."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from rangeseg.engine.metrics import ConfusionMatrix


def draw(num_classes: int = 7, n: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, num_classes, n).astype(np.uint8)
    truth[rng.random(n) < 0.1] = 255
    return rng.integers(0, num_classes, n).astype(np.uint8), truth


def test_counts_and_iou_equal_scikit_learns() -> None:
    prediction, truth = draw()
    matrix = ConfusionMatrix(7)
    for part in (slice(0, 3000), slice(3000, None)):
        matrix.update(prediction[part], truth[part])
    known = truth != 255
    assert np.array_equal(matrix.counts, confusion_matrix(truth[known], prediction[known]))
    expected = jaccard_score(truth[known], prediction[known], average=None)
    np.testing.assert_allclose(matrix.iou(), expected, rtol=1e-12)
    assert matrix.miou("semantickitti") == pytest.approx(expected.mean(), rel=1e-12)


def test_truth_stands_in_the_rows() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([2], np.uint8), np.array([1], np.uint8))
    assert matrix.counts[1, 2] == 1


def test_what_is_predicted_on_ignored_truth_does_not_count() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 1], np.uint8), np.array([255, 1], np.uint8))
    assert matrix.counts.sum() == 1
    assert matrix.iou()[1] == 1.0


def test_an_absent_class_counts_as_the_policy_says() -> None:
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([0, 1, 1], np.uint8), np.array([0, 1, 0], np.uint8))
    assert np.isnan(matrix.iou()[2:]).all()
    assert matrix.miou("semantickitti") == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    assert matrix.miou("nuscenes") == pytest.approx(0.5)


def test_images_count_like_points() -> None:
    prediction, truth = draw(n=600)
    flat, image = ConfusionMatrix(7), ConfusionMatrix(7)
    flat.update(prediction, truth)
    image.update(prediction.reshape(20, 30), truth.reshape(20, 30))
    assert np.array_equal(flat.counts, image.counts)


def test_nothing_evaluated_is_zero() -> None:
    assert ConfusionMatrix(3).miou("nuscenes") == 0.0


def test_counts_go_beyond_32_bits() -> None:
    """A validation split of SemanticKITTI has half a billion points, all sequences five."""
    matrix = ConfusionMatrix(2)
    points = np.zeros(1 << 24, np.uint8)
    before = (1 << 31) - 5
    matrix.counts[0, 0] = before
    matrix.update(points, points)
    assert matrix.counts.dtype == np.int64
    assert matrix.counts[0, 0] == before + (1 << 24)
    assert matrix.iou()[0] == 1.0
    matrix.counts[1, 1] = matrix.counts[0, 1] = matrix.counts[1, 0] = 1 << 40
    assert matrix.iou()[1] == pytest.approx(1 / 3, rel=1e-12)
