"""AEL: the bank, what is pasted and mixed, which pixels are learnt."""

import pytest
import torch
from torch.nn import functional as F

from rangeseg.errors import ConfigError
from rangeseg.methods.ael import Ael, AelSettings
from rangeseg.methods.confidence_bank import ConfidenceBank, true_class_confidence

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)

CERTAIN = 1e6
"""A gap so large that its class is always drawn."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(task: dict | None = None, **settings: object) -> Ael:
    torch.manual_seed(0)
    changes = {"perturbation": NO_PERTURBATION} | (task or {})
    return Ael(pixelwise, make_task(**changes), AelSettings(**settings))


def always_draw(method: Ael, wanted: int) -> None:
    method.bank.confidence.fill_(1.0)
    method.bank.confidence[wanted] = 1.0 - CERTAIN


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


def test_after_step_feeds_the_bank_with_the_student_on_labelled_pixels() -> None:
    method = make({"labelled": "plain"}, paste_probability=0.0)
    batch = make_batch()
    labelled = batch.labelled
    total, count = true_class_confidence(
        method.student(labelled["image"]), labelled["labels"], labelled["valid"]
    )
    method(batch, make_context())
    method.after_batch()
    assert not method.bank.confidence.any()
    method.after_step(make_context())
    torch.testing.assert_close(method.bank.confidence, total / count)


def test_the_bank_sees_every_batch_of_a_step() -> None:
    method = make({"labelled": "plain"}, paste_probability=0.0)
    seen = torch.zeros(2, method.num_classes)
    for seed in (0, 1):
        batch = make_batch(seed)
        labelled = batch.labelled
        logits = method.student(labelled["image"])
        seen += true_class_confidence(logits, labelled["labels"], labelled["valid"])
        method(batch, make_context())
        method.after_batch()
    method.after_step(make_context())
    torch.testing.assert_close(method.bank.confidence, seen[0] / seen[1])


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_equal_confidences_keep_every_pixel(value: float) -> None:
    bank = ConfidenceBank(4, momentum=0.999)
    bank.confidence.fill_(value)
    assert torch.equal(bank.keep_probability, torch.ones(4))


def test_confident_classes_are_kept_less() -> None:
    bank = ConfidenceBank(3, momentum=0.999)
    bank.confidence.copy_(torch.tensor([0.2, 0.6, 1.0]))
    torch.testing.assert_close(bank.keep_probability, torch.tensor([1.0, 0.5, 0.0]))


def make_fields(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    g = generator(1)
    shape = (len(logits), *logits.shape[2:])
    return {
        "confidence": 0.25 + 0.75 * torch.rand(shape, generator=g),
        "pseudo_labels": torch.randint(0, CLASSES, shape, generator=g),
        "valid": torch.rand(shape, generator=g) < 0.8,
    }


@pytest.mark.parametrize("threshold", [0.0, 0.6])
def test_the_consistency_is_weighted_by_confidence_squared(threshold: float) -> None:
    method = make(confidence=threshold)
    logits = torch.randn(2, CLASSES, 8, 8, generator=generator())
    fields = make_fields(logits)
    loss = method._consistency(logits, fields, generator())
    weight = fields["confidence"] ** 2 * fields["valid"]
    each = F.cross_entropy(logits, fields["pseudo_labels"], reduction="none")
    each = each * (fields["confidence"] >= threshold)
    torch.testing.assert_close(loss, (weight * each).sum() / weight.sum())


def test_pixels_are_sampled_by_the_students_class() -> None:
    """Class 0 is certain: where the student says 0 nothing is learnt, whatever the teacher says."""
    method = make()
    method.bank.confidence[0] = 1.0
    logits = torch.randn(1, CLASSES, 8, 8, generator=generator(), requires_grad=True)
    method._consistency(logits, make_fields(logits), generator()).backward()
    assert logits.grad is not None
    sampled = logits.grad.abs().sum(dim=1) > 0
    says_0 = logits.argmax(1) == 0
    assert not (sampled & says_0).any()
    assert torch.equal(sampled, make_fields(logits)["valid"] & ~says_0)


def test_pseudo_labels_at_invalid_pixels_change_nothing() -> None:
    method = make()
    logits = torch.randn(2, CLASSES, 8, 8, generator=generator())
    fields = make_fields(logits)
    before = method._consistency(logits, fields, generator())
    fields["pseudo_labels"] = torch.where(fields["valid"], fields["pseudo_labels"], 3)
    fields["confidence"] = torch.where(fields["valid"], fields["confidence"], 1.0)
    assert torch.equal(before, method._consistency(logits, fields, generator()))


def test_the_nearer_point_of_a_ray_is_kept() -> None:
    method = make(paste_probability=1.0, paste_classes=CLASSES)
    labelled = make_batch(scans=2).labelled
    pasted = method._copy_paste(labelled, generator())
    donor = {name: field.roll(1, 0) for name, field in labelled.items()}
    known = donor["valid"] & (donor["labels"] != 255)
    nearer = donor["image"][:, 0] < labelled["image"][:, 0]
    taken = known & (nearer | ~labelled["valid"])
    assert 0 < int(taken.sum()) < int(known.sum())
    for name, field in pasted.items():
        mask = taken if field.dim() == 3 else taken[:, None]
        assert torch.equal(field, torch.where(mask, donor[name], labelled[name]))


def test_only_drawn_classes_are_pasted_and_only_sometimes() -> None:
    method = make(paste_probability=1.0, paste_classes=1)
    always_draw(method, 2)
    labelled = make_batch(scans=2).labelled
    pasted = method._copy_paste(labelled, generator())
    changed = pasted["labels"] != labelled["labels"]
    assert changed.any()
    assert (pasted["labels"][changed] == 2).all()
    never = make(paste_probability=0.0)
    unchanged = never._copy_paste(labelled, generator())
    assert all(torch.equal(unchanged[name], labelled[name]) for name in labelled)


def marked(scans: int = 3, height: int = 16, width: int = 32) -> dict[str, torch.Tensor]:
    """Scans whose image says which scan it is; all predicted as class 0."""
    mark = torch.arange(scans)[:, None, None].expand(scans, height, width)
    image = mark[:, None].float().repeat(1, 6, 1, 1)
    return {
        "image": image,
        "valid": torch.ones(scans, height, width, dtype=torch.bool),
        "confidence": image[:, 0] + 10.0,
        "pseudo_labels": torch.zeros(scans, height, width, dtype=torch.long),
    }


def test_adaptive_cutmix_takes_the_box_around_an_object_of_a_weak_class() -> None:
    method = make(min_area=0.01)
    always_draw(method, 3)
    scans = marked()
    scans["pseudo_labels"][2, 4:7, 30:] = 3
    scans["pseudo_labels"][2, 4, :2] = 3
    mixed = method._adaptive_cutmix(scans, generator())
    box = torch.zeros(16, 32, dtype=torch.bool)
    box[4:7, 30:] = box[4:7, :2] = True
    for receiver in (0, 1):
        source = torch.where(box, 2, receiver).float()
        torch.testing.assert_close(mixed["image"][receiver, 0], source)
        torch.testing.assert_close(mixed["confidence"][receiver], source + 10.0)
        assert torch.equal(
            mixed["pseudo_labels"][receiver], torch.where(box, scans["pseudo_labels"][2], 0)
        )


def test_without_a_donor_it_is_cutmix_with_the_neighbour() -> None:
    """Scan 2 alone holds the class, so that it finds no donor itself."""
    method = make(min_area=0.01)
    always_draw(method, 3)
    scans = marked()
    scans["pseudo_labels"][2, 4:7, 10:14] = 3
    mixed = method._adaptive_cutmix(scans, generator())["image"][2, 0]
    assert set(mixed.unique().tolist()) == {1.0, 2.0}
    assert float((mixed == 1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_too_small_an_object_is_no_reason() -> None:
    method = make(min_area=0.1)
    always_draw(method, 3)
    scans = marked()
    scans["pseudo_labels"][2, 4:7, 10:14] = 3
    mixed = method._adaptive_cutmix(scans, generator())["image"]
    for receiver, neighbour in ((0, 2), (1, 0)):
        assert set(mixed[receiver, 0].unique().tolist()) == {float(receiver), float(neighbour)}
        assert float((mixed[receiver, 0] == neighbour).float().mean()) > 0.4


def test_invalid_predictions_are_no_object() -> None:
    method = make(min_area=0.01)
    always_draw(method, 3)
    scans = marked()
    scans["pseudo_labels"][2, 4:7, 10:14] = 3
    scans["valid"][2, 4:7, 10:14] = False
    mixed = method._adaptive_cutmix(scans, generator())["confidence"]
    assert set(mixed[1].unique().tolist()) == {10.0, 11.0}


def test_every_suitable_scan_is_a_donor_alike() -> None:
    method = make(min_area=0.01)
    always_draw(method, 3)
    scans = marked()
    scans["pseudo_labels"][1:, 4:7, 10:14] = 3
    g = generator()
    donors = [int(method._adaptive_cutmix(scans, g)["image"][0, 0, 5, 11]) for _ in range(200)]
    assert set(donors) == {1, 2}
    assert 70 < donors.count(1) < 130


def test_targets_are_mixed_as_the_images_are() -> None:
    """A pixelwise teacher predicts the mixed image as its predictions are mixed."""
    method = make()
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    confidence, pseudo_labels = method.teach(unlabelled["image"]).max(1)
    scans = {**unlabelled, "confidence": confidence, "pseudo_labels": pseudo_labels}
    mixed = method._adaptive_cutmix(scans, generator())
    assert not torch.equal(mixed["image"], unlabelled["image"])
    confidence, pseudo_labels = method.teach(mixed["image"]).max(1)
    torch.testing.assert_close(mixed["confidence"], confidence)
    assert torch.equal(mixed["pseudo_labels"], pseudo_labels)


@pytest.mark.parametrize("labelled", ["plain", "strong"])
def test_every_target_belongs_to_its_pixel(monkeypatch, labelled: str) -> None:
    """Pixelwise, student and teacher agree on every image, however it was pasted and mixed."""
    method = make({"labelled": labelled}, paste_probability=1.0)
    calls = []

    def record(logits: torch.Tensor, fields: dict, g: torch.Generator) -> torch.Tensor:
        calls.append((logits, fields))
        return logits.sum()

    monkeypatch.setattr(method, "_consistency", record)
    method(make_batch(), make_context())
    assert len(calls) == 2
    for logits, fields in calls:
        valid = fields["valid"]
        confidence, pseudo_labels = logits.detach().softmax(1).max(1)
        torch.testing.assert_close(fields["confidence"][valid], confidence[valid])
        assert torch.equal(fields["pseudo_labels"][valid], pseudo_labels[valid])


def test_labelled_pixels_learn_from_the_teacher_too() -> None:
    torch.manual_seed(0)
    method = Ael(small_fidnet, make_task(), AelSettings()).train()
    method(make_batch(), make_context())["consistency_labelled"].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())


def test_ranges_are_needed() -> None:
    task = make_task(channels=("depth", "x", "y", "z", "intensity", "valid"))
    with pytest.raises(ConfigError, match=r"ael compares ranges.*depth.*add range"):
        Ael(pixelwise, task, AelSettings())
