"""Methods on images of layers: every point is learnt with its own label, and masks take pixels."""

from __future__ import annotations

import pytest
import torch

from rangeseg.methods import METHODS
from rangeseg.methods.layers import front, front_channels
from rangeseg.methods.losses import SupervisedLoss, boundary_loss
from rangeseg.methods.mixing import cutmix_mask, mix, partner
from rangeseg.methods.perturbation import PerturbationSettings, StrongPerturbation
from rangeseg.models.frnet import FRNet

from .conftest import (
    CHANNELS,
    CLASSES,
    NO_PERTURBATION,
    Oracle,
    generator,
    make_batch,
    make_context,
    make_method,
    readable,
    small_fidnet,
    step,
)

LAYERS = 3


def small_frnet() -> FRNet:
    return FRNet(len(CHANNELS), CLASSES, width=4, layers=LAYERS)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_trains_a_network_of_points(name: str) -> None:
    method = make_method(name, small_frnet, confidence=0.0)
    batch = make_batch(layers=LAYERS)
    for number in (90, 91):  # what the first step begins, the second one uses
        losses = step(method, batch, make_context(number))
        assert all(loss.dim() == 0 and torch.isfinite(loss) for loss in losses.values())
    for network in method.trained_networks():
        learnt = [p for p in network.parameters() if p.grad is not None and p.grad.any()]
        assert len(learnt) > 0.9 * len(list(network.parameters()))


@pytest.mark.parametrize("labelled", ["plain", "strong"])
@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"pseudoseg"}))
def test_a_point_keeps_its_label_and_confidence(name: str, labelled: str) -> None:
    """See the test of the same name of pixels; PseudoSeg's labels depend on a window."""
    settings = {
        "confidence": 0.9, "confidence_mode": "per_pixel", "loss": "cross_entropy",
        "feature_dropout": 0.0, "paste_probability": 1.0,
    }  # fmt: skip
    task = {"labelled": labelled, "perturbation": NO_PERTURBATION, "boundary_weight": 0.0}
    method = make_method(name, Oracle, task, **settings)
    losses = method(readable(make_batch(layers=LAYERS)), make_context())
    for term, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6), term


def test_a_mix_takes_all_points_of_a_pixel() -> None:
    fields = make_batch(layers=LAYERS).labelled
    mask = cutmix_mask(tuple(fields["valid"].shape), generator())
    assert mask.shape == (3, 16, 32)
    mixed = mix(fields, partner(fields), mask)
    for name, field in fields.items():
        for scan in range(3):
            for chosen, source in ((mask[scan], field[scan - 1]), (~mask[scan], field[scan])):
                assert torch.equal(mixed[name][scan][..., chosen], source[..., chosen])


def test_a_perturbation_drops_whole_pixels_and_moves_each_point() -> None:
    settings = PerturbationSettings(scale=0, intensity_gain=0, intensity_bias=0, drop_intensity=0)
    statistics = ((0.0, 1.0),) * len(CHANNELS)
    perturb = StrongPerturbation(settings, CHANNELS, statistics)
    fields = make_batch(layers=LAYERS).labelled
    strong = perturb(fields, generator())
    dropped = fields["valid"] & ~strong["valid"]
    assert dropped.any()
    assert torch.equal(dropped, fields["valid"] & dropped.any(dim=1, keepdim=True))
    both = strong["valid"][:, :2].all(dim=1)
    factor = (strong["image"] / fields["image"])[:, 0, :2].movedim(1, -1)[both]
    assert (factor[:, 0] != factor[:, 1]).float().mean() > 0.9
    assert not strong["image"].movedim(1, -1)[~strong["valid"]].any()


@pytest.mark.parametrize("terms_on", ["all_heads", "auxiliary_heads"])
def test_heads_of_pixels_learn_the_nearest_points(terms_on: str) -> None:
    method = make_method("supervised", small_frnet, {"terms_on": terms_on})
    labelled, network = make_batch(layers=LAYERS).labelled, method.student
    loss, (logits,) = method.supervise(network, labelled)
    heads = network.auxiliary(network.encode(labelled["image"]))
    labels, valid = labelled["labels"], labelled["valid"]
    own = method.supervised_loss(logits, labels, valid, all_terms=terms_on == "all_heads")
    theirs = [method.supervised_loss(head, labels[:, 0], valid[:, 0]) for head in heads]
    torch.testing.assert_close(loss, own + sum(theirs))
    alone = make_method("supervised", small_fidnet, {"terms_on": terms_on})
    batch = make_batch().labelled
    loss, (logits,) = alone.supervise(alone.student, batch)
    assert torch.equal(loss, alone.supervised_loss(logits, batch["labels"], batch["valid"]))


def test_losses_of_points() -> None:
    """Terms of points take each layer alike; the boundary is that of the nearest points."""
    fields = make_batch(layers=LAYERS).labelled
    labels, valid = fields["labels"], fields["valid"]
    logits = torch.randn(3, CLASSES, *valid.shape[1:], generator=generator())
    loss = SupervisedLoss(torch.rand(CLASSES), 0.7, 0.0)
    below = (logits.flatten(2, 3), labels.flatten(1, 2), valid.flatten(1, 2))
    torch.testing.assert_close(loss(logits, labels, valid), loss(*below))
    nearest = front_channels(logits), front(labels), front(valid)
    assert torch.equal(boundary_loss(logits, labels, valid), boundary_loss(*nearest))
