"""PCR: the prototypes, when they begin, what they learn from, what learns from them."""

import pytest
import torch
from torch.nn import functional as F

from rangeseg.methods.base import TrainingBatch
from rangeseg.methods.pcr import Pcr
from rangeseg.methods.prototypes import TEMPERATURE, PrototypeHead

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    UNDISTURBED,
    generator,
    make_batch,
    make_context,
    make_method,
    pixelwise,
    small_fidnet,
    step,
)


def make_head(num_classes: int = 3, count: int = 2, channels: int = 5) -> PrototypeHead:
    """All classes seen, prototypes of any length."""
    head = PrototypeHead(num_classes, count, channels, momentum=0.99)
    head.prototypes.copy_(3 * torch.randn(head.prototypes.shape, generator=generator()))
    head.seen.fill_(True)
    return head


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
    """Classes without labelled pixels, and those without prototypes, stay."""
    head = make_head()
    head.seen[1] = False
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
            if c == 1 or len(members) == 0:
                assert torch.equal(head.prototypes[c, k], before[c, k])
            else:
                expected = 0.99 * before[c, k] + 0.01 * members.mean(0)
                torch.testing.assert_close(head.prototypes[c, k], expected)
    assert torch.equal(head.prototypes[2], before[2])


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


def make(network=small_fidnet, task: dict | None = None, **settings: object) -> Pcr:
    method = make_method("pcr", network, task, **settings)
    assert isinstance(method, Pcr)
    return method


def started(**settings: object) -> Pcr:
    """A method with prototypes."""
    method = make(**settings)
    step(method, make_batch(), make_context())
    method.zero_grad()
    assert method.head.seen.all()
    return method


Pixels = tuple[torch.Tensor, torch.Tensor]


def seen_by_the_prototypes(method: Pcr, *batches: TrainingBatch) -> tuple[Pixels, Pixels]:
    """Embedding (N,D) and labels (N,) of the pixels of a step: all, and the labelled ones."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("update", "initialise"):
            patch.setattr(method.head, name, lambda x, y, *_, n=name: seen.update({n: (x, y)}))
        for batch in batches:
            method(batch, make_context())
            method.after_batch()
        method.after_step(make_context())
    return seen["update"], seen["initialise"]


def test_prototypes_begin_after_the_warm_up_with_the_labelled_classes() -> None:
    method = make(ramp_start=0.5, confidence=0.0)
    batch = make_batch()
    batch.labelled["labels"][batch.labelled["labels"] == 3] = 255
    losses = step(method, batch, make_context(step=49))
    assert not method.head.seen.any()
    assert [float(losses[n]) for n in losses if "prototype" in n] == [0.0, 0.0]
    late = make_context(step=50)
    assert float(step(method, batch, late)["supervised_prototype"]) == 0.0
    # The teacher may well predict 3 on unlabelled pixels; only truth begins a class.
    assert method.head.seen.tolist() == [True, True, True, False]
    losses = method(batch, late)
    assert all(torch.isfinite(v) for v in losses.values())
    assert float(losses["supervised_prototype"].detach()) > 0


@pytest.mark.parametrize("name", ["supervised_prototype", "consistency_prototype"])
def test_a_prototype_loss_trains_the_embedding_alone(name: str) -> None:
    method = started(confidence=0.0)
    method(make_batch(), make_context())[name].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.stages.parameters())
    assert not any(
        p.grad is not None and p.grad.any() for p in method.student.classifier.parameters()
    )
    assert not list(method.head.parameters())


def test_the_prototypes_see_every_batch_of_a_step() -> None:
    batches = make_batch(0), make_batch(1)
    together = seen_by_the_prototypes(make(pixelwise, grid=32), *batches)
    apart = [seen_by_the_prototypes(make(pixelwise, grid=32), batch) for batch in batches]
    for number, (embedding, labels) in enumerate(together):
        assert torch.equal(embedding, torch.cat([both[number][0] for both in apart]))
        assert torch.equal(labels, torch.cat([both[number][1] for both in apart]))


def test_prototypes_move_a_little_at_each_step() -> None:
    method = started()
    before = method.head.prototypes.clone()
    step(method, make_batch(1), make_context(91))
    moved = (method.head.prototypes - before).norm(dim=2)
    assert 0 < float(moved.max()) <= 0.02 + 1e-6


def test_prototypes_see_one_pixel_of_each_cell_and_unsure_labels_teach_nothing() -> None:
    method = started(grid=4, confidence=1.0)
    (embedding, labels), (labelled, truth) = seen_by_the_prototypes(method, make_batch())
    assert embedding.shape == (2 * 3 * 16, 4)
    assert labelled.shape == (3 * 16, 4)
    assert torch.equal(embedding[: 3 * 16], labelled)
    assert torch.equal(labels[: 3 * 16], truth)
    assert set(truth.tolist()) == {*range(CLASSES), 255}
    assert (labels[3 * 16 :] == 255).all()


def test_pixels_keep_their_own_labels() -> None:
    """Where the image tells the class, what the prototypes learn must tell it too."""
    method, batch = make(pixelwise, UNDISTURBED, grid=8), make_batch()
    batch.labelled["image"][:, 3] = batch.labelled["labels"].float()
    # The embedding of the pixelwise network is the image itself.
    _, (embedding, learnt) = seen_by_the_prototypes(method, batch)
    known = learnt != 255
    assert known.any()
    assert torch.equal(embedding[known, 3], learnt[known].float())


def test_invalid_pixels_teach_nothing() -> None:
    """The last channel of the image says which are valid; a cell is a pixel."""
    method = make(pixelwise, {"perturbation": NO_PERTURBATION}, grid=32, confidence=0.0)
    batch = make_batch()
    batch.labelled["labels"] = batch.labelled["labels"].clamp(max=2)  # at invalid pixels, too
    (embedding, labels), _ = seen_by_the_prototypes(method, batch)
    assert torch.equal(embedding[:, -1] == 1, labels != 255)


def test_labelled_pixels_come_first_where_few_are() -> None:
    batch = make_batch()
    labels = batch.labelled["labels"]
    few = torch.rand(labels.shape, generator=generator(4)) < 0.07
    batch.labelled["labels"] = torch.where(few, labels, 255).to(torch.uint8)
    counts = []
    for labelled_first in (False, True):
        method = make(pixelwise, UNDISTURBED, grid=4, labelled_first=labelled_first)
        _, (_, learnt) = seen_by_the_prototypes(method, batch)
        counts.append(int((learnt != 255).sum()))
    assert counts[1] > 2 * counts[0]
