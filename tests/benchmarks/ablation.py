"""What each part of a method adds: the method without it, over seeds.

    python -m tests.benchmarks.ablation configs/simulated.yaml --seeds 0 1 2 --out runs/ablation
    python -m tests.benchmarks.ablation configs/simulated.yaml --method pcr --out runs/ablation

Judged on the validation sequence. A run that is there is not made again, so that two processes may
take other seeds, and a third prints the table; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rangeseg.datasets.splits import parse_labels
from rangeseg.methods import METHODS
from rangeseg.methods.base import Method, StepContext, TrainingBatch
from rangeseg.methods.exchange_mix import ExchangeMix
from rangeseg.methods.mixing import Fields, band_mask, cutmix_mask, mix, partner
from rangeseg.methods.pcr import Pcr
from rangeseg.report.gains import mean_std, paired_gain
from rangeseg.runs.config import load_config
from rangeseg.runs.plan import plan_run
from rangeseg.runs.train import train_run
from tests.benchmarks.timing import print_table


class Boxes(ExchangeMix):
    """Mixed by boxes alone."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """A box."""
        return cutmix_mask(shape, generator)


class Bands(ExchangeMix):
    """Mixed by bands alone."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Bands."""
        return band_mask(shape, generator)


class Whole(ExchangeMix):
    """Not mixed: the unlabelled and the labelled scans stay whole."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Nothing."""
        return torch.zeros(shape, dtype=torch.bool, device=generator.device)


class Strong(ExchangeMix):
    """Labelled scans are mixed as the supervised loss has them: perturbed, and mixed before."""

    def _truth(self, labelled: Fields) -> Fields:
        """The strong view of labelled scans, drawn anew."""
        return super()._truth(self.labelled_view(labelled, self.generator))

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """With the step's random numbers at hand."""
        self.generator = context.generator
        return super().forward(batch, context)


class Truth(ExchangeMix):
    """No pseudo-label is learnt: the unlabelled scans are the surroundings of labelled pixels."""

    def _pseudo_labelled(self, unlabelled: Fields) -> Fields:
        """Unlabelled scans, sure of nothing."""
        fields = super()._pseudo_labelled(unlabelled)
        return {**fields, "sure": torch.zeros_like(fields["sure"])}


class WithoutPrototypes(Pcr):
    """The linear head alone: CutMix-Seg with hard pseudo-labels."""

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """Nothing is learnt from the prototypes."""
        terms = super().forward(batch, context)
        return {name: term * (not name.endswith("_prototype")) for name, term in terms.items()}


class LabelledPartner(Pcr):
    """An unlabelled scan is mixed with a labelled one as it was read, and its truth."""

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """With the step's labelled scans at hand."""
        self.labelled = batch.labelled
        return super().forward(batch, context)

    def _mixed(self, unlabelled: Fields, generator: torch.Generator) -> Fields:
        confidence, pseudo_labels = self.teach(unlabelled["image"]).max(dim=1)
        scans = {**unlabelled, "confidence": confidence, "pseudo_labels": pseudo_labels}
        labels = self.labelled["labels"].long()
        truth = {
            "image": self.labelled["image"],
            "valid": self.labelled["valid"],
            "confidence": torch.ones_like(confidence),
            "pseudo_labels": labels,  # where they are to be ignored, no loss counts them
        }
        mask = cutmix_mask(labels.shape, generator)
        return mix(self.perturb(scans, generator), partner(truth), mask)


FULL = "all of it"
VARIANTS: dict[str, dict[str, tuple[type[Method], dict[str, Any]]]] = {
    "exchange_mix": {
        FULL: (ExchangeMix, {}),
        "labelled scans mixed as perturbed": (Strong, {}),
        "boxes only": (Boxes, {}),
        "bands only": (Bands, {}),
        "nothing mixed": (Whole, {}),
        "without whole scans": (ExchangeMix, {"feature_weight": 0.0}),
        "whole scans with all features": (ExchangeMix, {"feature_dropout": 0.0}),
        "every pseudo-label": (ExchangeMix, {"confidence": 0.0}),
        "no pseudo-label": (Truth, {}),
    },
    "pcr": {
        FULL: (Pcr, {}),
        "without prototypes": (WithoutPrototypes, {}),
        "weight 1": (Pcr, {"weight": 1.0}),
        "weight 1, without prototypes": (WithoutPrototypes, {"weight": 1.0}),
        "mixed with labelled scans": (LabelledPartner, {}),
        "weight 1, mixed with labelled scans": (LabelledPartner, {"weight": 1.0}),
    },
}


def main() -> int:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ablation")
    parser.add_argument("config", type=Path)
    parser.add_argument("--method", choices=sorted(VARIANTS), default="exchange_mix")
    parser.add_argument("--labels", default="1%")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = VARIANTS[arguments.method]
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for seed in arguments.seeds:
        for name in names:
            found[name][seed] = _miou(name, seed, arguments)
    print_table([_row(arguments.method, name, v, found[FULL]) for name, v in found.items()])
    return 0


def _miou(name: str, seed: int, arguments: argparse.Namespace) -> float:
    """Point mIoU of a variant in per cent; it is trained if need be."""
    of, variant = arguments.method, name.replace(" ", "_").replace(",", "")
    folder = arguments.out / of / variant / f"seed{seed}"
    if not (folder / "result.json").is_file():
        method, settings = VARIANTS[of][name]
        changed = [f"methods.{of}.{key}={value}" for key, value in settings.items()]
        config = load_config(arguments.config, [*arguments.overrides, *changed])
        planned = plan_run(config, of, parse_labels(arguments.labels), seed)
        METHODS[of] = method
        train_run(planned, folder, torch.device("cpu"), resume=True)
    miou: float = json.loads((folder / "result.json").read_text())["miou"]["point"]
    return miou


def _row(
    method: str, name: str, values: dict[int, float], full: dict[int, float]
) -> dict[str, str]:
    gain = None if name == FULL else paired_gain(values, full)
    return {
        method: name,
        **{f"seed {seed}": f"{value:.2f}" for seed, value in values.items()},
        "mean": str(mean_std(list(values.values()))),
        "less all of it": "-" if gain is None else str(gain),
    }


if __name__ == "__main__":
    sys.exit(main())
