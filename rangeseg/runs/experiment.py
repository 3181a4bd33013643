"""The parts of a configuration: data set, range images, method, predictor."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from rangeseg.datasets import open_dataset
from rangeseg.datasets.added_points import copied_classes
from rangeseg.datasets.range_images import RangeImages
from rangeseg.datasets.split_files import fingerprint
from rangeseg.datasets.splits import Labels, labelled_and_unlabelled
from rangeseg.deploy.backends import BackendName
from rangeseg.deploy.convert import make_backend
from rangeseg.engine.checkpoint import Identity
from rangeseg.engine.inference import Predictor
from rangeseg.engine.initial_weights import InitialWeights, read_initial_weights
from rangeseg.errors import ConfigError
from rangeseg.geometry.views import make_views
from rangeseg.methods import find_method
from rangeseg.methods.base import Method, Task, UnsupervisedSettings
from rangeseg.methods.losses import class_weights
from rangeseg.models import build_network
from rangeseg.models.averaged import averaged
from rangeseg.models.network import Network
from rangeseg.motion.store import PROPAGATED, PropagatedLabels, plan_propagation
from rangeseg.runs.config import AnyConfig, RunConfig
from rangeseg.system.device import Precision


class Experiment(Generic[AnyConfig]):
    """Everything that a configuration describes; a command makes one and passes it on.

    The configuration of a data set gives ``source`` and ``images``, that of a run all parts.

    Args:
        config: of a data set or of a run.

    Attributes:
        config: the same.
        source: the data set; no scan is read yet.
        images: its range images.
        views: of each scan, whose predictions are averaged.

    Raises:
        ConfigError: no such data set or class, or the sensor allows no such views.
        DataError: its root is not such a data set.
    """

    def __init__(self, config: AnyConfig) -> None:
        dataset = config.dataset
        self.config = config
        self.source = open_dataset(dataset.name, dataset.root, dataset.description)
        self.images = RangeImages(self.source.info, config.range_image)
        self.views = make_views(config.evaluate.tta, self.images.sensor)
        copied_classes(config.train.augmentation, self.source.info.label_map.names)  # checked early

    def scans(
        self: Experiment[RunConfig], labels: Labels | None = None
    ) -> tuple[list[str], list[str]]:
        """The labelled scans of a run, and the unlabelled ones that its method learns from.

        Args:
            labels: in place of ``run.labels``, such as the list in the run's folder.

        Returns:
            Sorted ids of both; no unlabelled ones for a method that does not use them.

        Raises:
            ConfigError: the method needs unlabelled scans, and there are none; or the labels are
                neither a ratio nor a file.
            DataError: the list does not fit the data set.
        """
        run = self.config.run
        labels = labels or run.labels
        labelled, unlabelled = labelled_and_unlabelled(self.source, labels, run.seed)
        if not find_method(run.method).uses_unlabelled:
            return labelled, []
        if self._takes_all():
            unlabelled = self.source.scan_ids("train")
        if not unlabelled:
            raise ConfigError(
                f"{run.method} learns from unlabelled scans, but --labels {labels} leaves none: "
                f"take fewer labels, --method supervised, or methods.{run.method}.pool=all"
            )
        return labelled, unlabelled

    def _takes_all(self: Experiment[RunConfig]) -> bool:
        """Whether the method of the run takes labelled scans as unlabelled ones, too."""
        settings = self.config.method_settings(self.config.run.method)
        return isinstance(settings, UnsupervisedSettings) and settings.pool == "all"

    def propagated(
        self: Experiment[RunConfig], labelled: list[str], run: Path
    ) -> PropagatedLabels | None:
        """The labels that are carried along the poses; None if none is.

        Args:
            labelled: ids of the labelled scans.
            run: the run's folder, which keeps them unless the configuration names another one.

        Raises:
            DataError: there are no usable poses, or no scan is within reach.
        """
        settings = self.config.train.propagation
        if not settings.reach:
            return None
        plan = plan_propagation(self.source, labelled, settings)
        return PropagatedLabels(self.source, plan, settings.folder or run / PROPAGATED)

    def initial_weights(self: Experiment[RunConfig]) -> InitialWeights | None:
        """What ``train.init`` names; None if nothing.

        Raises:
            CheckpointError: it cannot be read, or holds another network.
        """
        config = self.config
        if config.train.init is None:
            return None
        with torch.device("meta"):  # names and shapes
            network = self._network()
        classes, channels = self.source.info.label_map.names, config.range_image.channels
        return read_initial_weights(config.train.init, network, config.model, classes, channels)

    def _network(self) -> Network:
        images = self.images
        return build_network(
            self.config.model, len(images.settings.channels),
            self.source.info.label_map.num_classes, images.sensor.full_turn,
            images.settings.layers,
        )  # fmt: skip

    def method(
        self: Experiment[RunConfig],
        frequencies: np.ndarray | None = None,
        initial: InitialWeights | None = None,
    ) -> Method[Any]:
        """The method with the initial weights that the run's seed gives.

        Args:
            frequencies: (K,) share of each class among the labelled points, for the class weights
                of the loss; None for a method that is not trained.
            initial: replaces random weights of its networks.
        """
        config, info = self.config, self.source.info
        num_classes = info.label_map.num_classes
        weights = torch.ones(num_classes)
        if frequencies is not None:
            weights = class_weights(torch.from_numpy(frequencies), config.train.class_weights)
        task = Task(
            num_classes=num_classes,
            channels=config.range_image.channels,
            statistics=self.images.channel_statistics,
            class_weights=weights,
            labelled=config.train.labelled,
            lovasz_weight=config.train.lovasz_weight,
            boundary_weight=config.train.boundary_weight,
            terms_on=config.train.terms_on,
            cross_entropy=config.train.cross_entropy,
            perturbation=config.train.perturbation,
            full_turn=self.images.sensor.full_turn,
        )

        built = count()

        def network() -> Network:
            network = self._network()
            if initial is not None:
                # The second one of a pair keeps its own head, as in CPS's paper: networks that
                # begin alike see alike and would stay alike.
                initial.put_into(network, with_heads=next(built) == 0)
            return network

        name = config.run.method
        torch.manual_seed(config.run.seed)
        return find_method(name)(network, task, config.method_settings(name))

    @property
    def precision(self: Experiment[RunConfig]) -> Precision:
        """Of predictions.

        A network trained in bfloat16 predicts in it only where the hardware has it, so a run of a
        GPU can be evaluated on any machine.
        """
        trained = self.config.train.precision
        return "auto" if trained == "bfloat16" else trained

    def predictor(
        self: Experiment[RunConfig],
        network: nn.Module,
        device: torch.device,
        backend: BackendName = "torch",
    ) -> Predictor:
        """A trained network with the projection and back-projection of the configuration.

        Args:
            network: in float32; what runs is a copy of it.
            device: where it runs.
            backend: what runs it, not ``auto``.

        Raises:
            ConfigError: see ``make_backend``.
        """
        shape = self.images.shape(len(self.views))
        runs = make_backend(backend, averaged(network, self.views), shape, device, self.precision)
        classes = self.source.info.label_map.num_classes
        return Predictor(runs, self.images, self.config.evaluate, classes)

    def identity(
        self: Experiment[RunConfig],
        labelled: list[str],
        unlabelled: list[str] | None = None,
        propagated: str | None = None,
    ) -> Identity:
        """What a checkpoint of this run belongs to.

        Args:
            labelled: ids of the labelled scans.
            unlabelled: ids of the unlabelled scans it learns from; None where they do not matter.
            propagated: the key of the propagated labels, None where they do not matter.
        """
        return Identity(
            method=self.config.run.method,
            classes=self.source.info.label_map.names,
            labelled=fingerprint(labelled),
            settings=self.config.of_the_weights(),
            unlabelled=None if unlabelled is None else fingerprint(unlabelled),
            propagated=propagated,
        )
