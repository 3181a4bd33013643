"""A step with the settings of ``configs/published`` against the official one, written out here.

The official steps are restated from their descriptions, in one loop per image where that is
plainest, and share no code with the methods. Networks have no batch norm, so that separate
forwards and common ones agree; random draws (boxes, bands) are taken from the method.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, TrainingBatch
from rangeseg.models.blocks import AzimuthConv
from rangeseg.models.network import Network
from rangeseg.runs.config import Config, load_config

from .conftest import CHANNELS, CLASSES, Layers, make_batch, make_context, make_task

PUBLISHED = Path(__file__).parents[2] / "configs" / "published"
FILES = ["semantic_kitti", "scribble_kitti", "nuscenes"]
IGNORED = 255
NUSCENES_CONSISTENCY, KITTI_CONSISTENCY = 500 / 20, 250 / 20  # means over 20 channels, as sums


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> Config:
    return load_config(PUBLISHED / f"{request.param}.yaml")


def network() -> Network:
    """Context and a non-linearity, without batch norm."""
    return Layers(nn.Sequential(AzimuthConv(len(CHANNELS), 12), nn.Tanh()), 12)


def published_method(config: Config, name: str) -> Method[Any]:
    """The method as the file sets it, its teacher a little behind the student."""
    train = config.train
    assert train.class_weights == "none"
    task = make_task(
        class_weights=torch.ones(CLASSES), labelled=train.labelled,
        lovasz_weight=train.lovasz_weight, boundary_weight=train.boundary_weight,
        cross_entropy=train.cross_entropy,
    )  # fmt: skip
    torch.manual_seed(0)
    method = METHODS[name](network, task, config.method_settings(name)).train()
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
            parameter.mul_(3.0)  # confident here and there
    if hasattr(method, "teacher"):
        with torch.no_grad():
            for parameter in method.teacher.parameters():
                parameter.mul_(4.0)
    return method


def batch_of(seed: int) -> TrainingBatch:
    return make_batch(seed, scans=3, height=12, width=16)


# The supervised loss of LaserMix's range-view trainer.


def cross_entropy_of_all_pixels(logits: Tensor, labels: Tensor) -> Tensor:
    """Ignored pixels have no loss, but their share of the divisor."""
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return losses.mean()


def lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Berman et al.'s algorithm over the labelled pixels of the batch, class by class."""
    counts = labels != IGNORED
    probabilities, truth = logits.softmax(1).movedim(1, -1)[counts], labels[counts]
    losses = []
    for c in range(CLASSES):
        foreground = (truth == c).double()
        if foreground.sum() == 0:
            continue
        errors, order = (foreground - probabilities[:, c]).abs().sort(descending=True)
        sorted_ = foreground[order]
        intersection = sorted_.sum() - sorted_.cumsum(0)
        union = sorted_.sum() + (1 - sorted_).cumsum(0)
        jaccard = 1 - intersection / union
        gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append((errors * gradient).sum())
    return torch.stack(losses).mean()


def boundary(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the F1 of the class boundaries; ours over labelled pixels, around the seam."""
    counts = labels != IGNORED
    losses = []
    for scan in range(len(labels)):
        for c in range(CLASSES):
            edges = []
            for share in ((labels[scan] == c).double(), logits[scan].softmax(0)[c]):
                rest = torch.where(counts[scan], 1 - share, 0.0)
                around = torch.cat([rest[:, -1:], rest, rest[:, :1]], dim=1)
                around = F.pad(around, (0, 0, 1, 1))
                height, width = rest.shape
                windows = [
                    around[r : r + height, k : k + width] for r in range(3) for k in range(3)
                ]
                edges.append((torch.stack(windows).amax(0) - rest) * counts[scan])
            truth, found = edges
            if truth.sum() > 0:
                precision = (found * truth).sum() / found.sum()
                recall = (found * truth).sum() / truth.sum()
                losses.append(1 - 2 * precision * recall / (precision + recall))
    return torch.stack(losses).mean()


def supervised(logits: Tensor, labels: Tensor) -> Tensor:
    return (
        cross_entropy_of_all_pixels(logits, labels)
        + 3 * lovasz(logits, labels)
        + boundary(logits, labels)
    )


def of_labelled(net: nn.Module, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Logits and labels (B,H,W), ignored where there is no point."""
    labelled = batch.labelled
    labels = torch.where(labelled["valid"], labelled["labels"].long(), IGNORED)
    return net(labelled["image"]).double(), labels


def neighbours(field: Tensor) -> Tensor:
    return field.roll(1, 0)


def drawn_masks(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[Tensor]:
    """The masks that the method will draw."""
    masks: list[Tensor] = []
    draw = getattr(__import__(f"rangeseg.methods.{module}", fromlist=[name]), name)

    def noted(*words: Any) -> Tensor:
        masks.append(draw(*words))
        return masks[-1]

    monkeypatch.setattr(f"rangeseg.methods.{module}.{name}", noted)
    return masks


def check_step(method: Method[Any], losses: dict[str, Tensor], official: Tensor) -> None:
    """Value and gradients of the whole step agree."""
    total = torch.stack(list(losses.values())).sum()
    assert float(total.detach()) == pytest.approx(float(official.detach()), abs=1e-6, rel=1e-6)
    parameters = [p for p in method.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (total, official))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_mean_teacher(config: Config, seed: int) -> None:
    """CPS's baseline for images: MSE of the distributions on labelled and unlabelled images."""
    method, batch = published_method(config, "mean_teacher"), batch_of(seed)
    assert batch.unlabelled is not None
    losses = method(batch, make_context())
    image = torch.cat([batch.labelled["image"], batch.unlabelled["image"]])
    valid = torch.cat([batch.labelled["valid"], batch.unlabelled["valid"]])
    p, q = (n(image).double().softmax(1) for n in (method.student, method.teacher))
    squared = (p - q.detach()).square() * valid[:, None]  # images have no empty pixels
    official = supervised(*of_labelled(method.student, batch))
    check_step(method, losses, official + 5.0 * CLASSES * squared.mean())
    assert float(losses["consistency"].detach()) > 0.01


@pytest.mark.parametrize("seed", range(2))
def test_cutmix_seg(config: Config, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """French et al.'s code: mixed images, mixed predictions, one confidence for the batch."""
    masks = drawn_masks(monkeypatch, "cutmix_seg", "cutmix_mask")
    method, batch = published_method(config, "cutmix_seg"), batch_of(seed)
    assert batch.unlabelled is not None
    losses = method(batch, make_context())
    mask = masks[0][:, None].double()
    first = batch.unlabelled["image"].double()
    mixed = first * (1 - mask) + neighbours(first) * mask
    valid = batch.unlabelled["valid"].double()[:, None]
    loss_mask = valid * (1 - mask) + neighbours(valid) * mask
    with torch.no_grad():
        logits = method.teacher(first.float()).double()
        q = (logits * (1 - mask) + neighbours(logits) * mask).softmax(1)
    p = method.student(mixed.float()).double().softmax(1)
    confident = (q.max(dim=1).values >= 0.97).double().mean()
    assert 0.02 < float(confident) < 0.98
    consistency = ((p - q).square().sum(1, keepdim=True) * loss_mask * confident).mean()
    check_step(method, losses, supervised(*of_labelled(method.student, batch)) + consistency)


@pytest.mark.parametrize("seed", range(2))
def test_cps(config: Config, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CutMix: each network learns the other's mixed argmax on the mixed image."""
    masks = drawn_masks(monkeypatch, "cps", "three_box_mask")
    method, batch = published_method(config, "cps"), batch_of(seed)
    assert batch.unlabelled is not None
    losses = method(batch, make_context())
    mask = masks[0][:, None].float()
    first = batch.unlabelled["image"]
    mixed = first * (1 - mask) + neighbours(first) * mask
    labels = []
    for net in (method.student, method.second):
        with torch.no_grad():
            logits = net(first)
            labels.append((logits * (1 - mask) + neighbours(logits) * mask).argmax(1))
    valid = batch.unlabelled["valid"].float()[:, None]
    empty = (valid * (1 - mask) + neighbours(valid) * mask)[:, 0] == 0
    official = torch.zeros((), dtype=torch.float64)
    for net, other in ((method.student, 1), (method.second, 0)):
        target = labels[other].masked_fill(empty, IGNORED)
        official = official + F.cross_entropy(net(mixed).double(), target, ignore_index=IGNORED)
        official = official + supervised(*of_labelled(net, batch))
    check_step(method, losses, official)


@pytest.mark.parametrize("seed", range(2))
def test_lasermix(config: Config, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both mixes of each pair with the whole supervised loss, MSE on what is not mixed."""
    masks = drawn_masks(monkeypatch, "lasermix", "band_mask")
    method, batch = published_method(config, "lasermix"), batch_of(seed)
    assert batch.unlabelled is not None
    on_nuscenes = config.dataset.name == "nuscenes"
    losses = method(batch, make_context())
    image_a, image_b = batch.labelled["image"], batch.unlabelled["image"]
    logits_a, labels_a = of_labelled(method.student, batch)
    with torch.no_grad():
        q = method.teacher(torch.cat([image_a, image_b])).double().softmax(1)
    confidence, labels_b = q[len(image_a) :].max(1)
    unsure = (confidence < (0.95 if on_nuscenes else 0.9)) | ~batch.unlabelled["valid"]
    labels_b = labels_b.masked_fill(unsure, IGNORED)
    images, labels = [], []
    for mask, a, b, la, lb in zip(masks[0], image_a, image_b, labels_a, labels_b, strict=True):
        images += [torch.where(mask, b, a), torch.where(mask, a, b)]
        labels += [torch.where(mask, lb, la), torch.where(mask, la, lb)]
    logits_mixed = method.student(torch.stack(images)).double()
    valid = torch.cat([batch.labelled["valid"], batch.unlabelled["valid"]])
    p = torch.cat([logits_a, method.student(image_b).double()]).softmax(1)
    # A voxel grid has no empty voxels: the mean over channels is over what there is.
    squared = (p - q).square().movedim(1, -1)[valid].mean()
    weight = (NUSCENES_CONSISTENCY if on_nuscenes else KITTI_CONSISTENCY) * CLASSES
    official = supervised(logits_a, labels_a) + weight * squared
    official = official + supervised(logits_mixed, torch.stack(labels))
    check_step(method, losses, official)
    kept = (labels_b != IGNORED).float().mean()
    assert 0.02 < float(kept) < 0.98


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_steps(config: Config, name: str) -> None:
    """With the file's settings, from the first step on; the losses are finite."""
    method = published_method(config, name)
    optimiser = torch.optim.AdamW(method.parameters(), lr=config.train.learning_rate)
    for number in (0, 1, 50):
        losses = method(batch_of(number), make_context(number, 100))
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        method.after_batch()
        method.after_step(make_context(number, 100))
