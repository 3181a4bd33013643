"""The training loop, the same for every method."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from rangeseg.datasets.bad_scans import BadScans
from rangeseg.datasets.batches import (
    TrainingScans,
    naming_dead_loaders,
    read_steps,
    training_loader,
)
from rangeseg.datasets.sampler import StepSampler, batch_seed
from rangeseg.engine.batch_norm import synchronise_batch_norms
from rangeseg.engine.checkpoint import (
    CHECKPOINT,
    Identity,
    find_checkpoint,
    fitting,
    load_checkpoint,
    save_checkpoint,
)
from rangeseg.engine.compiling import CompileMode, compiled, uncompiled
from rangeseg.engine.finite import FiniteCheck
from rangeseg.engine.metrics_log import MetricsLog, Throughput
from rangeseg.engine.optimiser import Optimiser
from rangeseg.engine.validation import Validation
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.methods.base import Labelled, Method, StepContext, TrainingBatch
from rangeseg.methods.losses import ClassWeights, CrossEntropySettings, TermsOn
from rangeseg.methods.mixing import Fields
from rangeseg.methods.perturbation import PerturbationSettings
from rangeseg.models.network import Network
from rangeseg.motion.propagation import TrainPropagation
from rangeseg.settings import Settings
from rangeseg.system.device import (
    Precision,
    autocast,
    channels_last,
    make_deterministic,
    to_device,
)
from rangeseg.system.distributed import (
    all_reduce_max,
    averaging,
    on_rank_zero,
    rank,
    world_size,
    wrap_ddp,
)
from rangeseg.system.process import Interrupted, collected_signals
from rangeseg.system.progress import Progress


class TrainSettings(Settings):
    """Settings of a training."""

    steps: int = Field(default=1000, ge=0)  # 0: weights from `rangeseg import-weights`
    # labelled scans per step, and as many unlabelled; processes share them
    batch_size: int = Field(default=4, ge=2)
    accumulate: int = Field(default=1, ge=1)  # batches per step; their gradients are averaged
    learning_rate: float = Field(default=5e-3, gt=0)  # the peak of OneCycle
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=0.3, gt=0, lt=1)  # share of the steps before the peak
    clip_norm: float = Field(default=1.0, gt=0)  # largest norm of the gradient, per network
    labelled: Labelled = "strong"  # how the student sees labelled scans
    # A run, its last.pt, or a network's state_dict to begin from; None: random weights. Heads are
    # reinitialised if the classes differ, the first layer if the channels do.
    init: Path | None = None
    class_weights: ClassWeights = "sqrt_inverse_frequency"  # `inverse_frequency` is FIDNet's
    cross_entropy: CrossEntropySettings = CrossEntropySettings()  # of the labelled scans
    lovasz_weight: float = Field(default=0.0, ge=0)
    boundary_weight: float = Field(default=0.0, ge=0)
    # Heads with these two terms, if the network has auxiliary heads: FRNet has them only there.
    terms_on: TermsOn = "all_heads"
    precision: Precision = "auto"
    compile: CompileMode = "none"  # mode of torch.compile; slow start, no gain on a CPU
    activation_checkpointing: bool = False  # less GPU memory for more time
    workers: int = Field(default=0, ge=0)  # processes that load scans
    save_every: int = Field(default=200, ge=1)  # steps
    save_minutes: float = Field(default=10.0, gt=0)  # or after this time, if sooner
    log_every: int = Field(default=20, ge=1)  # steps
    # Steps between validations, which only inform and select nothing; 0: never.
    validate_every: int = Field(default=500, ge=0)
    validate_scans: int = Field(default=20, ge=1)  # of the split val, evenly spaced
    # Scans for the final batch-norm statistics; 0 keeps those of the last steps
    precise_batch_norm: int = Field(default=100, ge=0)
    deterministic: bool = False  # exactly repeatable on a GPU too, but slower; a CPU always is
    tensorboard: bool = False  # write curves and pictures to the run's folder tensorboard/
    augmentation: AugmentationSettings = AugmentationSettings()
    perturbation: PerturbationSettings = PerturbationSettings()
    propagation: TrainPropagation = TrainPropagation()

    @model_validator(mode="after")
    def _fits(self) -> TrainSettings:
        if self.steps == 0 and self.init is None:
            raise ValueError("steps must be 1 or more")
        if self.activation_checkpointing and self.compile != "none":
            raise ValueError(
                "activation_checkpointing needs uncompiled networks: set compile: none"
            )
        return self


def train(
    method: Method[Any],
    scans: TrainingScans,
    settings: TrainSettings,
    identity: Identity,
    run: Path,
    seed: int,
    device: torch.device,
    validation: Validation | None,
    finish: Callable[[], None],
) -> None:
    """Train a method; writes ``metrics.jsonl`` and ``last.pt`` into the run's folder.

    A training resumes from an existing checkpoint. Joined processes train one method together.

    Args:
        method: method to train.
        scans: the labelled and unlabelled scans.
        settings: settings of the training.
        identity: identity of the checkpoint.
        run: existing folder of the run.
        seed: seed of every random draw.
        device: device of the training.
        validation: runs every ``validate_every`` steps except after the last one; None for never.
        finish: every process calls it between the last step and its checkpoint.

    Raises:
        DataError: a scan cannot be read and is not to be skipped.
        CheckpointError: the checkpoint does not fit, or the disk is full.
        RangesegError: a loss, gradient or weight is no longer finite.
        LostProcessError: another process ended.
        Interrupted: on SIGINT or SIGTERM, after saving.
    """
    # Move the method to its device, and load the last checkpoint, if any.
    if settings.deterministic:
        make_deterministic()
    synchronise_batch_norms(method, device)
    to_device(method, device).train()
    for network in method.modules():
        if isinstance(network, Network):
            network.activation_checkpointing = settings.activation_checkpointing
    optimiser = Optimiser(
        method, settings.steps, settings.learning_rate, settings.weight_decay, settings.warm_up,
        settings.clip_norm,
    )  # fmt: skip
    step = _resume(run, identity, method, optimiser, device)

    # Load the batches from that step on; processes share each batch.
    reads = range(settings.accumulate * step, settings.accumulate * settings.steps)
    given = list(scans.propagated)
    share = settings.propagation.share_of(len(scans.labelled), len(given))
    sampler = StepSampler(
        scans.labelled, scans.unlabelled, settings.batch_size, seed, reads, (rank(), world_size()),
        given, share,
    )  # fmt: skip
    loader = training_loader(scans, sampler, settings.workers, device.type == "cuda")
    generator = torch.Generator(device)
    model, check, saved, stop = wrap_ddp(method), FiniteCheck(), time.monotonic(), 0
    with (
        naming_dead_loaders(),
        MetricsLog(run, step, settings.tensorboard) as log,
        Progress(f"train {identity.method}", settings.steps, "step", initial=step) as progress,
        compiled(method, settings.compile) as begin_step,
        closing(_batches(loader, scans.bad_scans, log.throughput, device)) as batches,
        collected_signals() as received,
    ):
        while step < settings.steps:
            # Sum the gradients over the batches of this step.
            begin_step()
            context = StepContext(step, settings.steps, generator)
            losses = _accumulate(method, model, batches, context, settings, seed)

            # Update the weights, and then the method's teacher or banks.
            norms = optimiser.step()
            method.after_step(context)
            step += 1
            check.look(step, {**losses, **norms})

            # Validate.
            ended, validated = step == settings.steps, None
            if validation is not None and not ended and step % settings.validate_every == 0:
                check.raise_if_not_finite()  # waits for the GPU: the pause begins after the step
                with log.throughput.paused(), uncompiled(method):
                    validated = validation.run(method)

            # Agree on what is due: a signal or the clock may change at any moment.
            overdue = time.monotonic() - saved > 60 * settings.save_minutes
            stop, due = all_reduce_max(received[0] if received else 0, overdue)
            recording = ended or validated is not None or step % settings.log_every == 0
            saving = ended or stop or due or step % settings.save_every == 0

            # Write the log, and update the progress bar.
            note = ""
            if recording or saving:
                check.raise_if_not_finite()
            if recording:
                note = log.record(step, losses, norms, optimiser.rate, validated)
            progress.update(note=note)

            # Write the checkpoint, after the last step with final batch norms.
            if ended:
                with uncompiled(method):
                    finish()
            if saving and rank() == 0:
                save_checkpoint(run / CHECKPOINT, identity, step, method, optimiser.state_dict())
            if saving:
                saved = time.monotonic()
            if validation is not None and validated is not None and rank() == 0:
                with log.throughput.paused():
                    validation.show()
            if stop:
                break
        # Wait in all processes until the checkpoint exists; a signal may have come meanwhile.
        (stop,) = all_reduce_max(received[0] if received else stop)
    if stop:
        raise Interrupted(stop)


def _resume(
    run: Path,
    identity: Identity,
    method: Method[Any],
    optimiser: Optimiser,
    device: torch.device,
) -> int:
    """Load the last checkpoint, if any; return the finished steps."""
    checkpoint = on_rank_zero(lambda: find_checkpoint(run))
    if checkpoint is None:
        return 0
    step, state = load_checkpoint(checkpoint, identity, method, device)
    with fitting(checkpoint):
        optimiser.load_state_dict(state)
    return step


def _accumulate(
    method: Method[Any],
    model: nn.Module,
    batches: Iterator[TrainingBatch],
    context: StepContext,
    settings: TrainSettings,
    seed: int,
) -> dict[str, Tensor]:
    """Run forward and backward for every batch of a step; return the mean of each loss term."""
    count, parts = settings.accumulate, []
    for part in range(count):
        # One seed per batch determines all its draws, as in the sampler.
        context.generator.manual_seed(batch_seed(seed, count * context.step + part))
        with averaging(model, now=part == count - 1):
            with autocast(context.generator.device, settings.precision):
                terms: dict[str, Tensor] = model(next(batches), context)
            loss = torch.stack(list(terms.values())).sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
        parts.append({name: term.detach() for name, term in terms.items()})
        method.after_batch()
    return {name: torch.stack([p[name] for p in parts]).mean() for name in parts[0]}


def _batches(
    loader: Any, bad_scans: BadScans, throughput: Throughput, device: torch.device
) -> Generator[TrainingBatch, None, None]:
    """Move the loader's batches to the device.

    A GPU copies in a separate queue while it still computes the previous step.
    """
    copies = None
    if device.type == "cuda":
        copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for loaded in throughput.fetch(read_steps(loader, bad_scans), device):
        with torch.cuda.stream(copies):  # None changes nothing
            moved: list[Fields] = [
                {name: field.to(device, non_blocking=True) for name, field in fields.items()}
                for fields in loaded
            ]
            for fields in moved:
                image = fields["image"]
                fields["image"] = image.contiguous(memory_format=channels_last(image))
        if copies is not None:
            computing = torch.cuda.current_stream(device)
            computing.wait_stream(copies)
            for fields in moved:
                for field in fields.values():
                    field.record_stream(computing)  # its memory is in use until then
        yield TrainingBatch(moved[0], moved[1] if len(moved) > 1 else None)
