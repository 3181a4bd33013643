"""The contract of every network, their sizes, and CENet's auxiliary heads."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from rangeseg.errors import ConfigError
from rangeseg.models import MODELS, ModelSettings, build_network
from rangeseg.models.blocks import pad_azimuth, upsample_azimuth
from rangeseg.models.cenet import CENet
from rangeseg.models.network import Network


@pytest.fixture(params=sorted(MODELS))
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    settings = ModelSettings(name=request.param, width=8)
    network = build_network(settings, in_channels=6, num_classes=5)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average: features as large as in training
    network.train()(torch.randn(4, 6, 16, 64))
    return network.eval()


def test_forward_is_encode_decode_classify(network: Network) -> None:
    image = torch.randn(1, 6, 16, 64)
    features = network.encode(image)
    embedding = network.decode(features)
    assert embedding.shape == (1, network.embedding_channels, 16, 64)
    logits = network(image)
    assert logits.shape == (1, 5, 16, 64)
    assert torch.equal(network.classify(embedding), logits)
    assert [f.shape[3] for f in features[-5:]] == [64, 64, 32, 16, 8]
    assert features[0].shape[3] == 64
    assert tuple(f.shape[1] for f in features) == network.feature_channels


@pytest.mark.parametrize("columns", [8, 24, -16])
def test_rolling_the_scan_rolls_the_logits(network: Network, columns: int) -> None:
    image = torch.randn(2, 6, 16, 64)
    rolled = network(image.roll(columns, dims=3))
    torch.testing.assert_close(rolled, network(image).roll(columns, dims=3))


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("full_turn", "padding"), [(True, "circular"), (True, "zeros"), (False, "circular")]
)
def test_only_in_a_full_turn_with_circular_padding_do_the_edges_see_each_other(
    name: str, full_turn: bool, padding: str, align_corners: bool
) -> None:
    torch.manual_seed(0)
    settings = ModelSettings.model_validate(
        {"name": name, "width": 4, "padding": padding, "align_corners": align_corners}
    )
    network = build_network(settings, 3, 2, full_turn).eval()
    image = torch.randn(1, 3, 8, 512, requires_grad=True)
    logits = network(image)
    assert logits.shape == (1, 2, 8, 512)
    heads = network.auxiliary(network.encode(image))
    torch.stack([logits, *heads])[..., :8].square().sum().backward()
    reached = image.grad[..., 256:].any()  # the receptive field is narrower than half the image
    assert bool(reached) == (full_turn and padding == "circular")


def test_every_parameter_learns(network: Network) -> None:
    features = network.train().encode(torch.randn(2, 6, 16, 64))
    outputs = [network.classify(network.decode(features)), *network.auxiliary(features)]
    torch.stack(outputs).square().mean().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias in front of a batch norm has no effect, so its gradient is rounding noise or zero.
    assert [n for n in still if not n.endswith("bias")] == []


def test_logits_and_gradients_of_features_stay_channels_last(network: Network) -> None:
    layout = torch.channels_last
    network.to(memory_format=layout)
    image = torch.randn(2, 6, 16, 64).contiguous(memory_format=layout)
    features = network.encode(image)
    kept = []
    learnt = [feature for feature in features if feature.requires_grad]
    for feature in learnt:
        feature.register_hook(lambda g: kept.append(g.is_contiguous(memory_format=layout)))
    logits = network.classify(network.decode(features))
    assert logits.is_contiguous(memory_format=layout)
    logits.square().mean().backward()
    assert kept == [True] * len(learnt)


def test_frnet_has_the_parameters_of_the_paper() -> None:
    network = build_network(ModelSettings(name="frnet"), in_channels=5, num_classes=20, layers=5)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(10.0e6, rel=0.02)


def test_fidnet_has_the_parameters_of_the_paper() -> None:
    network = build_network(ModelSettings(name="fidnet"), in_channels=5, num_classes=20)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(6.05e6, abs=0.01e6)


def test_cenet_has_the_parameters_of_the_paper() -> None:
    """6.77 M is the network that predicts; each auxiliary head adds 128 x 20 + 20."""
    network = build_network(ModelSettings(name="cenet"), in_channels=5, num_classes=20)
    count = sum(p.numel() for p in network.parameters())
    heads = sum(p.numel() for n, p in network.named_parameters() if n.startswith("auxiliary"))
    assert heads == 3 * 2580
    assert count - heads == 6_774_228


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_activation_checkpointing_changes_the_memory_alone(
    network: Network, precision: torch.dtype
) -> None:
    image = torch.randn(2, 6, 16, 64)
    copies = [copy.deepcopy(network).train() for _ in range(2)]
    copies[1].activation_checkpointing = True
    kept = [_bytes_kept_for_the_backward(each, image, precision) for each in copies]
    assert kept[1] < 0.5 * kept[0]
    for (name, one), two in zip(copies[0].named_parameters(), copies[1].parameters(), strict=True):
        if not name.startswith("auxiliary"):
            torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=0, msg=name)
    for (name, one), two in zip(copies[0].named_buffers(), copies[1].buffers(), strict=True):
        assert torch.equal(one, two), name
    before, after = (
        next(m.running_mean for m in n.modules() if isinstance(m, torch.nn.BatchNorm2d))
        for n in (network, copies[0])
    )
    assert not torch.equal(before, after)


def _bytes_kept_for_the_backward(
    network: Network, image: torch.Tensor, precision: torch.dtype
) -> int:
    kept: dict[int, torch.Tensor] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.data_ptr()] = x
        return x

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        torch.autocast("cpu", precision, enabled=precision != torch.float32),
    ):
        loss = network(image).float().square().mean()
    size = sum(x.nbytes for x in kept.values())
    loss.backward()
    return size


def test_only_cenet_has_auxiliary_heads() -> None:
    fidnet = build_network(ModelSettings(name="fidnet", width=8), 6, 5)
    assert fidnet.auxiliary(fidnet.encode(torch.randn(1, 6, 16, 64))) == []


def test_an_auxiliary_head_classifies_its_enlarged_stage() -> None:
    cenet = CENet(6, 5, width=8)
    features = cenet.encode(torch.randn(2, 6, 16, 64))
    heads = cenet.auxiliary(features)
    assert len(heads) == 3
    stages = zip(heads, cenet.auxiliary_classifiers, features[2:], (2, 4, 8), strict=True)
    for logits, head, feature, factor in stages:
        torch.testing.assert_close(logits, head(upsample_azimuth(feature, factor)))


def test_unknown_network_lists_the_options() -> None:
    with pytest.raises(ConfigError, match=r"unknown network 'fidnett' .*did you mean 'fidnet'"):
        build_network(ModelSettings(name="fidnett"), 5, 19)


def test_padding_wraps_and_so_does_its_gradient() -> None:
    x = torch.randn(2, 3, 4, 8, dtype=torch.double, requires_grad=True)
    assert torch.equal(pad_azimuth(x, 2), F.pad(x, (2, 2, 0, 0), mode="circular"))
    assert torch.autograd.gradcheck(lambda x: pad_azimuth(x, 2), (x,))


def test_upsampling_interpolates_across_the_seam() -> None:
    ramp = torch.zeros(1, 1, 1, 8)
    ramp[..., -1] = 1.0
    enlarged = upsample_azimuth(ramp, 2)
    assert enlarged.shape == (1, 1, 2, 16)
    assert enlarged[0, 0, 0, 0] == pytest.approx(0.25)  # a quarter of the neighbour at the left
    front = upsample_azimuth(ramp, 2, full_turn=False)
    assert front.shape == (1, 1, 2, 16)
    assert front[0, 0, 0].tolist() == [0.0] * 13 + [0.25, 0.75, 1.0]
    aligned = upsample_azimuth(torch.arange(8.0).expand(1, 1, 8, 8), 2, align_corners=True)
    torch.testing.assert_close(aligned, torch.linspace(0, 7, 16).expand(1, 1, 16, 16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_gradient_of_upsampling_is_not_summed_in_bfloat16(factor: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 8, 8, 32, device="cuda").bfloat16()
    above = torch.rand(1, 8, 8 * factor, 32 * factor, device="cuda").bfloat16()
    found, exact = image.clone().requires_grad_(), image.double().requires_grad_()
    enlarged = upsample_azimuth(found, factor)
    assert enlarged.dtype == torch.bfloat16
    enlarged.backward(above)
    upsample_azimuth(exact, factor).backward(above.double())
    error = (found.grad.double() - exact.grad).square().mean().sqrt()
    assert error < 0.003 * exact.grad.square().mean().sqrt()


@pytest.mark.slow
def test_narrow_shortcuts_are_sound() -> None:
    """PyTorch 2.13 corrupts memory where they are strided, so that the process dies."""
    code = (
        "import torch\n"
        "from rangeseg.models.blocks import BasicBlock\n"
        "for channels in (4, 12, 16):\n"
        "    shortcut = BasicBlock(channels, channels, 2, torch.nn.ReLU).shortcut[0]\n"
        "    shortcut.to(memory_format=torch.channels_last)\n"
        "    for _ in range(60):\n"
        "        x = torch.randn(2, channels, 32, 256)\n"
        "        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()\n"
        "        y = shortcut(x)\n"
        "        y.square().sum().backward()\n"
        "    expected = torch.nn.functional.conv2d(x, shortcut.weight, stride=2)\n"
        "    torch.testing.assert_close(y, expected)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
