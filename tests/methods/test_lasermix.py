"""LaserMix: what is mixed, what it learns from, and what stays aligned."""

import pytest
import torch
from torch import nn

from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.lasermix import LaserMix, LaserMixSettings
from rangeseg.methods.losses import masked_cross_entropy

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)


def make(labelled: str = "plain", **settings: object) -> LaserMix:
    torch.manual_seed(0)
    task = make_task(labelled=labelled, perturbation=NO_PERTURBATION)
    return LaserMix(pixelwise, task, LaserMixSettings(**settings)).train()


def views(method: LaserMix, batch: TrainingBatch, context: StepContext) -> tuple[dict, dict]:
    assert batch.unlabelled is not None
    return method._views(batch.labelled, batch.unlabelled, context.generator)


@pytest.mark.parametrize("labelled", ["plain", "strong"])
@pytest.mark.parametrize("seed", range(3))
def test_a_pixelwise_student_agrees_with_its_teacher_copy(labelled: str, seed: int) -> None:
    """Predicting commutes with mixing, so a prediction of another pixel's would show."""
    loss = make(labelled)(make_batch(seed), make_context(seed=seed))["consistency"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-11)


def test_the_teacher_is_held_to_the_pixels_it_saw() -> None:
    """With a student that moved away, also where a pixel is invalid."""
    method = make()
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    batch = make_batch()
    labelled, unlabelled = views(method, batch, make_context())
    error = torch.tensor(0.0)
    for scans in (labelled, unlabelled):
        p, q = (n(scans["image"]).softmax(1) for n in (method.student, method.teacher))
        error += ((p - q).square().sum(1) * scans["valid"]).sum()
    valid = labelled["valid"].sum() + unlabelled["valid"].sum()
    loss = method(batch, make_context())["consistency"]
    torch.testing.assert_close(loss, 13.0 * error / valid)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
def test_every_pixel_of_both_scans_is_learnt_once(confidence: float) -> None:
    """A pixelwise network's loss on the mixes is its loss on the scans as they were."""
    method = make(confidence=confidence)
    batch = make_batch()
    labelled, unlabelled = views(method, batch, make_context())
    both = {k: torch.cat([labelled[k], unlabelled[k]]) for k in ("image", "labels", "valid")}
    expected = masked_cross_entropy(
        method.student(both["image"]),
        both["labels"],
        both["valid"],
        torch.ones(CLASSES),
    )
    torch.testing.assert_close(method(batch, make_context())["mix"], expected)


def test_mixed_scans_hold_whole_bands_of_one_scan() -> None:
    method = make()
    labelled, unlabelled = views(method, make_batch(), make_context())
    mixed = method._mixed(labelled, unlabelled, make_context().generator)
    first, second = (mixed["image"].split(3)[i].movedim(2, 1).flatten(2) for i in (0, 1))
    a, b = (f["image"].movedim(2, 1).flatten(2) for f in (labelled, unlabelled))
    from_b = (first == b).all(2)  # (B, H): whether the row is the unlabelled scan's
    assert torch.equal((first == a).all(2), ~from_b)
    assert torch.equal((second == a).all(2), from_b)
    assert ((from_b[:, 1:] != from_b[:, :-1]).sum(1) >= 2).all()


def test_pseudo_labels_are_the_teachers_where_it_is_confident() -> None:
    method = make(confidence=0.4)
    batch = make_batch()
    _, unlabelled = views(method, batch, make_context())
    confidence, classes = method.teacher(batch.unlabelled["image"]).softmax(1).max(1)
    sure = confidence >= 0.4
    assert 0.2 < float(sure.float().mean()) < 0.95
    assert (unlabelled["labels"][~sure] == 255).all()
    assert torch.equal(unlabelled["labels"][sure].long(), classes[sure])


def test_the_weights_scale_what_they_say() -> None:
    torch.manual_seed(0)
    method = LaserMix(small_fidnet, make_task(), LaserMixSettings(confidence=0.0)).train()
    twin = LaserMix(
        small_fidnet, make_task(), LaserMixSettings(confidence=0.0, weight=0.5, consistency=26.0)
    ).train()
    twin.load_state_dict(method.state_dict())
    a, b = (m(make_batch(), make_context()) for m in (method, twin))
    assert torch.equal(a["supervised"], b["supervised"])
    torch.testing.assert_close(b["mix"], 0.5 * a["mix"])
    torch.testing.assert_close(b["consistency"], a["consistency"])
    assert float(a["consistency"].detach()) > 0


def test_one_forward_of_the_student_and_one_of_the_teacher() -> None:
    method = LaserMix(small_fidnet, make_task(), LaserMixSettings()).train()
    sizes: dict[str, list[int]] = {"student": [], "teacher": []}
    for name in sizes:
        network: nn.Module = getattr(method, name)

        def count(module: nn.Module, images: tuple[torch.Tensor], name: str = name) -> None:
            sizes[name].append(len(images[0]))

        network.stem.register_forward_pre_hook(count)
    method(make_batch(scans=2), make_context())
    assert sizes == {"student": [8], "teacher": [4]}


@pytest.mark.parametrize("wrong", [{"confidence": 1.5}, {"consistency": -1}, {"ema_momentum": 1}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LaserMixSettings(**wrong)
