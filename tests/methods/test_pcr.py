"""PCR: the prototypes, when they begin, what they learn from, what learns from them."""

import copy

import pytest
import torch
from torch.nn import functional as F

from rangeseg.methods.pcr import Pcr, PcrSettings
from rangeseg.methods.prototypes import TEMPERATURE, PrototypeHead

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    pixelwise,
    small_fidnet,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_head(num_classes: int = 3, count: int = 2, channels: int = 5) -> PrototypeHead:
    """All classes seen, prototypes of any length."""
    head = PrototypeHead(num_classes, count, channels, momentum=0.99)
    head.prototypes.copy_(3 * torch.randn(head.prototypes.shape, generator=generator()))
    head.seen.fill_(True)
    return head


def make(network=small_fidnet, task: dict | None = None, **settings: object) -> Pcr:
    torch.manual_seed(0)
    return Pcr(network, make_task(**(task or {})), PcrSettings(**settings)).train()


def test_a_logit_is_the_cosine_to_the_nearest_prototype() -> None:
    head = make_head()
    embedding = torch.randn(2, 5, 7, generator=generator(1))
    logits = head(embedding)
    for c in range(3):
        cosines = [
            F.cosine_similarity(embedding, p[:, None].expand(5, 7)[None], dim=1)
            for p in head.prototypes[c]
        ]
        torch.testing.assert_close(logits[:, c], torch.maximum(*cosines) / TEMPERATURE)


def test_lengths_do_not_matter() -> None:
    head = make_head()
    embedding = torch.randn(2, 5, 7, generator=generator(1))
    before = head(embedding)
    torch.testing.assert_close(head(7 * embedding), before)
    head.prototypes *= torch.rand(3, 2, 1, generator=generator()) + 0.1
    torch.testing.assert_close(head(embedding), before)


def test_a_class_without_prototypes_has_no_probability_and_no_gradient() -> None:
    head = make_head()
    head.seen[1] = False
    embedding = torch.randn(1, 5, 7, generator=generator(1), requires_grad=True)
    assert (head(embedding).softmax(1)[:, 1] == 0).all()
    assert head.known(torch.tensor([0, 1, 2, 255])).tolist() == [True, False, True, False]
    head.seen.fill_(False)
    uniform = head(embedding).softmax(1)
    torch.testing.assert_close(uniform, torch.full((1, 3, 7), 1 / 3))
    uniform.sum().backward()
    assert embedding.grad is not None
    assert not embedding.grad.any()


def test_a_prototype_moves_towards_the_mean_of_its_pixels() -> None:
    head = make_head()
    embedding = torch.randn(40, 5, generator=generator(1))
    labels = torch.randint(0, 2, (40,), generator=generator(2))  # none of class 2
    labels[:5] = 255
    before = head.prototypes.clone()
    head.update(embedding, labels)
    directions = F.normalize(embedding, dim=1)
    for c in range(3):
        nearest = (directions @ F.normalize(before[c], dim=1).T).argmax(1)
        for k in range(2):
            members = directions[(labels == c) & (nearest == k)]
            if len(members) == 0:
                assert torch.equal(head.prototypes[c, k], before[c, k])
            else:
                expected = 0.99 * before[c, k] + 0.01 * members.mean(0)
                torch.testing.assert_close(head.prototypes[c, k], expected)
    assert torch.equal(head.prototypes[2], before[2])


def test_an_unseen_class_is_not_updated() -> None:
    head = make_head()
    head.seen[1] = False
    before = head.prototypes.clone()
    head.update(torch.randn(40, 5, generator=generator(1)), torch.ones(40, dtype=torch.long))
    assert torch.equal(head.prototypes, before)


def test_kmeans_finds_the_clusters_of_a_class() -> None:
    head = PrototypeHead(3, 2, 8, momentum=0.99)
    axes = torch.eye(8)
    noise = 0.1 * torch.randn(4, 25, 8, generator=generator())
    points = 4 * axes[:4, None] + noise  # two clusters of class 0, two of class 2
    labels = torch.tensor([0, 0, 2, 2]).repeat_interleave(25)
    head.initialise(points.flatten(0, 1), labels, generator(3))
    assert head.seen.tolist() == [True, False, True]
    assert not head.prototypes[1].any()
    torch.testing.assert_close(head.prototypes[[0, 2]].norm(dim=2), torch.ones(2, 2))
    for c, first in ((0, 0), (2, 2)):
        found = (head.prototypes[c] @ axes[first : first + 2].T).max(dim=0).values
        assert float(found.min()) > 0.99


def test_a_class_of_one_pixel_repeats_it_with_noise() -> None:
    head = PrototypeHead(2, 4, 8, momentum=0.99)
    point = torch.randn(1, 8, generator=generator())
    head.initialise(point, torch.tensor([1]), generator())
    cosines = F.normalize(head.prototypes[1], dim=1) @ F.normalize(point, dim=1)[0]
    assert float(cosines.min()) > 0.98
    assert len(head.prototypes[1].unique(dim=0)) == 4


def test_a_seen_class_is_not_initialised_again() -> None:
    head = make_head()
    before = head.prototypes.clone()
    head.initialise(torch.randn(20, 5), torch.ones(20, dtype=torch.long), generator())
    assert torch.equal(head.prototypes, before)


def test_prototypes_begin_after_the_warm_up_with_the_labelled_classes() -> None:
    method = make(ramp_start=0.5, confidence=0.0)
    batch = make_batch()
    batch.labelled["labels"][batch.labelled["labels"] == 3] = 255
    early = make_context(step=49)
    losses = method(batch, early)
    method.after_batch()
    method.after_step(early)
    assert not method.head.seen.any()
    assert [float(losses[n].detach()) for n in losses if "prototype" in n] == [0.0, 0.0]
    late = make_context(step=50)
    assert float(method(batch, late)["supervised_prototype"].detach()) == 0.0
    method.after_batch()
    method.after_step(late)
    # The teacher may well say 3 on unlabelled pixels; only truth begins a class.
    assert method.head.seen.tolist() == [True, True, True, False]
    losses = method(batch, late)
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["supervised_prototype"].detach()) > 0


def started(**settings: object) -> Pcr:
    """A method with prototypes."""
    method = make(**settings)
    method(make_batch(), make_context())
    method.after_batch()
    method.after_step(make_context())
    assert method.head.seen.all()
    return method


@pytest.mark.parametrize("name", ["supervised_prototype", "consistency_prototype"])
def test_a_prototype_loss_trains_the_embedding_alone(name: str) -> None:
    method = started(confidence=0.0)
    method(make_batch(), make_context())[name].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.stages.parameters())
    assert all(p.grad is None for p in method.student.classifier.parameters())
    assert not method.head.prototypes.requires_grad
    assert not list(method.head.parameters())


def test_the_prototypes_see_every_batch_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    method, seen = make(confidence=0.0), {}
    for name in ("update", "initialise"):
        monkeypatch.setattr(method.head, name, lambda x, y, *_, n=name: seen.update({n: (x, y)}))
    kept = []
    for seed in (0, 1):
        method(make_batch(seed), make_context())
        assert method._pixels is not None
        kept.append(method._pixels)
        method.after_batch()
    method.after_step(make_context())
    for number in (0, 1):
        everything = torch.cat([batch[number] for batch in kept])
        labelled = torch.cat([batch[number][: batch[2]] for batch in kept])
        assert torch.equal(seen["update"][number], everything)
        assert torch.equal(seen["initialise"][number], labelled)
    assert len(labelled) < len(everything)


def test_prototypes_move_a_little_at_each_step() -> None:
    method = started()
    before = method.head.prototypes.clone()
    method(make_batch(1), make_context(91))
    method.after_batch()
    method.after_step(make_context(91))
    moved = (method.head.prototypes - before).norm(dim=2)
    assert float(moved.max()) > 0
    assert float(moved.max()) <= 0.02 + 1e-6


def test_unsure_pseudo_labels_teach_nothing() -> None:
    method = started(confidence=1.0)
    losses = method(make_batch(), make_context())
    assert float(losses["consistency"].detach()) == 0.0
    assert float(losses["consistency_prototype"].detach()) == 0.0
    assert float(losses["supervised_prototype"].detach()) > 0
    assert method._pixels is not None
    _, labels, labelled = method._pixels
    assert (labels[:labelled] != 255).any()
    assert (labels[labelled:] == 255).all()


def test_the_teachers_predictions_are_mixed_as_the_images_are() -> None:
    method = make(pixelwise, {"perturbation": NO_PERTURBATION})
    unlabelled = make_batch().unlabelled
    assert unlabelled is not None
    mixed = method._mixed(unlabelled, generator())
    assert not torch.equal(mixed["image"], unlabelled["image"])
    confidence, pseudo_labels = method.teach(mixed["image"]).max(1)
    torch.testing.assert_close(mixed["confidence"], confidence)
    assert torch.equal(mixed["pseudo_labels"], pseudo_labels)


def test_prototypes_see_one_pixel_of_each_cell() -> None:
    method = started(grid=4)
    method(make_batch(), make_context())
    assert method._pixels is not None
    embedding, labels, labelled = method._pixels
    assert embedding.shape == (2 * 3 * 16, 4)
    assert labels.shape == (2 * 3 * 16,)
    assert labelled == 3 * 16
    assert set(labels.tolist()) == {*range(CLASSES), 255}


def test_pixels_keep_their_own_labels() -> None:
    """Where the image tells the class, what the prototypes learn must tell it too."""
    method = make(pixelwise, {"perturbation": NO_PERTURBATION, "labelled": "plain"}, grid=8)
    batch = make_batch()
    labels = batch.labelled["labels"]
    batch.labelled["image"][:, 3] = labels.float()
    method(batch, make_context())
    assert method._pixels is not None
    embedding, learnt, labelled = method._pixels  # of the pixelwise network: the image itself
    known = learnt[:labelled] != 255
    assert known.any()
    assert torch.equal(embedding[:labelled, 3][known], learnt[:labelled][known].float())


def test_invalid_pixels_teach_nothing() -> None:
    method = started(confidence=0.0)
    twin = copy.deepcopy(method)
    batch, changed = make_batch(), make_batch()
    changed.labelled["labels"][~changed.labelled["valid"]] = 2
    expected = method(batch, make_context())
    losses = twin(changed, make_context())
    assert all(torch.equal(losses[n], expected[n]) for n in losses)
    assert method._pixels is not None
    assert twin._pixels is not None
    assert torch.equal(method._pixels[1], twin._pixels[1])


def test_pseudo_labels_of_invalid_pixels_teach_nothing() -> None:
    task = {"perturbation": NO_PERTURBATION}
    method = make(pixelwise, task, grid=32, confidence=0.0)  # a cell is a pixel
    method(make_batch(), make_context())
    assert method._pixels is not None
    embedding, labels, labelled = method._pixels
    learnt = labels[labelled:] != 255
    assert torch.equal(embedding[labelled:, -1] == 1, learnt)  # the channel `valid`
