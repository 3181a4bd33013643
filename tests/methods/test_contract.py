"""What every method must keep, over the dict of methods."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rangeseg.errors import ConfigError
from rangeseg.methods import METHODS, find_method
from rangeseg.methods.base import Method, TeacherMethod, TrainingBatch
from rangeseg.system.device import autocast

from .conftest import (
    CLASSES,
    NO_PERTURBATION,
    make_batch,
    make_context,
    make_task,
    small_cenet,
    small_fidnet,
    three_layers,
)

Make = Callable[..., Method]


def settings_of(name: str, **changes: object):
    known = METHODS[name].Settings.model_fields
    return METHODS[name].Settings(**{k: v for k, v in changes.items() if k in known})


@pytest.fixture(params=sorted(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(name: str) -> Make:
    def make(task: dict | None = None, **changes: object) -> Method:
        torch.manual_seed(1)
        changes = {"confidence": 0.0} | changes
        method = METHODS[name](
            small_fidnet, make_task(**(task or {})), settings_of(name, **changes)
        )
        method.train()
        return method

    return make


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


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
    loss = total(method(batch, make_context()))
    loss.backward()
    assert float(loss.detach()) == 0.0
    method.after_batch()
    method.after_step(make_context())
    state = [*method.state_dict().values(), *(p.grad for p in method.parameters())]
    assert all(torch.isfinite(t).all() for t in state if t is not None)


def test_weight_0_is_supervised_training(name: str, make: Make) -> None:
    """The unsupervised part may share batch norms, so the gradient's source is what is tested."""
    if not METHODS[name].uses_unlabelled:
        pytest.skip("no unsupervised part")
    method = make(weight=0.0)
    losses = method(make_batch(), make_context())
    unsupervised = {k: float(v.detach()) for k, v in losses.items() if "supervised" not in k}
    assert unsupervised
    assert set(unsupervised.values()) == {0.0}


def test_the_unsupervised_gradient_reaches_the_student(name: str, make: Make) -> None:
    if not METHODS[name].uses_unlabelled:
        pytest.skip("no unsupervised part")
    method = make()
    losses = method(make_batch(), make_context())
    unsupervised = [v for k, v in losses.items() if "supervised" not in k]
    torch.stack(unsupervised).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())


def test_a_teacher_gets_no_gradient_and_stays_in_eval_mode(make: Make) -> None:
    method = make()
    if not isinstance(method, TeacherMethod):
        pytest.skip("no teacher")
    total(method(make_batch(), make_context())).backward()
    assert not any(p.requires_grad for p in method.teacher.parameters())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert not any(m.training for m in method.teacher.modules())
    assert any(m.training for m in method.student.modules())


class Readings(TorchDispatchMode):
    """Notes the operations whose result the host must wait for on an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = operation.overloadpacket.__name__
        indices = arguments[1] if name.startswith("index") and len(arguments) > 1 else ()
        indices = indices if isinstance(indices, list) else ()
        if name in ("_local_scalar_dense", "nonzero", "masked_select") or any(
            i is not None and i.dtype == torch.bool for i in indices
        ):
            self.names.append(name)
        return operation(*arguments, **(named or {}))


def test_no_step_waits_for_the_device(make: Make) -> None:
    method, batch, context = make(), make_batch(), make_context()
    with Readings() as readings:
        total(method(batch, context)).backward()
        method.after_batch()
        method.after_step(context)
    assert readings.names == []


def test_what_a_method_holds_moves_with_it(make: Make) -> None:
    """A tensor that is no buffer would be copied to the device, and waited for, at each step."""
    for module in make().modules():
        assert not [name for name, value in vars(module).items() if torch.is_tensor(value)]


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
    for step in (90, 91):  # what the first step begins, the second one uses
        a, b = (method(make_batch(), make_context(step)) for method in (even, uneven))
        changed |= {k for k in a if not torch.isclose(a[k], b[k], rtol=1e-3)}
        for method in (even, uneven):
            method.after_batch()
            method.after_step(make_context(step))
    truth = {k for k in a if "supervised" in k and not k.endswith("windows")}
    assert truth <= changed
    assert bool({k for k in changed if "supervised" not in k}) == asked


def test_every_network_is_in_the_state(name: str, make: Make) -> None:
    method = make()
    torch.manual_seed(99)
    other = METHODS[name](small_fidnet, make_task(), settings_of(name))
    other.load_state_dict(method.state_dict())
    image = make_batch().labelled["image"]
    assert torch.equal(method.predictor().eval()(image), other.predictor().eval()(image))


def test_bfloat16_trains(make: Make) -> None:
    method = make()
    for step in (90, 91):  # what the first step begins, the second one uses
        with autocast(torch.device("cpu"), "bfloat16"):
            assert torch.is_autocast_enabled("cpu")
            assert not torch.is_autocast_cache_enabled()
            losses = method(make_batch(), make_context(step))
        assert all(torch.isfinite(v) for v in losses.values())
        method.zero_grad()
        total(losses).backward()
        learnt = [p for p in method.parameters() if p.requires_grad]
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in learnt)
        method.after_batch()
        method.after_step(make_context(step))


def train_steps(method: Method, steps: range) -> None:
    for step in steps:
        method.zero_grad()
        total(method(make_batch(step), make_context(step, 8, seed=step))).backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter -= 0.05 * parameter.grad
        method.after_batch()
        method.after_step(make_context(step, 8, seed=step))


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
    torch.manual_seed(0)
    task = make_task(perturbation=NO_PERTURBATION)
    method = METHODS[name](three_layers, task, settings_of(name, ramp_start=0.2, ramp_length=0.2))
    method.train()
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for step in range(80):
        loss = total(method(batch, make_context(step, 80, seed=step)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_batch()
        method.after_step(make_context(step, 80))
    if isinstance(method, TeacherMethod):  # 80 steps are short for an average over 100
        method.teacher.load_state_dict(method.student.state_dict())
    with torch.no_grad():
        prediction = method.predictor().eval()(batch.labelled["image"]).argmax(1)
    valid = batch.labelled["valid"]
    right = (prediction == batch.labelled["labels"])[valid].float().mean()
    assert float(right) > 0.8  # chance is .25


def test_auxiliary_heads_learn_from_labelled_scans_alone(name: str) -> None:
    torch.manual_seed(0)
    method = METHODS[name](small_cenet, make_task(), settings_of(name, confidence=0.0)).train()
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
    torch.manual_seed(0)
    method = METHODS["supervised"](small_cenet, make_task(), settings_of("supervised")).train()
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


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
# Of 1x1 kernels, whose strides may be written in two ways; a hint on speed that comes now and then.
@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides:UserWarning")
def test_it_trains_wrapped_for_several_processes(name: str, tmp_path: Path) -> None:
    """The wrapper refuses the step after one in which a parameter had no part in the losses."""
    torch.manual_seed(0)
    settings = settings_of(name, ramp_start=0.5)  # steps without and with the unsupervised loss
    method = METHODS[name](small_cenet, make_task(), settings).train()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(method)
        for step in (10, 11, 90, 91):
            total(wrapped(make_batch(step), make_context(step))).backward()
            method.after_batch()
            method.after_step(make_context(step))
        # As the last owner of the group it would wait for a thread that waits for Python.
        del wrapped
    finally:
        torch.distributed.destroy_process_group()


def test_unknown_method_lists_the_options() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'cutmix'.*cps, cutmix_seg"):
        find_method("cutmix")


def test_unlabelled_fields_are_all_a_method_needs(make: Make) -> None:
    """Nothing of an unlabelled scan but image and valid is there to be used."""
    batch = make_batch()
    assert batch.unlabelled is not None
    assert set(batch.unlabelled) == {"image", "valid"}
    make()(TrainingBatch(batch.labelled, batch.unlabelled), make_context())


def test_networks_are_initialised_apart(network: Callable[[], nn.Module]) -> None:
    method = METHODS["cps"](network, make_task(), settings_of("cps"))
    first, second = method.trained_networks()
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
