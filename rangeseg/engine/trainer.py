"""The training loop, the same for every method."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from rangeseg.datasets.range_images import StepSampler, TrainingScans, training_loader
from rangeseg.engine.checkpoint import Identity, load_checkpoint, save_checkpoint
from rangeseg.engine.device import Precision, autocast, to_device
from rangeseg.errors import ConfigError, RangesegError
from rangeseg.geometry.augmentation import AugmentationSettings
from rangeseg.methods.base import Labelled, Method, StepContext, TrainingBatch
from rangeseg.methods.mixing import Fields
from rangeseg.methods.perturbation import PerturbationSettings
from rangeseg.progress import Progress
from rangeseg.settings import Settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
CHECKPOINT = "last.pt"


class TrainSettings(Settings):
    """How a method is trained."""

    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=4, ge=2)  # labelled scans a step, and as many unlabelled
    learning_rate: float = Field(default=5e-3, gt=0)  # the peak of OneCycle
    weight_decay: float = Field(default=1e-2, ge=0)
    warm_up: float = Field(default=0.3, gt=0, lt=1)  # share of the steps before the peak
    clip_norm: float = Field(default=1.0, gt=0)  # largest norm of the gradient, per network
    labelled: Labelled = "strong"  # perturbation and mixing among labelled scans, or not
    class_weights: Literal["sqrt_inverse_frequency", "none"] = "sqrt_inverse_frequency"
    lovasz_weight: float = Field(default=0.0, ge=0)
    boundary_weight: float = Field(default=0.0, ge=0)
    precision: Precision = "auto"
    workers: int = Field(default=0, ge=0)  # processes that load scans
    save_every: int = Field(default=200, ge=1)  # steps
    log_every: int = Field(default=20, ge=1)  # steps
    tensorboard: bool = False  # curves beside metrics.jsonl, in the run's folder tensorboard/
    augmentation: AugmentationSettings = AugmentationSettings()
    perturbation: PerturbationSettings = PerturbationSettings()


def training_seconds(run: Path) -> float | None:
    """How long a run has trained, interruptions left out; None if its metrics are lost."""
    try:
        return float(json.loads((run / METRICS).read_text().splitlines()[-1])["seconds"])
    except (OSError, ValueError, LookupError):
        return None


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM, after the checkpoint was written."""


def class_weights(frequencies: Tensor) -> Tensor:
    """Weights of the cross-entropy: 1/sqrt(frequency), 1 on average over the classes that occur.

    Args:
        frequencies: (K,) share of each class among the labelled points.

    Returns:
        (K,) float32; a class that does not occur gets the largest weight of those that do.
    """
    present = frequencies > 0
    weights = frequencies.clamp(min=float(frequencies[present].min())).rsqrt()
    return (weights / weights[present].mean()).float()


def train(
    method: Method[Any],
    scans: TrainingScans,
    labelled: list[str],
    unlabelled: list[str],
    settings: TrainSettings,
    identity: Identity,
    run: Path,
    seed: int,
    device: torch.device,
) -> None:
    """Train a method; writes ``metrics.jsonl`` and ``last.pt`` into the run's folder.

    Where there is a ``last.pt``, the training goes on from it.

    Args:
        method: what is trained.
        scans: where samples come from.
        labelled: ids of the labelled scans.
        unlabelled: ids of the scans whose labels are never read.
        settings: how.
        identity: what the checkpoint belongs to.
        run: the folder, which exists.
        seed: of every random draw.
        device: where.

    Raises:
        DataError: a scan cannot be read.
        CheckpointError: ``last.pt`` does not fit.
        RangesegError: the loss is no longer finite.
        Interrupted: on SIGINT or SIGTERM, after saving.
    """
    to_device(method, device).train()
    optimiser = torch.optim.AdamW(
        method.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        settings.learning_rate,
        total_steps=settings.steps,
        # PyTorch divides by the length of the warm-up less one step: keep it off zero.
        pct_start=min(settings.warm_up * (1 + 1e-6), 1.0),
    )
    checkpoint = run / CHECKPOINT
    step = 0
    if checkpoint.is_file():
        step, state = load_checkpoint(checkpoint, identity, method, device)
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])

    def save() -> None:
        state = {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        save_checkpoint(checkpoint, identity, step, method, state)

    unlabelled = unlabelled if method.uses_unlabelled else []
    steps = range(step, settings.steps)
    sampler = StepSampler(labelled, unlabelled, settings.batch_size, seed, steps)
    loader = training_loader(scans, sampler, settings.workers, device.type == "cuda")
    generator = torch.Generator(device)
    networks = [list(n.parameters()) for n in method.trained_networks()]
    title = f"train {identity.method}"
    with (
        _Metrics(run, step, settings.tensorboard) as metrics,
        Progress(title, settings.steps, "step", initial=step) as progress,
        _interruptible() as interrupted,
    ):
        for batch in _batches(loader, device):
            # One seed per step: what is drawn depends on the step alone, as in the sampler.
            generator.manual_seed(seed * 1_000_003 + step)
            context = StepContext(step, settings.steps, generator)
            with autocast(device, settings.precision):
                losses = method(batch, context)
            norms: dict[str, Tensor] = {}
            loss = torch.stack(list(losses.values())).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for number, parameters in enumerate(networks):
                norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                norms[f"gradient_norm_{number}"] = norm
            optimiser.step()
            schedule.step()
            method.after_step(context)
            step += 1

            stop = bool(interrupted)  # looked at once: a signal may come at any moment
            saving = step % settings.save_every == 0 or step == settings.steps or stop
            note = ""
            if saving or step % settings.log_every == 0:  # a loss is looked at before it is saved
                note = metrics.record(step, losses, norms, optimiser.param_groups[0]["lr"])
            progress.update(note=note)
            if saving:
                save()
            if stop:
                break
    if interrupted:
        raise Interrupted(interrupted[0])


def _batches(loader: Any, device: torch.device) -> Iterator[TrainingBatch]:
    """The loader's batches on the device."""
    for loaded in loader:
        if isinstance(loaded, RangesegError):
            raise loaded
        moved: list[Fields] = [
            {name: field.to(device, non_blocking=True) for name, field in fields.items()}
            for fields in loaded
        ]
        for fields in moved:
            fields["image"] = fields["image"].contiguous(memory_format=torch.channels_last)
        yield TrainingBatch(moved[0], moved[1] if len(moved) > 1 else None)


class _Metrics:
    """``metrics.jsonl``: one line each ``log_every`` steps.

    Args:
        run: the run's folder.
        step: steps done; lines of later steps, which will be done again, are taken out.
        tensorboard: write curves too.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool) -> None:
        path, kept = run / METRICS, []
        self._curves = _curves(run / "tensorboard", step) if tensorboard else None
        self._seconds_before = 0.0
        if step > 0 and path.is_file():
            for line in path.read_text().splitlines():
                try:
                    values = json.loads(line)
                except json.JSONDecodeError:  # the line that a kill cut short
                    break
                if values["step"] <= step:
                    kept.append(line)
                    self._seconds_before = values["seconds"]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._started = time.monotonic()

    def record(
        self, step: int, losses: dict[str, Tensor], norms: dict[str, Tensor], rate: float
    ) -> str:
        """Write one line; returns the note for the progress bar."""
        values = {name: float(value.detach()) for name, value in losses.items()}
        total = sum(values.values())
        values |= {name: float(value) for name, value in norms.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise RangesegError(
                    f"{name} became {value} at or before step {step} and was not saved: begin "
                    "again in another --out with a lower train.learning_rate, or with "
                    "train.precision=float32"
                )
        seconds = round(self._seconds_before + time.monotonic() - self._started, 2)
        line = {"step": step, "seconds": seconds, "rate": rate, "loss": total, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._curves is not None:
            for name, value in (("loss", total), ("rate", rate), *values.items()):
                self._curves.add_scalar(name, value, step)
        return f"loss {total:.3f}"

    def __enter__(self) -> _Metrics:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._curves is not None:
            self._curves.close()


def _curves(folder: Path, step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "train.tensorboard needs TensorBoard: pip install 'rangeseg[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=step)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying, so that a step is finished and saved."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
