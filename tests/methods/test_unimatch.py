"""UniMatch: its views, its pseudo-labels, its feature dropout."""

import copy

import pytest
import torch

from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.perturbation import drop_channels
from rangeseg.methods.unimatch import UniMatch, UniMatchSettings
from rangeseg.models.network import Network

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_cenet,
    small_fidnet,
)


def make(network=pixelwise, **settings: object) -> UniMatch:
    torch.manual_seed(0)
    task = make_task(labelled="plain", perturbation=NO_PERTURBATION)
    return UniMatch(network, task, UniMatchSettings(**settings)).train()


def weak_view(method: UniMatch) -> dict[str, torch.Tensor]:
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    return method._with_pseudo_labels(unlabelled)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_pseudo_labels_are_those_of_the_mixed_pixels(seed: int) -> None:
    """A pixelwise network predicts the same of a pixel wherever it is mixed to."""
    method = make()
    view = method.cutmix(weak_view(method), torch.Generator().manual_seed(seed))
    confidence, classes = method.student(view["image"]).softmax(1).max(1)
    assert torch.equal(classes, view["pseudo_labels"])
    torch.testing.assert_close(confidence, view["confidence"])


def test_every_view_is_half_another_scan_and_the_views_differ() -> None:
    method = make()
    weak, generator = weak_view(method), torch.Generator().manual_seed(0)
    views = [method.cutmix(weak, generator)["image"] for _ in range(2)]
    for view in views:
        own = torch.isclose(view, weak["image"], atol=1e-5).all(1)
        changed = (~own).float().mean(dim=(1, 2))
        assert ((changed > 0.4) & (changed < 0.52)).all()  # but for what is invalid in both
    assert not torch.equal(*views)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
def test_only_confident_pixels_count_and_all_valid_ones_divide(confidence: float) -> None:
    """Without dropout the feature term is the weak view's own loss."""
    method = make(confidence=confidence, feature_dropout=0.0)
    weak = weak_view(method)
    loss = method(make_batch(), make_context())["feature"]
    logits = method.student(weak["image"])
    own = torch.nn.functional.cross_entropy(logits, weak["pseudo_labels"], reduction="none")
    kept = weak["valid"] & (weak["confidence"] >= confidence)
    torch.testing.assert_close(loss, 0.5 * (own * kept).sum() / weak["valid"].sum())
    assert (float(loss.detach()) > 0) == (confidence < 1)


def test_the_strong_term_is_a_quarter_of_each_view() -> None:
    method = make(confidence=0.0)
    generator = make_context().generator
    weak = weak_view(method)
    expected = torch.tensor(0.0)
    for _ in range(2):
        view = method.cutmix(weak, generator)
        expected += 0.25 * masked_cross_entropy(
            method.student(view["image"]),
            view["pseudo_labels"],
            view["valid"],
            torch.ones(CLASSES),
        )
    loss = method(make_batch(), make_context())["strong"]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("network", [small_fidnet, small_cenet])
def test_dropout_takes_whole_channels_of_the_unlabelled_scans(network) -> None:
    method = make(network)
    decoded: list[list[torch.Tensor]] = []
    encode, decode = method.student.encode, method.student.decode

    def recorded(features: list[torch.Tensor]) -> torch.Tensor:
        decoded.append(features)
        return decode(features)

    method.student.decode = recorded
    batch = make_batch()
    method(batch, make_context())
    _, dropped, _ = decoded  # for the pseudo-labels, of the weak views, of the strong ones
    assert len(dropped) == 5
    whole = encode(torch.cat([batch.labelled["image"], batch.unlabelled["image"]]))
    gone = []
    for before, after in zip(whole, dropped, strict=True):
        torch.testing.assert_close(after[:3], before[:3])
        zero = (after[3:] == 0).all(3).all(2)
        torch.testing.assert_close(after[3:][~zero], 2 * before[3:][~zero])
        gone.append(zero.flatten())
    assert 0.3 < float(torch.cat(gone).float().mean()) < 0.7


def test_dropout_keeps_the_mean() -> None:
    ones = torch.ones(4, 5000, 1, 1)
    dropped = drop_channels(ones, 0, 0.25, torch.Generator().manual_seed(0))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)


def test_the_labelled_scans_keep_their_features() -> None:
    """The supervised term depends on the dropout through the batch norms alone."""
    method = make(confidence=0.0)  # without a batch norm
    a = method(make_batch(), make_context(seed=1))["supervised"]
    b = method(make_batch(), make_context(seed=2))["supervised"]
    assert torch.equal(a, b)


def test_pseudo_labels_have_no_gradient_and_leave_the_batch_norms_alone() -> None:
    method = make(small_fidnet)
    before = copy.deepcopy(method.state_dict())
    weak = weak_view(method)
    assert not weak["confidence"].requires_grad
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert method.student.training


def test_strong_views_have_a_forward_of_their_own() -> None:
    """So half of the scans that set the batch norms of the labelled ones are labelled."""
    method = make(small_fidnet)
    calls: list[tuple[int, bool]] = []
    encode = method.student.encode

    def counted(image: torch.Tensor) -> list[torch.Tensor]:
        calls.append((len(image), torch.is_grad_enabled()))
        return encode(image)

    student: Network = method.student
    student.encode = counted  # type: ignore[method-assign]
    method(make_batch(scans=2), make_context())
    assert calls == [(2, False), (4, True), (4, True)]


@pytest.mark.parametrize("wrong", [{"confidence": -0.1}, {"feature_dropout": 1.0}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UniMatchSettings(**wrong)
