"""RangeMix: what is mixed, what is pasted where, which pixels are learnt."""

import pytest
import torch

from rangeseg.errors import ConfigError
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.mixing import Fields
from rangeseg.methods.rangemix import RangeMix, RangeMixSettings

from .conftest import (
    CHANNELS,
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)


def make(task: dict | None = None, **settings: object) -> RangeMix:
    torch.manual_seed(0)
    changes = {"labelled": "plain", "perturbation": NO_PERTURBATION} | (task or {})
    return RangeMix(pixelwise, make_task(**changes), RangeMixSettings(**settings)).train()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen_by_the_student(method: RangeMix, seed: int = 0) -> torch.Tensor:
    """The mixed images (2B,C,H,W) of a step."""
    images: list[torch.Tensor] = []
    encode = method.student.encode

    def recorded(image: torch.Tensor) -> list[torch.Tensor]:
        images.append(image)
        return encode(image)

    method.student.encode = recorded  # type: ignore[method-assign]
    method(make_batch(), make_context(seed=seed))
    (image,) = images
    _, mixed, _ = image.split([3, 6, 3])
    return mixed


def test_both_mixes_together_hold_every_pixel_once() -> None:
    batch = make_batch()
    assert batch.unlabelled is not None
    a, b = batch.unlabelled["image"], batch.labelled["image"]
    first, second = seen_by_the_student(make(paste=0.0)).chunk(2)
    from_a = torch.isclose(first, a, atol=1e-5).all(1, keepdim=True)
    torch.testing.assert_close(torch.where(from_a, a, b), first)
    torch.testing.assert_close(torch.where(from_a, b, a), second)
    assert 0.3 < float(from_a.float().mean()) < 0.7


def test_pairs_are_mixed_by_boxes_and_by_bands() -> None:
    """Bands are whole rows; a box of half the image is not, unless it is as wide."""
    batch = make_batch()
    assert batch.unlabelled is not None
    whole = []
    for seed in range(20):
        first, _ = seen_by_the_student(make(paste=0.0), seed).chunk(2)
        kept = torch.isclose(first, batch.unlabelled["image"], atol=1e-5).all(1)
        kept &= batch.unlabelled["valid"]
        share = kept.sum(2) / batch.unlabelled["valid"].sum(2)
        whole += ((share == 0) | (share == 1)).all(1).tolist()
    assert 0.3 < sum(whole) / len(whole) < 0.7


def scene(labels: int, distance: float) -> Fields:
    """Two scans of one class at one distance."""
    image = torch.full((2, len(CHANNELS), 4, 8), distance)
    return {
        "image": image,
        "valid": torch.ones(2, 4, 8, dtype=torch.bool),
        "labels": torch.full((2, 4, 8), labels, dtype=torch.uint8),
        "sure": torch.ones(2, 4, 8, dtype=torch.bool),
    }


ALL = {"class_weights": torch.full((CLASSES,), 1e9)}  # every class is chosen


def test_the_nearer_point_of_a_ray_stays() -> None:
    method = make(ALL)
    base, near, far = scene(0, 5.0), scene(1, 4.0), scene(1, 6.0)
    assert (method._paste(base, near, generator())["labels"] == 1).all()
    assert (method._paste(base, far, generator())["labels"] == 0).all()


def test_an_empty_ray_takes_what_comes_and_ignored_points_stay_behind() -> None:
    method = make(ALL)
    base, far = scene(0, 5.0), scene(1, 6.0)
    base["valid"][:, :2] = False
    far["labels"][:, :, 0] = 255
    far["valid"][:, :, 1] = False
    pasted = method._paste(base, far, generator())
    expected = torch.zeros(2, 4, 8, dtype=torch.bool)
    expected[:, :2, 2:] = True
    assert torch.equal(pasted["labels"] == 1, expected)
    assert torch.equal(pasted["valid"], base["valid"] | expected)
    assert torch.equal(pasted["image"][:, 0] == 6.0, expected)


@pytest.mark.parametrize("paste", [0.0, 0.5, 1.0])
def test_a_class_is_chosen_by_its_weight_for_each_scan(paste: float) -> None:
    method = make({"class_weights": torch.tensor([0.25, 1.0, 3.0, 1.0])}, paste=paste)
    base, source = scene(3, 5.0), generator()
    for label, chance in ((0, 0.2), (1, 0.5), (2, 0.75)):
        donor = scene(label, 4.0)
        pasted = torch.cat(
            [method._paste(base, donor, source)["labels"][:, 0, 0] == label for _ in range(400)]
        )
        assert float(pasted.float().mean()) == pytest.approx(paste * chance, abs=0.06)


def test_what_is_pasted_comes_from_another_labelled_scan() -> None:
    """Each labelled scan is near and has a class of its own; the unlabelled ones are far."""
    method = make(ALL, confidence=1.0)
    batch = make_batch()
    assert batch.unlabelled is not None
    number = torch.arange(3.0)[:, None, None].expand_as(batch.labelled["valid"])
    for fields, distance in ((batch.labelled, -1.0), (batch.unlabelled, 1.0)):
        fields["valid"].fill_(True)
        fields["image"].fill_(distance)
    batch.labelled["image"][:, 0] -= number  # the third is the nearest, the first the farthest
    batch.labelled["image"][:, 1] = number
    batch.labelled["labels"].copy_(number)
    seen: list[Fields] = []
    paste = method._paste

    def recorded(base: Fields, donor: Fields, source: torch.Generator) -> Fields:
        seen.extend((donor, paste(base, donor, source)))
        return seen[-1]

    method._paste = recorded  # type: ignore[method-assign]
    method(batch, make_context())
    donor, pasted = seen
    assert donor["image"][:, 1, 0, 0].tolist() == [2.0, 0.0, 1.0] * 2
    assert torch.equal(pasted["labels"][0].unique(), torch.tensor([2], dtype=torch.uint8))
    assert (pasted["sure"][0]).all()


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_truth_counts_everywhere_and_pseudo_labels_where_they_are_sure(confidence: float) -> None:
    """A pixelwise network says of a pixel what its teacher said, wherever it is mixed to."""
    method = make(paste=0.0, confidence=confidence)
    batch = make_batch()
    assert batch.unlabelled is not None
    loss = method(batch, make_context())["mix"]
    sure, classes = method.teach(batch.unlabelled["image"]).max(1)
    # Both mixes together are the two batches, so one forward on these gives the same sum.
    logits = method.student(torch.cat([batch.unlabelled["image"], batch.labelled["image"]]))
    expected = masked_cross_entropy(
        logits,
        torch.cat([classes.to(torch.uint8), batch.labelled["labels"]]),
        torch.cat([batch.unlabelled["valid"], batch.labelled["valid"]]),
        torch.ones(CLASSES),
        torch.cat([sure >= confidence, torch.ones_like(batch.labelled["valid"])]),
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_the_unlabelled_scans_are_learnt_whole(confidence: float) -> None:
    """As they are: where no channel is dropped, a pixelwise network sees what its teacher saw."""
    method = make(confidence=confidence, feature_dropout=0.0, feature_weight=0.3)
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    loss = method(make_batch(), make_context())["feature"]
    sure, classes = method.teach(unlabelled["image"]).max(1)
    logits = method.student(unlabelled["image"])
    own = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    kept = unlabelled["valid"] & (sure >= confidence)
    torch.testing.assert_close(loss, 0.3 * (own * kept).sum() / unlabelled["valid"].sum())


def test_only_the_whole_unlabelled_scans_lose_channels() -> None:
    torch.manual_seed(0)
    method = RangeMix(small_fidnet, make_task(), RangeMixSettings()).train()
    encode, decode = method.student.encode, method.student.decode
    encoded: list[list[torch.Tensor]] = []
    decoded: list[list[torch.Tensor]] = []
    method.student.encode = lambda x: encoded.append(encode(x)) or encoded[-1]  # type: ignore
    method.student.decode = lambda f: decoded.append(f) or decode(f)  # type: ignore
    method(make_batch(), make_context())
    for before, after in zip(encoded[0], decoded[0], strict=True):
        assert len(before) == 3 + 6 + 3
        torch.testing.assert_close(after[:9], before[:9])
        gone = (after[9:] == 0).all(3).all(2)
        assert 0.2 < float(gone.float().mean()) < 0.8
        torch.testing.assert_close(after[9:][~gone], 2 * before[9:][~gone])


def test_the_depth_test_needs_ranges() -> None:
    channels = ("x", "y", "z")
    with pytest.raises(ConfigError, match=r"rangemix compares ranges.* x, y, z: add range"):
        make({"channels": channels, "statistics": ((0.0, 1.0),) * 3})


@pytest.mark.parametrize("wrong", [{"confidence": 1.1}, {"paste": -0.1}, {"feature_dropout": 1.0}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RangeMixSettings(**wrong)
