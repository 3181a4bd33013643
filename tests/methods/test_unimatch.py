"""UniMatch: its views, and the weights of its terms."""

import pytest
import torch

from rangeseg.methods.base import Method
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.perturbation import drop_channels

from .conftest import (
    CLASSES,
    UNDISTURBED,
    Forward,
    generator,
    make_batch,
    make_context,
    make_method,
    pixelwise,
    record,
)


def three_forwards() -> tuple[Method, list[Forward]]:
    """For the pseudo-labels, of labelled and weak scans, of the strong views."""
    method = make_method("unimatch", pixelwise, UNDISTURBED, confidence=0.0)
    forwards = record(method.student)
    method(make_batch(), make_context())
    return method, forwards


def test_strong_views_have_a_forward_of_their_own() -> None:
    """So half of the scans that set the batch norms of the labelled ones are labelled."""
    _, forwards = three_forwards()
    assert [(len(f.image), f.learning) for f in forwards] == [(3, False), (6, True), (6, True)]


def test_every_view_is_half_another_scan_and_the_views_differ() -> None:
    _, (weak, _, strong) = three_forwards()
    views = strong.image.chunk(2)
    for view in views:
        own = torch.isclose(view, weak.image, atol=1e-5).all(1)
        changed = (~own).float().mean(dim=(1, 2))
        assert ((changed > 0.4) & (changed < 0.52)).all()  # but for what is invalid in both
    assert not torch.equal(*views)


def test_the_strong_term_is_a_quarter_of_each_view() -> None:
    """A pixelwise network predicts of a mixed pixel what it predicted before."""
    method, (_, _, strong) = three_forwards()
    expected = torch.tensor(0.0)
    for view in strong.image.chunk(2):
        logits, valid = method.student(view), view[:, -1] != 0
        expected += 0.25 * masked_cross_entropy(
            logits, logits.argmax(1), valid, torch.ones(CLASSES)
        )
    loss = method(make_batch(), make_context())["strong"]
    torch.testing.assert_close(loss, expected)


def test_dropout_keeps_the_mean() -> None:
    ones = torch.ones(4, 5000, 1, 1)
    dropped = drop_channels(ones, 0, 0.25, generator())
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
