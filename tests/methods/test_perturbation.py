"""The strong view: aligned with the weak one, right in metres."""

import torch

from rangeseg.methods.perturbation import PerturbationSettings, StrongPerturbation

from .conftest import CHANNELS, NO_PERTURBATION, make_batch, make_task

TASK = make_task()


def perturb(settings: PerturbationSettings, seed: int = 0) -> tuple[dict, dict]:
    weak = make_batch().labelled
    perturbation = StrongPerturbation(settings, TASK.channels, TASK.statistics)
    return weak, perturbation(weak, torch.Generator().manual_seed(seed))


def metres(image: torch.Tensor, channel: str) -> torch.Tensor:
    mean, std = TASK.statistics[CHANNELS.index(channel)]
    return image[:, CHANNELS.index(channel)] * std + mean


def test_what_it_knows_of_the_channels_moves_with_it_but_is_no_state() -> None:
    perturbation = StrongPerturbation(NO_PERTURBATION, TASK.channels, TASK.statistics)
    assert perturbation.state_dict() == {}
    assert len([b for b in perturbation.to("meta").buffers() if b.is_meta]) == 2


def test_no_strength_changes_nothing() -> None:
    weak, strong = perturb(NO_PERTURBATION)
    torch.testing.assert_close(strong["image"], weak["image"])
    assert torch.equal(strong["valid"], weak["valid"])


def test_scaling_scales_every_metric_channel_by_one_factor_per_scan() -> None:
    weak, strong = perturb(NO_PERTURBATION.model_copy(update={"scale": 0.05}))
    valid = weak["valid"]
    factors = []
    for channel in ("range", "x", "y", "z"):
        ratio = metres(strong["image"], channel) / metres(weak["image"], channel)
        factors.append(torch.stack([r[v].median() for r, v in zip(ratio, valid, strict=True)]))
    assert ((factors[0] - 1).abs() <= 0.05).all()
    assert len(factors[0].unique()) == len(factors[0])
    for other in factors[1:]:
        torch.testing.assert_close(other, factors[0], rtol=1e-3, atol=1e-3)
    for channel in ("intensity", "valid"):
        torch.testing.assert_close(metres(strong["image"], channel), metres(weak["image"], channel))


def test_jitter_moves_a_point_along_its_ray() -> None:
    weak, strong = perturb(NO_PERTURBATION.model_copy(update={"jitter": 0.01}))
    ratio = [metres(strong["image"], c) / metres(weak["image"], c) for c in ("range", "x", "z")]
    valid = weak["valid"] & (metres(weak["image"], "x").abs() > 1)
    valid &= metres(weak["image"], "z").abs() > 1
    torch.testing.assert_close(ratio[1][valid], ratio[0][valid], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ratio[2][valid], ratio[0][valid], rtol=1e-3, atol=1e-3)
    assert 0.008 < float(ratio[0][valid].std()) < 0.012


def test_dropped_pixels_are_zero_and_invalid_and_invalid_ones_stay_zero() -> None:
    weak, strong = perturb(PerturbationSettings(drop_pixels=0.5))
    assert (strong["valid"] <= weak["valid"]).all()
    assert 0.3 < float(strong["valid"].sum() / weak["valid"].sum()) < 0.99
    assert not (strong["image"] * ~strong["valid"][:, None]).any()


def test_other_fields_are_untouched_and_the_weak_view_too() -> None:
    before = make_batch().labelled
    weak, strong = perturb(PerturbationSettings())
    assert torch.equal(strong["labels"], weak["labels"])
    assert torch.equal(weak["image"], before["image"])
    assert not torch.equal(strong["image"], weak["image"])


def test_the_generator_decides() -> None:
    _, a = perturb(PerturbationSettings(), seed=1)
    _, b = perturb(PerturbationSettings(), seed=1)
    _, c = perturb(PerturbationSettings(), seed=2)
    assert torch.equal(a["image"], b["image"])
    assert not torch.equal(a["image"], c["image"])
