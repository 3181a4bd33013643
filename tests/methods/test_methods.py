"""What is particular to one method."""

import copy

import pytest
import torch
from torch import nn

from rangeseg.methods.consistency import ConsistencySettings, consistency_loss
from rangeseg.methods.cps import Cps, CpsSettings
from rangeseg.methods.cutmix_seg import CutMixSeg, CutMixSegSettings
from rangeseg.methods.mean_teacher import MeanTeacher, MeanTeacherSettings
from rangeseg.methods.supervised import Supervised, SupervisedSettings

from .conftest import (
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)


@pytest.mark.parametrize("seed", range(5))
def test_a_pixelwise_network_is_consistent_under_every_mask(seed: int) -> None:
    """Mixing and predicting commute, so any misalignment of image and target shows."""
    torch.manual_seed(seed)
    task = make_task(perturbation=NO_PERTURBATION)
    method = CutMixSeg(pixelwise, task, CutMixSegSettings(confidence=0.0))
    loss = method(make_batch(seed), make_context(seed=seed))["consistency"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)


def test_mean_teacher_is_consistent_with_itself_without_perturbation() -> None:
    task = make_task(perturbation=NO_PERTURBATION)
    method = MeanTeacher(pixelwise, task, MeanTeacherSettings())
    loss = method(make_batch(), make_context())["consistency"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)


def test_cutmix_mixes() -> None:
    """With real context the mixed student differs from the mixed teacher."""
    task = make_task(perturbation=NO_PERTURBATION)
    method = CutMixSeg(small_fidnet, task, CutMixSegSettings(confidence=0.0)).train()
    assert float(method(make_batch(), make_context())["consistency"].detach()) > 1e-4


def test_labelled_partner_brings_its_truth_where_it_is_known() -> None:
    task = make_task(perturbation=NO_PERTURBATION)
    method = CutMixSeg(pixelwise, task, CutMixSegSettings(partner="labelled"))
    labelled = make_batch().labelled
    teacher = method._truth(labelled)["teacher"]
    known = labelled["labels"] != 255
    assert torch.equal(teacher.sum(1) == 1, known)
    assert torch.equal(teacher.argmax(1)[known], labelled["labels"][known].long())
    loss = method(make_batch(), make_context())["consistency"]
    assert float(loss.detach()) > 0


def test_batch_confidence_is_one_scalar_and_pixel_confidence_a_choice() -> None:
    logits = torch.randn(1, 4, 1, 4)
    teacher = torch.tensor([[0.97, 0.01, 0.01, 0.01]] * 2 + [[0.4, 0.3, 0.2, 0.1]] * 2)
    teacher = teacher.T.reshape(1, 4, 1, 4)
    valid = torch.tensor([[[True, True, True, False]]])
    everything = ConsistencySettings(confidence=0.0)
    per_batch = ConsistencySettings(confidence=0.9)
    per_pixel = ConsistencySettings(confidence=0.9, confidence_mode="per_pixel")
    weights = torch.ones(4)

    def loss(settings: ConsistencySettings, valid: torch.Tensor = valid) -> float:
        return float(consistency_loss(logits, teacher, valid, weights, settings))

    assert loss(per_batch) == pytest.approx(2 / 3 * loss(everything))
    confident = torch.tensor([[[True, True, False, False]]])
    assert loss(per_pixel) == pytest.approx(2 / 3 * loss(everything, confident))


def test_ema_of_a_constant_student() -> None:
    """t_n = s + a^n (t_0 - s), after the warm-up."""
    method = MeanTeacher(pixelwise, make_task(), MeanTeacherSettings(ema_momentum=0.9))
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(1.0)
    for step in range(100, 105):
        method.after_step(make_context(step, 200))
    for s, t in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(t, s + 0.9**5)


def test_ema_warms_up_from_an_exact_copy() -> None:
    method = MeanTeacher(pixelwise, make_task(), MeanTeacherSettings())
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)
    method.after_step(make_context(0, 200))
    for s, t in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
        torch.testing.assert_close(t, s)


def test_ema_averages_float_buffers_and_copies_integers() -> None:
    method = MeanTeacher(small_fidnet, make_task(), MeanTeacherSettings(ema_momentum=0.5)).train()
    method(make_batch(), make_context())
    norms = [m for m in method.student.modules() if isinstance(m, nn.BatchNorm2d)]
    theirs = [m for m in method.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    before = theirs[0].running_mean.clone()
    method.after_step(make_context(100, 200))
    torch.testing.assert_close(theirs[0].running_mean, (before + norms[0].running_mean) / 2)
    assert theirs[0].num_batches_tracked == norms[0].num_batches_tracked == 1


def test_swapping_the_networks_of_cps_swaps_its_losses() -> None:
    torch.manual_seed(0)
    method = Cps(small_fidnet, make_task(), CpsSettings()).train()
    swapped = copy.deepcopy(method)
    swapped.student, swapped.second = swapped.second, swapped.student
    a = method(make_batch(), make_context())
    b = swapped(make_batch(), make_context())
    for kind in ("supervised", "cross"):
        torch.testing.assert_close(a[f"{kind}_first"], b[f"{kind}_second"])
        torch.testing.assert_close(a[f"{kind}_second"], b[f"{kind}_first"])


@pytest.mark.parametrize("cutmix", [True, False])
def test_a_cross_loss_trains_one_network_only(cutmix: bool) -> None:
    method = Cps(small_fidnet, make_task(), CpsSettings(cutmix=cutmix)).train()
    method(make_batch(), make_context())["cross_first"].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
    assert all(p.grad is None for p in method.second.parameters())


def test_pseudo_labels_of_cps_leave_the_batch_norms_alone() -> None:
    method = Cps(small_fidnet, make_task(), CpsSettings()).train()
    before = copy.deepcopy(method.state_dict())
    method._with_predictions(make_batch().unlabelled)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert method.student.training


def test_the_average_of_cps_is_the_mean_probability() -> None:
    torch.manual_seed(0)
    method = Cps(small_fidnet, make_task(), CpsSettings(predictor="average")).eval()
    image = make_batch().labelled["image"]
    mean = (method.student(image).softmax(1) + method.second(image).softmax(1)) / 2
    torch.testing.assert_close(method.predictor()(image).softmax(1), mean)
    first = Cps(small_fidnet, make_task(), CpsSettings())
    assert first.predictor() is first.student


def test_the_strong_branch_mixes_labelled_scans_and_the_plain_one_does_not() -> None:
    labelled = make_batch().labelled
    plain = Supervised(pixelwise, make_task(labelled="plain"), SupervisedSettings())
    assert plain.labelled_view(labelled, torch.Generator()) is labelled
    task = make_task(labelled="strong", perturbation=NO_PERTURBATION)
    strong = Supervised(pixelwise, task, SupervisedSettings())
    view = strong.labelled_view(labelled, torch.Generator().manual_seed(0))
    own = torch.isclose(view["image"], labelled["image"], atol=1e-5).all(1)
    partners = torch.isclose(view["image"], labelled["image"].roll(1, 0), atol=1e-5).all(1)
    assert (own | partners).all()
    assert 0.3 < float(own.float().mean()) < 0.75
    rolled = labelled["labels"].roll(1, 0)
    assert torch.equal(view["labels"][~own], rolled[~own])
