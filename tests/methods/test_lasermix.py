"""LaserMix: what is mixed, what it learns from."""

from collections.abc import Callable

import pytest
import torch

from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.models.network import Network

from .conftest import (
    CLASSES,
    UNDISTURBED,
    make_batch,
    make_context,
    make_method,
    pixelwise,
    record,
    small_cenet,
)


def test_the_student_is_held_to_the_teacher_on_the_scans_that_are_not_mixed() -> None:
    method = make_method("lasermix", pixelwise, UNDISTURBED, weight=0.5, consistency=26.0)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    batch = make_batch()
    assert batch.unlabelled is not None
    error, valid = torch.tensor(0.0), 0
    for scans in (batch.labelled, batch.unlabelled):
        p, q = (n(scans["image"]).softmax(1) for n in (method.student, method.teacher))
        error += ((p - q).square().sum(1) * scans["valid"]).sum()
        valid += int(scans["valid"].sum())
    loss = method(batch, make_context())["consistency"]
    torch.testing.assert_close(loss, 13.0 * error / valid)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
def test_every_pixel_of_both_scans_is_learnt_once(confidence: float) -> None:
    """A pixelwise network's loss on the mixes is its loss on the scans as they were."""
    method = make_method("lasermix", pixelwise, UNDISTURBED, weight=0.5, confidence=confidence)
    batch = make_batch()
    assert batch.unlabelled is not None
    sure, classes = method.teach(batch.unlabelled["image"]).max(1)
    pseudo_labels = torch.where(sure >= confidence, classes, 255).to(torch.uint8)
    expected = masked_cross_entropy(
        method.student(torch.cat([batch.labelled["image"], batch.unlabelled["image"]])),
        torch.cat([batch.labelled["labels"], pseudo_labels]),
        torch.cat([batch.labelled["valid"], batch.unlabelled["valid"]]),
        torch.ones(CLASSES),
    )
    torch.testing.assert_close(method(batch, make_context())["mix"], 0.5 * expected)


def test_mixed_scans_hold_whole_bands_of_one_scan() -> None:
    """In one forward of the student with the scans that are not mixed; the teacher sees these."""
    method, batch = make_method("lasermix", pixelwise, UNDISTURBED), make_batch()
    assert batch.unlabelled is not None
    student, teacher = record(method.student), record(method.teacher)
    method(batch, make_context())
    both = torch.cat([batch.labelled["image"], batch.unlabelled["image"]])
    assert [len(f.image) for f in student] == [12]
    assert [len(f.image) for f in teacher] == [6]
    torch.testing.assert_close(teacher[0].image, both)
    torch.testing.assert_close(student[0].image[:6], both)
    rows = student[0].image.movedim(2, 1).flatten(2)  # (4B, H, C·W)
    a, b, first, _ = rows.split(3)
    from_b = (first == b).all(2)  # whether the row is the unlabelled scan's
    assert torch.equal((first == a).all(2), ~from_b)
    assert ((from_b[:, 1:] != from_b[:, :-1]).sum(1) >= 2).all()


def test_bands_and_the_loss_of_the_mixes_are_settings() -> None:
    method = make_method("lasermix", pixelwise, UNDISTURBED, bands=(8, 8), mix_loss="supervised")
    batch = make_batch()
    assert batch.unlabelled is not None
    student = record(method.student)
    loss = method(batch, make_context())["mix"]
    _, b, first, _ = student[0].image.movedim(2, 1).flatten(2).split(3)  # (B, H, C·W)
    from_b = (first == b).all(2)
    assert ((from_b[:, 1:] != from_b[:, :-1]).sum(1) == 7).all()
    plain = make_method("lasermix", pixelwise, UNDISTURBED, bands=(8, 8))
    alone = plain(batch, make_context())["mix"]
    assert float(loss.detach()) > float(alone.detach())  # Lovász and boundary besides


def test_mixes_have_the_terms_of_the_head_that_predicts() -> None:
    def mix_loss(network: Callable[[], Network], kind: str, terms_on: str) -> float:
        task = {**UNDISTURBED, "terms_on": terms_on}
        settings = {"mix_loss": kind, "pseudo_label_weights": "class_weights"}
        method = make_method("lasermix", network, task, confidence=0.0, **settings)
        return float(method(make_batch(), make_context())["mix"].detach())

    kinds = "supervised", "cross_entropy"
    one, two = (mix_loss(small_cenet, kind, "auxiliary_heads") for kind in kinds)
    assert mix_loss(small_cenet, "supervised", "all_heads") > one == two
    alone = [mix_loss(pixelwise, "supervised", heads) for heads in ("all_heads", "auxiliary_heads")]
    assert alone[0] == alone[1]
