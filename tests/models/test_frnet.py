"""FRNet: points of layers count where they are, in whatever layer that is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rangeseg.errors import ConfigError
from rangeseg.models import LAYERS, MODELS, ModelSettings, build_network
from rangeseg.models.frnet import FRNet
from rangeseg.models.points import PointFusion, PointLayer, add_pixels, largest_of_frustums
from rangeseg.models.prediction import folded, lower_precision

LAYER_COUNT, HEIGHT, WIDTH, CLASSES = 3, 16, 32, 5


def frnet(layers: int = LAYER_COUNT) -> FRNet:
    torch.manual_seed(0)
    network = build_network(ModelSettings(name="frnet", width=8), 4, CLASSES, layers=layers)
    assert isinstance(network, FRNet)
    return network.train()


def image(seed: int = 0, scans: int = 2) -> Tensor:
    """Pixels of no to three points, the nearest first."""
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(scans, 4, LAYER_COUNT, HEIGHT, WIDTH, generator=g)
    counts = torch.randint(0, LAYER_COUNT + 1, (scans, 1, 1, HEIGHT, WIDTH), generator=g)
    return points * (torch.arange(LAYER_COUNT)[:, None, None] < counts)


def test_logits_are_of_points_and_roll_with_the_scan() -> None:
    network, scan = frnet().eval(), image()
    logits = network(scan)
    assert logits.shape == (2, CLASSES, LAYER_COUNT, HEIGHT, WIDTH)
    assert not torch.equal(logits[:, :, 0], logits[:, :, 1])
    torch.testing.assert_close(network(scan.roll(8, dims=-1)), logits.roll(8, dims=-1))
    heads = network.auxiliary(network.encode(scan))
    assert [head.shape for head in heads] == [(2, CLASSES, HEIGHT, WIDTH)] * 4


def test_the_order_of_the_points_means_nothing() -> None:
    """In training mode, where statistics of the batch normalise it."""
    network, scan = frnet(), image()
    scan = scan * (scan[:, :, -1:] != 0)  # all points of a pixel, or none
    twin, order = copy.deepcopy(network), [2, 0, 1]
    found, expected = twin(scan[:, :, order]), network(scan)[:, :, order]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_an_empty_layer_changes_nothing() -> None:
    network, scan = frnet(), image()
    wider = frnet(LAYER_COUNT + 1)
    wider.load_state_dict(network.state_dict())
    logits = network(scan)
    found = wider(torch.cat([scan, torch.zeros_like(scan[:, :, :1])], dim=2))
    torch.testing.assert_close(found[:, :, :-1], logits, rtol=1e-3, atol=1e-3)
    for (name, one), two in zip(network.named_buffers(), wider.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_an_image_of_one_layer_is_one_of_pixels() -> None:
    one, scan = frnet(1), image()[:, :, :1]
    pixels = one(scan[:, :, 0])
    assert pixels.shape == (2, CLASSES, HEIGHT, WIDTH)
    three = frnet()
    three.load_state_dict(one.state_dict())
    rest = torch.zeros_like(scan).expand(-1, -1, 2, -1, -1)
    found = three.eval()(torch.cat([scan, rest], dim=2))[:, :, 0]
    torch.testing.assert_close(found, one.eval()(scan[:, :, 0]))


def test_every_parameter_learns_and_empty_places_do_not() -> None:
    network, scan = frnet(), image().requires_grad_()
    features = network.encode(scan)
    logits, heads = network.classify(network.decode(features)), network.auxiliary(features)
    there = (scan != 0).any(dim=1, keepdim=True)
    loss = (logits * there).square().sum() + torch.stack(heads).square().sum()
    loss.backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert scan.grad is not None
    assert not (scan.grad * ~there).any()


def naive_normalised(x: Tensor, weights: Tensor) -> Tensor:
    """Batch norm of the entries, each repeated as often as it counts."""
    rows = x.movedim(1, 3).flatten(0, 2)
    repeated = rows.repeat_interleave(weights.flatten().long(), dim=0)
    mean, var = repeated.mean(dim=0), repeated.var(dim=0, unbiased=False)
    return ((rows - mean) / (var + 1e-5).sqrt()).view(x.movedim(1, 3).shape).movedim(3, 1)


def test_batch_norms_are_of_the_entries_that_count() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 4, dtype=torch.double, requires_grad=True)
    weights = torch.randint(0, 4, (2, 1, 6, 4)).double()
    layer = PointLayer(3, 5).double()
    torch.testing.assert_close(layer(x, weights), naive_normalised(layer.conv(x), weights).relu())
    assert torch.autograd.gradcheck(lambda x, w: layer(x, weights), (x, layer.conv.weight))
    fresh, everything = PointLayer(3, 5).double(), torch.ones_like(weights)
    twin = copy.deepcopy(fresh)
    torch.testing.assert_close(fresh(x, everything), twin.norm(twin.conv(x)).relu())
    torch.testing.assert_close(fresh.state_dict(), twin.state_dict())
    torch.testing.assert_close(fresh.eval()(x, weights), twin.norm.eval()(twin.conv(x)).relu())
    assert torch.isfinite(layer(x, torch.zeros_like(weights))).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_points_and_pixels_against_lists(stride: int) -> None:
    layers = image().abs()
    there = (layers != 0).any(dim=1, keepdim=True)
    points = torch.where(there, layers, layers[:, :, :1]).flatten(2, 3)  # (B, C, kH, W)
    there = there.flatten(2, 3)
    points.requires_grad_()
    found = largest_of_frustums(points, there.float(), HEIGHT, stride)
    pixels = torch.randn(2, 6, HEIGHT // stride, WIDTH // stride)
    fusion = PointFusion(6, 4, 5)
    fused = fusion(pixels, points, there.float())
    added = add_pixels(points, pixels[:, :4])
    expected, gathered = torch.zeros_like(found), torch.zeros(2, 6, *points.shape[2:])
    for scan, _, row, col in there.nonzero().tolist():
        own = scan, slice(None), row % HEIGHT // stride, col // stride
        expected[own] = torch.maximum(expected[own], points[scan, :, row, col].detach())
        gathered[scan, :, row, col] = pixels[own]
        torch.testing.assert_close(
            added[scan, :, row, col], points[scan, :, row, col] + pixels[own][:4]
        )
    assert torch.equal(found, expected)
    assert torch.equal(found, largest_of_frustums(points.detach(), there.float(), HEIGHT, stride))
    (gradient,) = torch.autograd.grad(found.sum(), points)
    assert gradient.sum() == (expected > 0).sum()
    lifted = naive_normalised(fusion.conv(torch.cat([gathered, points], dim=1)), there)
    torch.testing.assert_close(fused * there, lifted.relu() * there, rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_in_less_precision_points_of_a_frustum_stay_apart() -> None:
    """bfloat16 has 3 digits: points of 5.00 and 5.01 are one, their offsets are not."""
    scan = 5.0 + 0.01 * image()
    network = frnet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(scan)
    expected = network.eval()(scan)
    found = lower_precision(folded(network), torch.bfloat16)(scan)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


@pytest.mark.parametrize("name", sorted(MODELS.keys() - LAYERS.keys()))
def test_networks_of_pixels_take_one_layer(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"layers=2, but {name} .* network of points \(frnet\)"):
        build_network(ModelSettings(name=name, width=2), 3, CLASSES, layers=2)
