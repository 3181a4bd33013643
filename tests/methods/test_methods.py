"""What is particular to a small method, or to a few."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rangeseg.errors import ConfigError
from rangeseg.methods.consistency import ConsistencySettings, consistency_loss
from rangeseg.methods.losses import CrossEntropySettings

from .conftest import (
    CLASSES,
    UNDISTURBED,
    generator,
    make_batch,
    make_context,
    make_method,
    pixelwise,
    record,
    settings_of,
    small_cenet,
    small_fidnet,
    step,
)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ael", {"min_area": 0}), ("cutmix_seg", {"confidence": -0.1}),
        ("exchange_mix", {"confidence": 1.1}), ("exchange_mix", {"feature_dropout": 1}),
        ("lasermix", {"consistency": -1}), ("lasermix", {"ema_momentum": 1}),
        ("mean_teacher", {"ramp_start": 1.1}), ("pcr", {"prototypes": 0}),
        ("pseudoseg", {"temperature": 0}), ("unimatch", {"weight": -1}),
    ],
)  # fmt: skip
def test_settings_are_checked(name: str, wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings_of(name, **wrong)


@pytest.mark.parametrize("name", ["mean_teacher", "cutmix_seg", "cps", "pcr", "ael", "lasermix"])
def test_without_perturb_the_student_sees_every_ray_as_it_was(name: str) -> None:
    """Each pixel of an unlabelled scan is one of the batch, in its row and column."""
    plain = {"labelled": "plain"}
    batch = make_batch()
    scans = torch.cat([batch.labelled["image"], batch.unlabelled["image"]])
    for perturb in (True, False):
        method = make_method(name, pixelwise, plain, perturb=perturb, paste_probability=0.0)
        forwards = record(method.student)
        method(batch, make_context())
        images = next(f.image for f in forwards if f.learning)[3:]
        known = torch.isclose(images[:, None], scans, atol=1e-6).all(2).any(1)
        assert bool(known.all()) != perturb


def test_ranges_are_in_metres_and_only_where_they_weigh() -> None:
    weighting = CrossEntropySettings(range_weighting=True)
    batch = make_batch()
    image = batch.labelled["image"]
    method = make_method("supervised", pixelwise, {**UNDISTURBED, "cross_entropy": weighting})
    torch.testing.assert_close(method.ranges(image), image[:, 0] * 5.0 + 10.0)
    assert make_method("supervised", pixelwise).ranges(image) is None
    channels = {"channels": ("x", "y"), "statistics": ((0.0, 1.0), (0.0, 1.0))}
    with pytest.raises(ConfigError, match=r"range_weighting needs the range, but .* are x, y: add"):
        make_method("supervised", pixelwise, {**channels, "cross_entropy": weighting})


def test_cutmix_mixes() -> None:
    """With real context the mixed student differs from the mixed teacher."""
    method = make_method("cutmix_seg", small_fidnet, UNDISTURBED, confidence=0.0)
    assert float(method(make_batch(), make_context())["consistency"].detach()) > 1e-4


def test_labelled_partner_brings_its_truth_where_it_is_known() -> None:
    """The target of a pixel taken from a labelled scan is its truth; ignored ones do not count."""
    method = make_method("cutmix_seg", pixelwise, UNDISTURBED, partner="labelled", confidence=0.0)
    batch = make_batch()
    forwards = record(method.student)
    loss = method(batch, make_context())["consistency"]
    labelled, mixed = batch.labelled, forwards[-1].image[3:]
    donor = {name: field.roll(1, 0) for name, field in labelled.items()}
    taken = (mixed == donor["image"]).all(1) & donor["valid"]
    known = taken & (donor["labels"] != 255)
    assert 0 < int(known.sum()) < int(taken.sum())
    truth = F.one_hot(torch.where(known, donor["labels"], 0).long(), CLASSES).movedim(3, 1)
    error = (method.student(mixed).softmax(1) - truth).square().sum(1)[known].sum()
    counts = int((mixed[:, -1] != 0).sum()) - int((taken & ~known).sum())
    torch.testing.assert_close(loss / method.settings.weight, error / counts)


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
    """t_n = s + a^n (t_0 - s); in the first step, of the warm-up, the teacher is the student."""
    method = make_method("mean_teacher", pixelwise, ema_momentum=0.9)
    for steps, factor in ((range(100, 105), 0.9**5), (range(1), 0.0)):
        for teacher, student in zip(
            method.teacher.parameters(), method.student.parameters(), strict=True
        ):
            teacher.data = student.data + 1.0
        for number in steps:
            method.after_step(make_context(number, 200))
        for s, t in zip(method.student.parameters(), method.teacher.parameters(), strict=True):
            torch.testing.assert_close(t, s + factor)


def test_ema_averages_float_buffers_and_copies_integers() -> None:
    method = make_method("mean_teacher", small_fidnet, ema_momentum=0.5)
    student, teacher = (
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        for network in (method.student, method.teacher)
    )
    before = teacher.running_mean.clone()
    step(method, make_batch(), make_context(100, 200))
    torch.testing.assert_close(teacher.running_mean, (before + student.running_mean) / 2)
    assert teacher.num_batches_tracked == student.num_batches_tracked == 1


def test_the_networks_of_cps_differ_and_swapping_them_swaps_its_losses() -> None:
    method = make_method("cps", small_fidnet)
    swapped = copy.deepcopy(method)
    swapped.student, swapped.second = swapped.second, swapped.student
    a = method(make_batch(), make_context())
    b = swapped(make_batch(), make_context())
    for kind in ("supervised", "cross"):
        torch.testing.assert_close(a[f"{kind}_first"], b[f"{kind}_second"])
        torch.testing.assert_close(a[f"{kind}_second"], b[f"{kind}_first"])
        assert not torch.isclose(a[f"{kind}_first"], a[f"{kind}_second"])


@pytest.mark.parametrize("cutmix", [True, False])
def test_a_cross_loss_trains_one_network_with_the_labels_of_the_other(cutmix: bool) -> None:
    method = make_method("cps", pixelwise, UNDISTURBED, cutmix=cutmix)
    forwards = record(method.student)
    loss = method(make_batch(), make_context())["cross_first"]
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
    assert all(p.grad is None for p in method.second.parameters())
    image = next(f.image for f in forwards if f.learning)[3 if cutmix else 0 :]
    each = F.cross_entropy(method.student(image), method.second(image).argmax(1), reduction="none")
    torch.testing.assert_close(loss, each[image[:, -1] != 0].mean())


def test_the_average_of_cps_is_the_mean_probability() -> None:
    method = make_method("cps", small_fidnet, predictor="average").eval()
    image = make_batch().labelled["image"]
    mean = (method.student(image).softmax(1) + method.second(image).softmax(1)) / 2
    torch.testing.assert_close(method.predictor()(image).softmax(1), mean)
    first = make_method("cps", small_fidnet)
    assert first.predictor() is first.student


@pytest.mark.parametrize("name", ["lasermix", "frustummix", "exchange_mix"])
def test_both_mixes_together_hold_every_pixel_once(name: str) -> None:
    method, batch = make_method(name, pixelwise, UNDISTURBED), make_batch()
    assert batch.unlabelled is not None
    forwards = record(method.student)
    method(batch, make_context())
    images = forwards[-1].image  # labelled scans first; then mixed and whole ones
    first, second = images[slice(3, 9) if name == "exchange_mix" else slice(6, 12)].chunk(2)
    a, b = batch.unlabelled["image"], batch.labelled["image"]
    from_a = torch.isclose(first, a, atol=1e-5).all(1, keepdim=True)
    torch.testing.assert_close(torch.where(from_a, a, b), first)
    torch.testing.assert_close(torch.where(from_a, b, a), second)
    assert 0.3 < float(from_a.float().mean()) < 0.7


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["unimatch", "exchange_mix"])
def test_unlabelled_scans_are_learnt_whole(name: str, confidence: float) -> None:
    """Only confident pixels count, and all valid ones divide."""
    method = make_method(
        name, pixelwise, UNDISTURBED, confidence=confidence, feature_dropout=0.0
    )  # fmt: skip
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    loss = method(make_batch(), make_context())["feature"]
    logits = method.student(unlabelled["image"])
    sure, classes = logits.softmax(1).max(1)
    own = F.cross_entropy(logits, classes, reduction="none")
    kept = unlabelled["valid"] & (sure >= confidence)
    torch.testing.assert_close(loss, 0.5 * (own * kept).sum() / unlabelled["valid"].sum())
    assert (float(loss.detach()) > 0) == (confidence < 1)


@pytest.mark.parametrize("network", [small_fidnet, small_cenet])
@pytest.mark.parametrize("name", ["unimatch", "exchange_mix"])
def test_only_whole_unlabelled_scans_lose_channels_of_every_feature(name: str, network) -> None:
    method = make_method(name, network)
    forwards = record(method.student)
    method(make_batch(), make_context())
    forward = next(f for f in forwards if f.learning)
    whole = slice(-3, None)  # the last scans of the batch
    gone = []
    for before, after in zip(forward.features, forward.decoded, strict=True):
        torch.testing.assert_close(after[:-3], before[:-3])
        zero = (after[whole] == 0).all(3).all(2)
        torch.testing.assert_close(after[whole][~zero], 2 * before[whole][~zero])
        gone.append(zero.flatten())
    assert len(gone) == 5
    assert 0.3 < float(torch.cat(gone).float().mean()) < 0.7


def test_the_strong_branch_mixes_labelled_scans_and_the_plain_one_does_not() -> None:
    labelled = make_batch().labelled
    plain = make_method("supervised", pixelwise, UNDISTURBED)
    assert plain.labelled_view(labelled, generator()) is labelled
    strong = make_method("supervised", pixelwise, UNDISTURBED | {"labelled": "strong"})
    view = strong.labelled_view(labelled, generator())
    own = torch.isclose(view["image"], labelled["image"], atol=1e-5).all(1)
    partners = torch.isclose(view["image"], labelled["image"].roll(1, 0), atol=1e-5).all(1)
    assert (own | partners).all()
    assert 0.3 < float(own.float().mean()) < 0.75
    rolled = labelled["labels"].roll(1, 0)
    assert torch.equal(view["labels"][~own], rolled[~own])


def test_by_a_coin_each_labelled_scan_is_plain_or_strong() -> None:
    labelled = make_batch().labelled
    strong = make_method("supervised", pixelwise, {"labelled": "strong"})
    by_coin = make_method("supervised", pixelwise, {"labelled": "coin"})
    plain = 0
    for seed in range(50):
        both = strong.labelled_view(labelled, generator(seed))
        view = by_coin.labelled_view(labelled, generator(seed))
        for scan in range(len(labelled["valid"])):
            as_it_is = all(torch.equal(view[name][scan], labelled[name][scan]) for name in view)
            assert as_it_is or all(torch.equal(view[k][scan], both[k][scan]) for k in view)
            plain += as_it_is
    scans = 50 * len(labelled["valid"])
    assert 0.35 * scans < plain < 0.65 * scans
