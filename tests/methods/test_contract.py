"""What every method must keep, over the dict of methods."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rangeseg.errors import ConfigError
from rangeseg.methods import METHODS, find_method
from rangeseg.methods.base import Method
from rangeseg.methods.teacher import TeacherMethod
from rangeseg.models.network import Network
from rangeseg.system.device import autocast

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    Oracle,
    make_batch,
    make_context,
    make_method,
    readable,
    record,
    small_cenet,
    small_fidnet,
    step,
    three_layers,
    total,
)

Make = Callable[..., Method]


@pytest.fixture(params=sorted(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(name: str) -> Make:
    def make(task: dict | None = None, **changes: object) -> Method:
        return make_method(name, small_fidnet, task, **({"confidence": 0.0} | changes))

    return make


@pytest.mark.parametrize("labelled", ["plain", "strong"])
def test_losses_are_finite_scalars_and_train_the_networks(labelled: str, make: Make) -> None:
    method = make({"labelled": labelled})
    losses = method(make_batch(), make_context())
    assert all(v.dim() == 0 and torch.isfinite(v) for v in losses.values())
    total(losses).backward()
    for network in method.trained_networks():
        assert any(p.grad is not None and p.grad.any() for p in network.parameters())


def test_trained_networks_hold_every_parameter_that_needs_a_gradient(make: Make) -> None:
    method = make()
    trained = {id(p) for network in method.trained_networks() for p in network.parameters()}
    assert trained == {id(p) for p in method.parameters() if p.requires_grad}


def test_what_is_drawn_depends_on_the_generator_alone(make: Make) -> None:
    method = make()
    twin = copy.deepcopy(method)
    a, b = (total(m(make_batch(), make_context(seed=4))) for m in (method, twin))
    other = total(copy.deepcopy(method)(make_batch(), make_context(seed=5)))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_invalid_and_ignored_pixels_change_no_loss(make: Make) -> None:
    method = make()
    batch = make_batch()
    changed = make_batch()
    labels = changed.labelled["labels"]
    labels[~changed.labelled["valid"]] = 2
    a = total(copy.deepcopy(method)(batch, make_context()))
    b = total(copy.deepcopy(method)(changed, make_context()))
    assert torch.equal(a, b)


def test_a_batch_without_a_valid_pixel_is_a_finite_zero(make: Make) -> None:
    batch = make_batch()
    for fields in (batch.labelled, batch.unlabelled):
        assert fields is not None
        fields["valid"].zero_()
        fields["image"].zero_()
    method = make()
    assert float(total(step(method, batch, make_context()))) == 0.0
    state = [*method.state_dict().values(), *(p.grad for p in method.parameters())]
    assert all(torch.isfinite(t).all() for t in state if t is not None)


def unsupervised(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: loss for name, loss in losses.items() if "supervised" not in name}


def test_the_unsupervised_loss_trains_the_student_and_its_weight_scales_it(
    name: str, make: Make
) -> None:
    if not METHODS[name].uses_unlabelled:
        pytest.skip("no unsupervised part")
    method = make()
    losses = unsupervised(method(make_batch(), make_context()))
    total(losses).backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
    for weight in (0.0, 0.5):
        own = unsupervised(make(weight=weight)(make_batch(), make_context()))
        default = method.settings.weight
        for term, loss in losses.items():
            torch.testing.assert_close(own[term] * default, loss * weight, msg=term)


# With labelled pixels in the same term, or without a threshold.
BEYOND_CONFIDENCE = {
    "lasermix": {"mix", "consistency"}, "frustummix": {"mix", "consistency"},
    "exchange_mix": {"mix"},
}  # fmt: skip


def test_unsure_pseudo_labels_teach_nothing(name: str, make: Make) -> None:
    """A threshold of 1 is above every prediction."""
    if "confidence" not in METHODS[name].Settings.model_fields:
        pytest.skip("no threshold")
    method = make(confidence=1.0)
    step(method, make_batch(), make_context())  # what the first step begins, the second one uses
    losses = unsupervised(method(make_batch(), make_context()))
    left = {term for term, loss in losses.items() if float(loss.detach()) != 0.0}
    assert left == BEYOND_CONFIDENCE.get(name, set())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("labelled", ["plain", "strong"])
def test_a_pixel_keeps_its_label_and_confidence(name: str, labelled: str, seed: int) -> None:
    """Each network reads the truth off each pixel, so that only a wrong target has a loss."""
    if name == "pseudoseg":
        pytest.skip("its labels depend on a window, and it moves no pixel")
    settings = {
        "confidence": 0.9, "confidence_mode": "per_pixel", "loss": "cross_entropy",
        "feature_dropout": 0.0, "paste_probability": 1.0,
    }  # fmt: skip
    task = {"labelled": labelled, "perturbation": NO_PERTURBATION}
    method = make_method(name, Oracle, task, **settings)
    losses = method(readable(make_batch(seed)), make_context(seed=seed))
    for term, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6), term


def test_only_valid_pixels_are_learnt(name: str) -> None:
    """After perturbing and mixing, too: the last channel says which pixels are valid."""
    method = make_method(name, three_layers, confidence=0.0)
    networks = [network for network in method.trained_networks() if isinstance(network, Network)]
    forwards = [record(network) for network in networks]
    step(method, make_batch(), make_context())  # what the first step begins, the second one uses
    for recorded in forwards:
        recorded.clear()
    losses = method(make_batch(), make_context())
    learnt = [f for recorded in forwards for f in recorded if f.learning]
    assert learnt
    for forward in learnt:
        forward.embedding.retain_grad()
    total(losses).backward()
    for forward in learnt:
        valid = forward.image[:, -1:] != 0
        assert (~valid).any()
        assert forward.embedding.grad is not None
        assert forward.embedding.grad.any()
        assert not (forward.embedding.grad * ~valid).any()


def test_who_predicts_pseudo_labels_is_in_eval_mode(make: Make) -> None:
    """And so leaves the running statistics alone."""
    method = make()
    modes = set()

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        modes.add((torch.is_grad_enabled(), layer.training))

    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(note)
    method(make_batch(), make_context())
    assert modes <= {(True, True), (False, False)}
    assert all(m.training for network in method.trained_networks() for m in network.modules())


def test_a_teacher_gets_no_gradient_and_stays_in_eval_mode(make: Make) -> None:
    method = make()
    if not isinstance(method, TeacherMethod):
        pytest.skip("no teacher")
    total(method(make_batch(), make_context())).backward()
    assert not any(p.requires_grad for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not any(m.training for m in method.teacher.modules())
    assert any(m.training for m in method.student.modules())


@pytest.mark.parametrize("asked", [False, True])
def test_pseudo_labels_carry_class_weights_only_if_asked(
    name: str, asked: bool, make: Make
) -> None:
    if not METHODS[name].uses_unlabelled:
        pytest.skip("no pseudo-labels")
    settings = {"pseudo_label_weights": "class_weights" if asked else "none"}
    settings |= {"loss": "cross_entropy"}
    even, uneven = (
        make({"class_weights": torch.tensor(weights)}, **settings)
        for weights in ([1.0, 1.0, 1.0, 1.0], [5.0, 1.0, 1.0, 0.2])
    )
    changed = set()
    for number in (90, 91):  # what the first step begins, the second one uses
        a, b = (step(method, make_batch(), make_context(number)) for method in (even, uneven))
        changed |= {k for k in a if not torch.isclose(a[k], b[k], rtol=1e-3)}
    truth = {k for k in a if "supervised" in k and not k.endswith("windows")}
    assert truth <= changed
    assert bool({k for k in changed if "supervised" not in k}) == asked


def test_bfloat16_trains(make: Make) -> None:
    method = make()
    for number in (90, 91):  # what the first step begins, the second one uses
        with autocast(torch.device("cpu"), "bfloat16"):
            assert torch.is_autocast_enabled("cpu")
            assert not torch.is_autocast_cache_enabled()
            losses = method(make_batch(), make_context(number))
        assert all(torch.isfinite(v) for v in losses.values())
        method.zero_grad()
        total(losses).backward()
        learnt = [p for p in method.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learnt)
        method.after_batch()
        method.after_step(make_context(number))


def train_steps(method: Method, steps: range) -> None:
    for number in steps:
        step(method, make_batch(number), make_context(number, 8, seed=number))
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad


@pytest.mark.slow
def test_a_resumed_training_goes_on_bit_for_bit(make: Make) -> None:
    settings = {"ramp_start": 0.25, "ramp_length": 0.25}
    through, stopped, resumed = (make(**settings) for _ in range(3))
    train_steps(through, range(6))
    train_steps(stopped, range(4))
    resumed.load_state_dict(stopped.state_dict())
    train_steps(resumed, range(4, 6))
    expected = through.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.state_dict().items())


def test_it_learns_a_tiny_set(name: str) -> None:
    """Classes that are plain to see in the image: each method ends far above chance."""
    batch = make_batch(scans=4)
    for fields in (batch.labelled, batch.unlabelled):
        assert fields is not None
        truth = torch.arange(4)[:, None, None] + torch.arange(16)[None, :, None] // 4
        truth = (truth % CLASSES).expand(4, 16, 32)
        fields["image"][:, 3] = (truth.float() - 1.5) * fields["valid"]
        if "labels" in fields:
            fields["labels"] = torch.where(fields["valid"], truth, 255).to(torch.uint8)
    task = {"perturbation": NO_PERTURBATION}
    method = make_method(name, three_layers, task, ramp_start=0.2, ramp_length=0.2)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for number in range(80):
        step(method, batch, make_context(number, 80, seed=number))
        optimiser.step()
    if isinstance(method, TeacherMethod):  # 80 steps are short for an average over 100
        method.teacher.load_state_dict(method.student.state_dict())
    with torch.no_grad():
        prediction = method.predictor().eval()(batch.labelled["image"]).argmax(1)
    valid = batch.labelled["valid"]
    right = (prediction == batch.labelled["labels"])[valid].float().mean()
    assert float(right) > 0.8  # chance is .25


def test_auxiliary_heads_learn_from_labelled_scans_alone(name: str) -> None:
    method = make_method(name, small_cenet, confidence=0.0)
    losses = method(make_batch(), make_context())
    trained = [(n, p) for n, p in method.named_parameters() if p.requires_grad]
    heads = [p for n, p in trained if "auxiliary_classifiers" in n]
    assert heads
    for supervised in (False, True):
        terms = [v for k, v in losses.items() if ("supervised" in k) == supervised]
        if terms:
            torch.stack(terms).sum().backward(retain_graph=True)
        assert all((p.grad is not None and bool(p.grad.any())) == supervised for p in heads)


def test_the_supervised_term_is_the_sum_over_all_heads_on_the_labelled_scans() -> None:
    method = make_method("supervised", small_cenet)
    batch = make_batch()
    assert batch.unlabelled is not None
    labelled, network = batch.labelled, method.student
    loss, logits = method.supervise(network, labelled, batch.unlabelled["image"])
    features = network.encode(torch.cat([labelled["image"], batch.unlabelled["image"]]))
    main = network.classify(network.decode(features))
    torch.testing.assert_close(torch.cat(logits), main)
    outputs = [main, *network.auxiliary(features)]
    assert len(outputs) == 4
    terms = [method.supervised_loss(o[:3], labelled["labels"], labelled["valid"]) for o in outputs]
    torch.testing.assert_close(loss, sum(terms))


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
# Of 1x1 kernels, whose strides may be written in two ways; a hint on speed that comes now and then.
@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_it_trains_wrapped_for_several_processes(name: str, tmp_path: Path) -> None:
    """The wrapper refuses the step after one in which a parameter had no part in the losses."""
    # Steps without and with the unsupervised loss.
    method = make_method(name, small_cenet, ramp_start=0.5)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(method)
        for number in (10, 11, 90, 91):
            total(wrapped(make_batch(number), make_context(number))).backward()
            method.after_batch()
            method.after_step(make_context(number))
        # As the last owner of the group it would wait for a thread that waits for Python.
        del wrapped
    finally:
        torch.distributed.destroy_process_group()


def test_unknown_method_lists_the_options() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'cutmix'.*cps, cutmix_seg"):
        find_method("cutmix")
