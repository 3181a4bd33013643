"""What each part of RangeMix adds: the method without it, over seeds.

    python -m tests.benchmarks.ablation configs/simulated.yaml --seeds 0 1 2 --out runs/ablation

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

from rangeseg.config import load_config
from rangeseg.engine.comparison import mean_std, paired_gain
from rangeseg.methods import METHODS
from rangeseg.methods.base import StepContext, TrainingBatch
from rangeseg.methods.mixing import Fields, band_mask, cutmix_mask
from rangeseg.methods.rangemix import RangeMix
from rangeseg.runs import plan_run, train_run
from tests.benchmarks.timing import print_table


class Boxes(RangeMix):
    """Mixed by boxes alone."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """A box."""
        return cutmix_mask(shape, generator)


class Bands(RangeMix):
    """Mixed by bands alone."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Bands."""
        return band_mask(shape, generator)


class Whole(RangeMix):
    """Not mixed: the unlabelled and the labelled scans stay whole."""

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Nothing."""
        return torch.zeros(shape, dtype=torch.bool, device=generator.device)


class Strong(RangeMix):
    """Labelled scans are mixed as the supervised loss has them: perturbed, and mixed before."""

    def _truth(self, labelled: Fields) -> Fields:
        """The strong view of labelled scans, drawn anew."""
        return super()._truth(self.labelled_view(labelled, self.generator))

    def forward(self, batch: TrainingBatch, context: StepContext) -> dict[str, Tensor]:
        """With the step's random numbers at hand."""
        self.generator = context.generator
        return super().forward(batch, context)


class Truth(RangeMix):
    """No pseudo-label is learnt: the unlabelled scans are the surroundings of labelled pixels."""

    def _pseudo_labelled(self, unlabelled: Fields) -> Fields:
        """Unlabelled scans, sure of nothing."""
        fields = super()._pseudo_labelled(unlabelled)
        return {**fields, "sure": torch.zeros_like(fields["sure"])}


FULL = "all of it"
VARIANTS: dict[str, tuple[type[RangeMix], dict[str, Any]]] = {
    FULL: (RangeMix, {}),
    "labelled scans mixed as perturbed": (Strong, {}),
    "boxes only": (Boxes, {}),
    "bands only": (Bands, {}),
    "nothing mixed": (Whole, {}),
    "without whole scans": (RangeMix, {"feature_weight": 0.0}),
    "whole scans with all features": (RangeMix, {"feature_dropout": 0.0}),
    "every pseudo-label": (RangeMix, {"confidence": 0.0}),
    "no pseudo-label": (Truth, {}),
}


def main() -> int:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ablation")
    parser.add_argument("config", type=Path)
    parser.add_argument("--labels", default="1%")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, float]] = {name: {} for name in VARIANTS}
    for seed in arguments.seeds:
        for name in VARIANTS:
            found[name][seed] = _miou(name, seed, arguments)
    print_table([_row(name, values, found[FULL]) for name, values in found.items()])
    return 0


def _miou(name: str, seed: int, arguments: argparse.Namespace) -> float:
    """Point mIoU of a variant in per cent; it is trained if need be."""
    folder = arguments.out / name.replace(" ", "_").replace(",", "") / f"seed{seed}"
    if not (folder / "result.json").is_file():
        method, settings = VARIANTS[name]
        changed = [f"methods.rangemix.{key}={value}" for key, value in settings.items()]
        config = load_config(arguments.config, [*arguments.overrides, *changed])
        planned = plan_run(config, "rangemix", arguments.labels, seed)
        METHODS["rangemix"] = method
        train_run(planned, folder, torch.device("cpu"), resume=True)
    miou: float = json.loads((folder / "result.json").read_text())["miou"]["point"]
    return miou


def _row(name: str, values: dict[int, float], full: dict[int, float]) -> dict[str, str]:
    gain = None if name == FULL else paired_gain(values, full)
    return {
        "rangemix": name,
        **{f"seed {seed}": f"{value:.2f}" for seed, value in values.items()},
        "mean": str(mean_std(list(values.values()))),
        "less all of it": "-" if gain is None else str(gain),
    }


if __name__ == "__main__":
    sys.exit(main())
