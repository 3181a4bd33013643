"""Losses against their definitions."""

import math

import numpy as np
import pytest
import torch

from rangeseg.methods.losses import (
    CrossEntropySettings,
    SupervisedLoss,
    boundary_loss,
    class_weights,
    lovasz_softmax,
    masked_cross_entropy,
    masked_squared_error,
    ramp_up,
)

K = 4


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(2, K, 5, 6, generator=g)
    labels = torch.randint(0, K, (2, 5, 6), generator=g).to(torch.uint8)
    labels[0, 0] = 255
    valid = torch.rand(2, 5, 6, generator=g) < 0.7
    return logits, labels, valid


def test_cross_entropy_is_the_weighted_mean_over_what_counts() -> None:
    logits, labels, valid = draw()
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    log_p = logits.log_softmax(1).detach().numpy()
    total = share = 0.0
    for b, h, w in np.argwhere((valid & (labels != 255)).numpy()):
        y = int(labels[b, h, w])
        total -= float(weights[y]) * log_p[b, y, h, w]
        share += float(weights[y])
    assert float(masked_cross_entropy(logits, labels, valid, weights)) == pytest.approx(
        total / share, rel=1e-5
    )


def test_keep_scales_the_loss_but_not_the_divisor() -> None:
    logits, labels, valid = draw()
    weights = torch.ones(K)
    whole = masked_cross_entropy(logits, labels, valid, weights)
    half = masked_cross_entropy(logits, labels, valid, weights, torch.full(labels.shape, 0.5))
    assert float(half) == pytest.approx(0.5 * float(whole))


def test_squared_error_sums_over_classes_and_averages_over_valid_pixels() -> None:
    p, q = torch.rand(2, K, 3, 3), torch.rand(2, K, 3, 3)
    valid = torch.zeros(2, 3, 3, dtype=torch.bool)
    valid[0, 1, 1] = valid[1, 2, 0] = True
    expected = ((p - q)[0, :, 1, 1].square().sum() + (p - q)[1, :, 2, 0].square().sum()) / 2
    torch.testing.assert_close(masked_squared_error(p, q, valid, torch.ones(2, 3, 3)), expected)


def naive_lovasz(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Alg. 1 of the paper, class by class over the pixels that count: (P,K) and (P,)."""
    losses = []
    for c in range(probabilities.shape[1]):
        foreground = (truth == c).astype(float)
        if foreground.sum() == 0:
            continue
        errors = np.abs(foreground - probabilities[:, c])
        order = np.argsort(-errors, kind="stable")
        jaccards = []
        for i in range(1, len(order) + 1):
            top = set(order[:i])
            intersection = sum(foreground[j] for j in range(len(order)) if j not in top)
            union = foreground.sum() + sum(1 - foreground[j] for j in top)
            jaccards.append(1 - intersection / union)
        gradient = np.diff([0.0, *jaccards])
        losses.append(float(errors[order] @ gradient))
    return float(np.mean(losses))


def test_lovasz_equals_the_papers_algorithm() -> None:
    logits, labels, valid = draw()
    counts = (valid & (labels != 255)).numpy()
    p = logits.softmax(1).detach().movedim(1, 3).numpy()[counts]
    expected = naive_lovasz(p, labels.numpy()[counts])
    assert float(lovasz_softmax(logits, labels, valid)) == pytest.approx(expected, rel=1e-5)


def naive_boundary(share: np.ndarray, counts: np.ndarray, full_turn: bool) -> np.ndarray:
    """(H,W): what each pixel's share exceeds the least one of its 3x3 neighbourhood by."""
    height, width = share.shape
    boundary = np.zeros_like(share)
    for row, column in np.argwhere(counts):
        for r in range(max(row - 1, 0), min(row + 2, height)):
            for c in (column + d for d in (-1, 0, 1)):
                c = c % width if full_turn else min(max(c, 0), width - 1)
                if counts[r, c]:
                    gap = share[row, column] - share[r, c]
                    boundary[row, column] = max(boundary[row, column], gap)
    return boundary


@pytest.mark.parametrize("full_turn", [True, False])
def test_boundary_loss_is_one_minus_f1(full_turn: bool) -> None:
    logits, labels, valid = draw()
    labels[1] = 2  # all of one class: a scan without a boundary
    p = logits.softmax(1).numpy()
    counts = (valid & (labels != 255)).numpy()
    losses = []
    for b in range(2):
        for c in range(K):
            truth = naive_boundary((labels[b].numpy() == c).astype(float), counts[b], full_turn)
            found = naive_boundary(p[b, c], counts[b], full_turn)
            if truth.sum() > 0:
                precision = (found * truth).sum() / found.sum()
                recall = (found * truth).sum() / truth.sum()
                losses.append(1 - 2 * precision * recall / (precision + recall))
    assert len(losses) == K
    loss = float(boundary_loss(logits, labels, valid, full_turn))
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_boundaries_wrap_along_azimuth() -> None:
    labels = torch.zeros(1, 2, 8, dtype=torch.uint8)
    labels[..., 4:] = 1  # the other boundary lies on the seam
    valid = torch.ones(1, 2, 8, dtype=torch.bool)
    logits = torch.randn(1, K, 2, 8)
    rolled = boundary_loss(logits.roll(3, 3), labels.roll(3, 2), valid)
    torch.testing.assert_close(boundary_loss(logits, labels, valid), rolled)


def test_perfect_logits_have_no_loss_and_flat_ones_all_of_the_boundary_loss() -> None:
    _, labels, valid = draw()
    sure = torch.nn.functional.one_hot((labels % 255).long() % K, K).movedim(3, 1) * 100.0
    assert float(lovasz_softmax(sure, labels, valid)) == pytest.approx(0, abs=1e-6)
    assert float(boundary_loss(sure, labels, valid)) == pytest.approx(0, abs=1e-6)
    assert float(boundary_loss(torch.zeros_like(sure), labels, valid)) == pytest.approx(1)


@pytest.mark.parametrize(("lovasz", "boundary"), [(0.0, 0.0), (1.5, 0.0), (0.0, 2.0), (1.5, 2.0)])
def test_the_supervised_loss_is_the_weighted_sum(lovasz: float, boundary: float) -> None:
    logits, labels, valid = draw()
    weights = torch.arange(1.0, K + 1)
    expected = masked_cross_entropy(logits, labels, valid, weights)
    expected = expected + lovasz * lovasz_softmax(logits, labels, valid)
    expected = expected + boundary * boundary_loss(logits, labels, valid)
    loss = SupervisedLoss(weights, lovasz, boundary)(logits, labels, valid)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("loss", [lovasz_softmax, boundary_loss])
def test_pixels_that_do_not_count_get_no_gradient_and_change_nothing(loss) -> None:
    logits, labels, valid = draw()
    counts = valid & (labels != 255)
    logits.requires_grad_()
    value = loss(logits, labels, valid)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.movedim(1, 3)[counts].any()
    assert not logits.grad.movedim(1, 3)[~counts].any()
    other = torch.where(counts[:, None], logits, 5 * torch.randn(logits.shape))
    torch.testing.assert_close(loss(other, labels, valid), value)


@pytest.mark.parametrize("loss", ["cross_entropy", "lovasz", "boundary", "squared_error"])
def test_nothing_valid_is_a_finite_zero_with_a_zero_gradient(loss: str) -> None:
    logits, labels, valid = draw()
    logits.requires_grad_()
    none = torch.zeros_like(valid)
    if loss == "cross_entropy":
        value = masked_cross_entropy(logits, labels, none, torch.ones(K))
    elif loss == "lovasz":
        value = lovasz_softmax(logits, labels, none)
    elif loss == "boundary":
        value = boundary_loss(logits, labels, none)
    else:
        value = masked_squared_error(logits.softmax(1), torch.rand(logits.shape), none, valid)
    value.backward()
    assert float(value.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_class_weights() -> None:
    weights = class_weights(torch.tensor([0.64, 0.35, 0.01, 0.0]))
    assert float(weights[2] / weights[0]) == pytest.approx(8.0)
    assert weights[3] == weights[2]
    assert float(weights[:3].mean()) == pytest.approx(1.0)


def test_class_weights_of_fidnet_are_one_over_the_frequency() -> None:
    frequencies = torch.tensor([0.64, 0.36, 0.0])
    weights = class_weights(frequencies, "inverse_frequency")
    torch.testing.assert_close(weights, torch.tensor([1 / 0.641, 1 / 0.361, 1000.0]))
    assert class_weights(frequencies, "none").tolist() == [1, 1, 1]


@pytest.mark.parametrize("hard_pixels", [1.0, 0.15])
def test_the_cross_entropy_of_fidnets_code(hard_pixels: float) -> None:
    """Weighted by class and range, 0 where nothing counts; the mean of the largest of all."""
    logits, labels, valid = draw()
    ranges = 50 * torch.rand(labels.shape, generator=torch.Generator().manual_seed(5))
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    reduction = CrossEntropySettings(divisor="all", hard_pixels=hard_pixels, range_weighting=True)
    log_p = logits.log_softmax(1).numpy()
    losses = np.zeros(labels.shape)
    for b, h, w in np.argwhere((valid & (labels != 255)).numpy()):
        y = int(labels[b, h, w])
        losses[b, h, w] = -float(weights[y]) * log_p[b, y, h, w] * float(ranges[b, h, w]) / 100
    largest = np.sort(losses.ravel())[::-1][: int(hard_pixels * losses.size)]
    loss = SupervisedLoss(weights, 0, 0, cross_entropy=reduction)(logits, labels, valid, ranges)
    assert float(loss) == pytest.approx(largest.mean(), rel=1e-5)


def test_ramp() -> None:
    assert ramp_up(0.05, start=0.1, length=0.3) == 0.0
    assert ramp_up(0.1, start=0.1, length=0.3) == pytest.approx(math.exp(-5))
    assert ramp_up(0.25, start=0.1, length=0.3) == pytest.approx(math.exp(-5 * 0.25))
    assert ramp_up(0.4, start=0.1, length=0.3) == 1.0
    assert ramp_up(0.0, start=0.0, length=0.0) == 1.0
