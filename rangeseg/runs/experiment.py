"""The parts of a run, built from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from rangeseg.datasets import open_dataset
from rangeseg.datasets.base import ScanSource
from rangeseg.datasets.range_images import RangeImages
from rangeseg.datasets.split_files import fingerprint
from rangeseg.engine.checkpoint import Identity
from rangeseg.engine.inference import Predictor
from rangeseg.engine.trainer import class_weights
from rangeseg.errors import ConfigError
from rangeseg.methods import find_method
from rangeseg.methods.base import Method, Task
from rangeseg.models import build_network
from rangeseg.models.network import Network
from rangeseg.runs.config import Config, RunConfig


def open_source(config: Config) -> ScanSource:
    """The data set of a configuration."""
    dataset = config.dataset
    return open_dataset(dataset.name, dataset.root, dataset.description)


def make_predictor(
    config: Config, source: ScanSource, network: nn.Module, device: torch.device
) -> Predictor:
    """A trained network with the projection and back-projection of its configuration.

    What was trained in bfloat16 predicts in it where the hardware has it: a GPU's run can be looked
    at on any machine.
    """
    return Predictor(
        network,
        RangeImages(source.info, config.range_image),
        config.evaluate,
        source.info.label_map.num_classes,
        device,
        "auto" if config.train.precision == "bfloat16" else config.train.precision,
    )


def build_method(config: RunConfig, source: ScanSource, weights: torch.Tensor) -> Method[Any]:
    """The method of a run with its newly initialised networks.

    Args:
        config: of the run.
        source: the data set.
        weights: (K,) of the cross-entropy.
    """
    task = Task(
        num_classes=source.info.label_map.num_classes,
        channels=config.range_image.channels,
        statistics=RangeImages(source.info, config.range_image).channel_statistics,
        class_weights=weights,
        labelled=config.train.labelled,
        lovasz_weight=config.train.lovasz_weight,
        boundary_weight=config.train.boundary_weight,
        perturbation=config.train.perturbation,
    )

    def network() -> Network:
        return build_network(config.model, len(task.channels), task.num_classes)

    name = config.run.method
    return find_method(name)(network, task, config.method_settings(name))


def build_untrained(
    config: RunConfig, source: ScanSource, unlabelled: Sequence[str], frequencies: np.ndarray
) -> Method[Any]:
    """The method of a run as its training begins: with the weights that its seed gives.

    Args:
        config: of the run.
        source: the data set.
        unlabelled: ids of the unlabelled scans.
        frequencies: (K,) share of each class among the labelled points.

    Raises:
        ConfigError: the method learns from unlabelled scans, and there is none.
    """
    run = config.run
    if find_method(run.method).uses_unlabelled and not unlabelled:
        raise ConfigError(
            f"{run.method} learns from unlabelled scans, but --labels {run.labels} leaves none: "
            "take fewer labels, or --method supervised"
        )
    weights = torch.ones(len(frequencies))
    if config.train.class_weights != "none":
        weights = class_weights(torch.from_numpy(frequencies))
    torch.manual_seed(run.seed)
    return build_method(config, source, weights)


def identity(config: RunConfig, source: ScanSource, labelled: Sequence[str]) -> Identity:
    """What a checkpoint of this run belongs to.

    Args:
        config: of the run.
        source: the data set.
        labelled: ids of the labelled scans.
    """
    return Identity(
        method=config.run.method,
        classes=source.info.label_map.names,
        labelled=fingerprint(labelled),
        settings=config.of_the_weights(),
    )
