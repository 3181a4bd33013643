"""AEL: the bank, what is pasted and mixed, which pixels are learnt."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rangeseg.errors import ConfigError
from rangeseg.methods.ael import Ael, AelSettings
from rangeseg.methods.base import TrainingBatch
from rangeseg.methods.confidence_bank import ConfidenceBank, true_class_confidence

from .conftest import (
    CLASSES,
    UNDISTURBED,
    Oracle,
    generator,
    make_batch,
    make_context,
    make_method,
    make_task,
    pixelwise,
    record,
)


def make(network=pixelwise, **settings: object) -> Ael:
    """Pastes nothing unless told otherwise."""
    method = make_method("ael", network, UNDISTURBED, **({"paste_probability": 0.0} | settings))
    assert isinstance(method, Ael)
    return method


def always_draw(method: Ael, wanted: int) -> None:
    method.bank.confidence.fill_(1.0)
    method.bank.confidence[wanted] = -1e6  # a gap so large that its class is always drawn


def seen_by_the_student(method: Ael, batch: TrainingBatch, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The labelled and the mixed images of a step."""
    forwards = record(method.student)
    method(batch, make_context(seed=seed))
    labelled, mixed = forwards[-1].image.split(len(batch.labelled["image"]))
    return labelled, mixed


def test_true_class_confidence_counts_valid_labelled_pixels() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=generator())
    labels = torch.randint(0, 3, (2, 4, 5), generator=generator()).to(torch.uint8)
    labels[0, 0] = 255
    valid = torch.rand(2, 4, 5, generator=generator()) < 0.7
    total, count = true_class_confidence(logits, labels, valid)
    for c in range(3):
        chosen = valid & (labels == c)
        torch.testing.assert_close(total[c], logits.softmax(1)[:, c][chosen].sum())
        assert int(count[c]) == int(chosen.sum())


def test_the_bank_averages_what_it_saw_and_leaves_absent_classes_alone() -> None:
    bank = ConfidenceBank(3, momentum=0.999)
    bank.confidence.copy_(torch.tensor([0.5, 0.25, 0.75]))
    bank.updates.fill_(10_000)
    bank.update(torch.tensor([[8.0, 0.0, 3.0], [10.0, 0.0, 4.0]]))
    expected = [0.999 * 0.5 + 0.001 * 0.8, 0.25, 0.75]
    torch.testing.assert_close(bank.confidence, torch.tensor(expected), rtol=0, atol=1e-7)
    assert bank.confidence[1] == 0.25
    assert bank.updates.tolist() == [10_001, 10_000, 10_001]


def test_the_first_values_of_the_bank_are_averaged() -> None:
    bank = ConfidenceBank(2, momentum=0.999)
    for value in (0.2, 0.4, 0.9):
        bank.update(torch.tensor([[value, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(bank.confidence, torch.tensor([0.5, 0.0]))


def test_the_bank_sees_the_student_on_every_labelled_batch_of_a_step() -> None:
    method = make()
    seen = torch.zeros(2, CLASSES)
    for seed in (0, 1):
        labelled = make_batch(seed).labelled
        logits = method.student(labelled["image"])
        seen += true_class_confidence(logits, labelled["labels"], labelled["valid"])
        method(make_batch(seed), make_context())
        method.after_batch()
        assert not method.bank.confidence.any()
    method.after_step(make_context())
    torch.testing.assert_close(method.bank.confidence, seen[0] / seen[1])


@pytest.mark.parametrize(
    ("confidence", "kept"),
    [([0.3] * 4, [1.0] * 4), ([1.0] * 4, [1.0] * 4), ([0.2, 0.6, 1.0, 0.2], [1.0, 0.5, 0.0, 1.0])],
)
def test_confident_classes_are_kept_less_than_others(
    confidence: list[float], kept: list[float]
) -> None:
    bank = ConfidenceBank(4, momentum=0.999)
    bank.confidence.copy_(torch.tensor(confidence))
    torch.testing.assert_close(bank.keep_probability, torch.tensor(kept))


@pytest.mark.parametrize(("threshold", "certain"), [(0.0, []), (0.4, []), (0.0, [0])])
def test_pixels_weigh_by_confidence_squared_and_by_the_students_class(
    threshold: float, certain: list[int]
) -> None:
    """Where the student predicts a class that is certain, nothing is learnt."""
    method = make(confidence=threshold)
    method.bank.confidence[certain] = 1.0
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator()))
    batch = make_batch()
    image = batch.labelled["image"]
    confidence, pseudo_labels = method.teach(image).max(1)
    logits = method.student(image)
    weight = confidence**2 * batch.labelled["valid"]
    for c in certain:
        assert (logits.argmax(1) == c).any()
        weight = weight * (logits.argmax(1) != c)
    each = F.cross_entropy(logits, pseudo_labels, reduction="none") * (confidence >= threshold)
    loss = method(batch, make_context())["consistency_labelled"]
    torch.testing.assert_close(loss, (weight * each).sum() / weight.sum())


def test_the_nearer_point_of_a_ray_is_kept() -> None:
    batch = make_batch()
    labelled = batch.labelled
    method = make(paste_probability=1.0, paste_classes=CLASSES)
    pasted, _ = seen_by_the_student(method, batch)
    donor = {name: field.roll(1, 0) for name, field in labelled.items()}
    known = donor["valid"] & (donor["labels"] != 255)
    nearer = donor["image"][:, 0] < labelled["image"][:, 0]
    taken = known & (nearer | ~labelled["valid"])
    assert 0 < int(taken.sum()) < int(known.sum())
    expected = torch.where(taken[:, None], donor["image"], labelled["image"])
    torch.testing.assert_close(pasted, expected)


def test_only_drawn_classes_are_pasted_and_only_sometimes() -> None:
    batch = make_batch()
    method = make(paste_probability=1.0, paste_classes=1)
    always_draw(method, 2)
    pasted, _ = seen_by_the_student(method, batch)
    changed = (pasted != batch.labelled["image"]).any(1)
    assert changed.any()
    assert (batch.labelled["labels"].roll(1, 0)[changed] == 2).all()
    unchanged, _ = seen_by_the_student(make(paste_probability=0.0), batch)
    assert torch.equal(unchanged, batch.labelled["image"])


def mixed_scans(
    regions: list[tuple[int, int, slice]], min_area: float = 0.01, seed: int = 0, valid: bool = True
) -> Tensor:
    """Which of three scans each pixel of the mixed ones comes from (3,H,W).

    Class 3, which is always drawn, is predicted in the regions (scan, row, columns) alone.
    """
    batch = make_batch()
    assert batch.unlabelled is not None
    image = torch.zeros_like(batch.unlabelled["image"])
    image[:, 0] = torch.arange(3.0)[:, None, None]
    image[:, 2] = 1.0
    batch.unlabelled.update(image=image, valid=torch.ones_like(batch.unlabelled["valid"]))
    for scan, row, columns in regions:
        image[scan, 3, row, columns] = 3.0
        batch.unlabelled["valid"][scan, row, columns] = valid
    method = make(Oracle, min_area=min_area)
    always_draw(method, 3)
    return seen_by_the_student(method, batch, seed)[1][:, 0]


OBJECT = [(2, row, slice(10, 14)) for row in (4, 5, 6)]


def test_adaptive_cutmix_takes_the_box_around_an_object_of_a_weak_class() -> None:
    across_the_seam = [(2, 4, slice(0, 2)), *((2, row, slice(30, 32)) for row in (4, 5, 6))]
    mixed = mixed_scans(across_the_seam)
    box = torch.zeros(16, 32, dtype=torch.bool)
    box[4:7, 30:] = box[4:7, :2] = True
    for receiver in (0, 1):
        assert torch.equal(mixed[receiver], torch.where(box, 2, receiver).float())


def test_without_a_donor_it_is_cutmix_with_the_neighbour() -> None:
    """Scan 2 alone holds the class, so that it finds no donor itself."""
    mixed = mixed_scans(OBJECT)[2]
    assert set(mixed.unique().tolist()) == {1.0, 2.0}
    assert float((mixed == 1).float().mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("min_area", "valid"), [(0.1, True), (0.01, False)])
def test_too_small_an_object_or_an_invalid_one_is_no_reason(min_area: float, valid: bool) -> None:
    mixed = mixed_scans(OBJECT, min_area, valid=valid)
    for receiver, neighbour in ((0, 2), (1, 0)):
        assert set(mixed[receiver].unique().tolist()) == {float(receiver), float(neighbour)}
        assert float((mixed[receiver] == neighbour).float().mean()) > 0.4


@pytest.mark.slow
def test_every_suitable_scan_is_a_donor_alike() -> None:
    regions = [(scan, row, columns) for _, row, columns in OBJECT for scan in (1, 2)]
    donors = [int(mixed_scans(regions, seed=seed)[0, 5, 11]) for seed in range(100)]
    assert set(donors) == {1, 2}
    assert 30 < donors.count(1) < 70


def test_ranges_are_needed() -> None:
    task = make_task(channels=("depth", "x", "y", "z", "intensity", "valid"))
    with pytest.raises(ConfigError, match=r"ael compares ranges.*depth.*add range"):
        Ael(pixelwise, task, AelSettings())
