"""ExchangeMix: what is mixed, which pixels are learnt."""

import pytest
import torch

from rangeseg.methods.exchange_mix import ExchangeMix, ExchangeMixSettings
from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.perturbation import PerturbationSettings

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)


def make(task: dict | None = None, **settings: object) -> ExchangeMix:
    torch.manual_seed(0)
    changes = {"labelled": "plain", "perturbation": NO_PERTURBATION} | (task or {})
    return ExchangeMix(pixelwise, make_task(**changes), ExchangeMixSettings(**settings)).train()


def seen_by_the_student(method: ExchangeMix, seed: int = 0) -> torch.Tensor:
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
    first, second = seen_by_the_student(make()).chunk(2)
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
        first, _ = seen_by_the_student(make(), seed).chunk(2)
        kept = torch.isclose(first, batch.unlabelled["image"], atol=1e-5).all(1)
        kept &= batch.unlabelled["valid"]
        share = kept.sum(2) / batch.unlabelled["valid"].sum(2)
        whole += ((share == 0) | (share == 1)).all(1).tolist()
    assert 0.3 < sum(whole) / len(whole) < 0.7


def test_labelled_scans_are_mixed_as_they_are_and_unlabelled_ones_perturbed() -> None:
    batch = make_batch()
    assert batch.unlabelled is not None
    method = make({"labelled": "strong", "perturbation": PerturbationSettings()})
    first, second = seen_by_the_student(method).chunk(2)

    def shown(image: torch.Tensor) -> torch.Tensor:
        return torch.isclose(first, image).all(1) | torch.isclose(second, image).all(1)

    assert shown(batch.labelled["image"]).all()
    valid = batch.unlabelled["valid"]
    assert float(shown(batch.unlabelled["image"])[valid].float().mean()) < 0.1


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_truth_counts_everywhere_and_pseudo_labels_where_they_are_sure(confidence: float) -> None:
    """A pixelwise network says of a pixel what its teacher said, wherever it is mixed to."""
    method = make(confidence=confidence)
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
    method = ExchangeMix(small_fidnet, make_task(), ExchangeMixSettings()).train()
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


@pytest.mark.parametrize("wrong", [{"confidence": 1.1}, {"feature_dropout": 1.0}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExchangeMixSettings(**wrong)
