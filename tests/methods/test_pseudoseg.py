"""PseudoSeg: activation maps, attention among them, and how they are fused with the decoder."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rangeseg.methods.attention_cam import AttentionCam
from rangeseg.methods.losses import masked_cross_entropy, soft_cross_entropy
from rangeseg.methods.pseudoseg import PseudoSeg, fuse, window_loss

from .conftest import (
    CLASSES,
    UNDISTURBED,
    generator,
    make_batch,
    make_context,
    make_method,
    small_fidnet,
)


def make_cam(windows: int = 2) -> AttentionCam:
    torch.manual_seed(0)
    return AttentionCam((3, 5), CLASSES, windows)


def make_features(scans: int = 2) -> list[torch.Tensor]:
    """Of an image of 8x16, at 4x8 and 2x4."""
    g = generator()
    return [
        torch.randn(scans, 3, 4, 8, generator=g),
        torch.randn(scans, 5, 2, 4, generator=g).relu(),
    ]


def make_valid(scans: int = 2) -> torch.Tensor:
    valid = torch.rand(scans, 8, 16, generator=generator(1)) < 0.8
    valid[0, :4, 4:8] = False  # a deepest feature that sees nothing
    return valid


def make(**settings: object) -> PseudoSeg:
    method = make_method("pseudoseg", small_fidnet, UNDISTURBED, **settings)
    assert isinstance(method, PseudoSeg)
    return method


@pytest.mark.parametrize("windows", [1, 2])
def test_the_activation_map_is_grad_cam(windows: int) -> None:
    """In each window, up to the scale that normalising takes away."""
    cam, valid = make_cam(windows), make_valid()
    deepest = make_features()[1].requires_grad_()
    present = torch.ones(2, CLASSES, windows, dtype=torch.bool)
    scores = cam.scores(deepest, valid)
    found = cam.activation(deepest, present, valid)
    seen = F.max_pool2d(valid.float()[:, None], 4)
    for c in range(CLASSES):
        expected = torch.zeros(2, 1, 2, 4)
        for window in range(windows):
            inside = torch.arange(4) * windows // 4 == window
            (gradient,) = torch.autograd.grad(
                scores[:, c, window].sum(), deepest, retain_graph=True
            )
            assert not gradient[..., ~inside].any()
            importance = gradient.sum(dim=(2, 3), keepdim=True)
            expected += F.relu((importance * deepest).sum(1, keepdim=True)) * inside * seen
        expected = expected / expected.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        torch.testing.assert_close(found[:, c : c + 1], expected)


def test_activations_stay_in_windows_that_hold_the_class() -> None:
    cam, valid = make_cam(), make_valid()
    present = torch.zeros(2, CLASSES, 2, dtype=torch.bool)
    present[:, 1, 0] = True
    maps = cam.activation(make_features()[1], present, valid).detach()
    assert not maps[:, [0, 2, 3]].any()
    assert not maps[:, 1, :, 2:].any()
    assert float(maps[:, 1].max()) == pytest.approx(1.0)
    assert not maps[0, :, 0, 1].any()  # nothing valid there


def test_a_window_is_the_mean_of_its_valid_features() -> None:
    cam, valid = make_cam(), make_valid()
    deepest = make_features()[1]
    scores = cam.scores(deepest, valid)
    first = deepest[0, :, :, :2].flatten(1)[:, [0, 2, 3]].mean(1)  # without row 0, column 1
    expected = F.linear(first, cam.classifier.weight[:, :, 0, 0], cam.classifier.bias)
    torch.testing.assert_close(scores[0, :, 0], expected)
    changed = deepest.clone()
    changed[0, :, 0, 1] += 10.0
    assert torch.equal(cam.scores(changed, valid), scores)


def test_windows_that_do_not_divide_the_columns_are_fewer() -> None:
    assert make_cam(8).scores(make_features()[1], make_valid()).shape == (2, CLASSES, 4)
    assert make_cam(3).scores(make_features()[1], make_valid()).shape == (2, CLASSES, 1)


def test_a_window_holds_the_classes_of_its_valid_labels() -> None:
    cam = make_cam()
    labels = torch.full((1, 8, 16), 255, dtype=torch.uint8)
    labels[0, 3, 2], labels[0, 4, 7], labels[0, 5, 6] = 1, 3, 2
    valid = torch.ones(1, 8, 16, dtype=torch.bool)
    valid[0, 5, 6] = False
    present, known = cam.truth(labels, valid, 2)
    assert present[0, :, 0].tolist() == [False, True, False, True]
    assert not present[0, :, 1].any()
    assert known.tolist() == [[True, False]]


def test_unknown_windows_do_not_count() -> None:
    scores = torch.randn(1, CLASSES, 2, generator=generator())
    present = torch.zeros(1, CLASSES, 2, dtype=torch.bool)
    loss = window_loss(scores, present, torch.tensor([[True, False]]))
    expected = F.binary_cross_entropy_with_logits(scores[:, :, 0], torch.zeros(1, CLASSES))
    torch.testing.assert_close(loss, expected)
    assert float(window_loss(scores, present, torch.tensor([[False, False]]))) == 0.0


def test_attention_sees_valid_features_alone() -> None:
    cam, valid = make_cam().eval(), make_valid()
    features = make_features()
    present = torch.ones(2, CLASSES, 2, dtype=torch.bool)
    before = cam(features, present, valid)
    assert before.shape == (2, CLASSES, 8, 16)
    features[1][0, :, 0, 1] += 10.0
    after = cam(features, present, valid)
    torch.testing.assert_close(after[:, :, 6:], before[:, :, 6:])  # beyond the enlargement's reach
    torch.testing.assert_close(after[1], before[1])
    features[1][0, :, 1, 3] += 10.0
    assert not torch.allclose(cam(features, present, valid)[0], after[0], atol=1e-3)


@pytest.mark.parametrize(
    ("term", "trained"),
    [
        ("supervised_cam", {"cam.query", "cam.key", "cam.output"}),
        ("supervised_windows", {"student.stem", "student.stages", "cam.classifier"}),
        (
            "consistency",
            {"student.stem", "student.stages", "student.decoder", "student.classifier"},
        ),
    ],
)
def test_what_each_term_trains(term: str, trained: set[str]) -> None:
    """The attention learns, but never changes the features that it looks at."""
    method = make()
    method(make_batch(), make_context())[term].backward()
    learnt = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert {".".join(name.split(".")[:2]) for name in learnt} == trained


def test_the_attention_is_told_the_true_classes_of_labelled_windows() -> None:
    method = make(windows=2)
    batch = make_batch()
    labels = torch.arange(3)[:, None, None].repeat(1, 16, 32)  # scan 0 holds class 0, and so on
    labels[:, :, 16:] += 1
    batch.labelled["labels"] = torch.where(batch.labelled["valid"], labels, 255).to(torch.uint8)
    calls = []
    method.cam.register_forward_pre_hook(lambda module, args: calls.append(args[1]))
    method(batch, make_context())
    assert len(calls) == 2
    for scan in range(3):
        for window in range(2):
            assert calls[1][scan, :, window].nonzero().flatten().tolist() == [scan + window]


def test_rolling_a_scan_by_windows_rolls_its_pseudo_labels() -> None:
    method = make(windows=2)
    for module in method.modules():  # statistics that make a difference
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
    g = generator()
    image = torch.randn(2, 6, 16, 64, generator=g)
    valid = torch.rand(2, 16, 64, generator=g) < 0.8
    target = method.pseudo_labels({"image": image, "valid": valid})
    rolled = method.pseudo_labels({"image": image.roll(32, 3), "valid": valid.roll(32, 2)})
    torch.testing.assert_close(rolled, target.roll(32, 3), rtol=1e-4, atol=1e-5)
    assert float((target - target.roll(32, 3)).abs().max()) > 0.01


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator()
    valid = torch.rand(2, 4, 6, generator=g) < 0.7
    logits = 3 * torch.randn(2, CLASSES, 4, 6, generator=g)
    return logits, torch.randn(2, CLASSES, 4, 6, generator=g), valid


def test_the_fusion_is_the_sharpened_mean_on_a_common_scale() -> None:
    """Of the decoder alone where no window has a class."""
    logits, coarse, valid = draw()
    covered = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    covered[..., :3] = False
    fused = fuse(logits, coarse, covered, valid, 0.5)
    torch.testing.assert_close(fused.sum(1), torch.ones(2, 4, 6))
    logits, coarse = (x - x.mean(1, keepdim=True) for x in (logits, coarse))
    for scan in range(2):
        inside = torch.cat([logits[scan][:, valid[scan]], coarse[scan][:, valid[scan]]])
        scale = inside.square().mean().sqrt()
        decoder, maps = (logits[scan] / scale).softmax(0), (coarse[scan] / scale).softmax(0)
        mean = torch.cat([decoder[..., :3], (decoder + maps)[..., 3:] / 2], dim=2)
        torch.testing.assert_close(fused[scan], mean**2 / (mean**2).sum(0))


def test_soft_cross_entropy_of_a_one_hot_target_is_the_hard_one() -> None:
    logits, _, valid = draw()
    labels = torch.randint(0, CLASSES, valid.shape, generator=generator(2))
    keep = torch.rand(valid.shape, generator=generator(3))
    weights = torch.tensor([0.5, 1.0, 1.5, 2.0])
    one_hot = F.one_hot(labels, CLASSES).movedim(3, 1).float()
    torch.testing.assert_close(
        soft_cross_entropy(logits, one_hot, valid, weights, keep),
        masked_cross_entropy(logits, labels, valid, weights, keep),
    )
