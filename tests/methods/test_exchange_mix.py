"""ExchangeMix: what is mixed, which pixels are learnt."""

import pytest
import torch

from rangeseg.methods.losses import masked_cross_entropy
from rangeseg.methods.perturbation import PerturbationSettings

from .conftest import (
    CLASSES,
    UNDISTURBED,
    make_batch,
    make_context,
    make_method,
    pixelwise,
    record,
)


def seen_by_the_student(seed: int = 0, **task: object) -> torch.Tensor:
    """The mixed images (2B,C,H,W) of a step."""
    method = make_method("exchange_mix", pixelwise, UNDISTURBED | task)
    forwards = record(method.student)
    method(make_batch(), make_context(seed=seed))
    _, mixed, _ = forwards[-1].image.split([3, 6, 3])
    return mixed


def test_pairs_are_mixed_by_boxes_and_by_bands() -> None:
    """Bands are whole rows; a box of half the image is not, unless it is as wide."""
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    whole = []
    for seed in range(20):
        first, _ = seen_by_the_student(seed).chunk(2)
        kept = torch.isclose(first, unlabelled["image"], atol=1e-5).all(1)
        kept &= unlabelled["valid"]
        share = kept.sum(2) / unlabelled["valid"].sum(2)
        whole += ((share == 0) | (share == 1)).all(1).tolist()
    assert 0.3 < sum(whole) / len(whole) < 0.7


def test_labelled_scans_are_mixed_as_they_are_and_unlabelled_ones_perturbed() -> None:
    batch = make_batch()
    assert batch.unlabelled is not None
    mixed = seen_by_the_student(labelled="strong", perturbation=PerturbationSettings())
    first, second = mixed.chunk(2)

    def shown(image: torch.Tensor) -> torch.Tensor:
        return torch.isclose(first, image).all(1) | torch.isclose(second, image).all(1)

    assert shown(batch.labelled["image"]).all()
    valid = batch.unlabelled["valid"]
    assert float(shown(batch.unlabelled["image"])[valid].float().mean()) < 0.1


@pytest.mark.parametrize("confidence", [0.0, 0.5, 1.0])
def test_truth_counts_everywhere_and_pseudo_labels_where_they_are_sure(confidence: float) -> None:
    """Both mixes together are the two batches, so a pixelwise network's loss is that on these."""
    method = make_method("exchange_mix", pixelwise, UNDISTURBED, confidence=confidence)
    batch = make_batch()
    assert batch.unlabelled is not None
    sure, classes = method.teach(batch.unlabelled["image"]).max(1)
    expected = masked_cross_entropy(
        method.student(torch.cat([batch.unlabelled["image"], batch.labelled["image"]])),
        torch.cat([classes.to(torch.uint8), batch.labelled["labels"]]),
        torch.cat([batch.unlabelled["valid"], batch.labelled["valid"]]),
        torch.ones(CLASSES),
        torch.cat([sure >= confidence, torch.ones_like(batch.labelled["valid"])]),
    )
    torch.testing.assert_close(method(batch, make_context())["mix"], expected)
